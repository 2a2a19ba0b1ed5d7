"""How the tests of properties draw their examples."""

import os

from hypothesis import settings

# The same examples each time: a test that fails here fails everywhere. To look for new ones:
# HYPOTHESIS_PROFILE=explore make test
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
