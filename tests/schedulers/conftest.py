"""The suite of the schedulers is shipped, so pytest does not rewrite its assertions by itself."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("nodemanager.schedulers.conformance")
