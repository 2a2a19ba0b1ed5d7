"""`--check --probe`: one real job that looks at the site from a node."""

PROBE_SECONDS = 300.0
"""How long its job may take to start and end, unless told otherwise."""
