"""`--check --probe`: one real job that looks at the site from a node."""

from nodemanager.probe.site import PROBE_SECONDS, Visit, probe_site

__all__ = ["PROBE_SECONDS", "Visit", "probe_site"]
