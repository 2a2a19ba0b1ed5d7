"""`--dry-run`: what the daemon would do now, said and not done.

`look` finds out what there is without changing any of it, `forecast` puts that to the functions by which the daemon
decides (pure), and `report` says what came of it.
"""

from nodemanager.dry_run.command import dry_run

__all__ = ["dry_run"]
