"""The module for Kubernetes: a container is a bare pod, named by its UUID.

`names` are the words by which we know what is ours. `client` talks to the API server; `reflector` follows what it
has, and `view` puts that together. `pods` and `podnodes` say what pods and nodes mean to us.
"""
