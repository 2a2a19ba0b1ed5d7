"""The module for Kubernetes: a container is a bare pod, named by its UUID.

`names` are the words by which we know what is ours. `client` talks to the API server; `reflector` follows what it
has, and `view` puts that together. `pods` and `podnodes` say what pods and nodes mean to us. `manifest` makes pods of
jobs, `submit` has them made, and `scheduler` is the module itself.
"""

from importlib.util import find_spec

if find_spec("kubernetes") is None:
    raise ImportError(
        "the official client is missing: pip install 'arvados-node-manager[kubernetes]'"
    )
