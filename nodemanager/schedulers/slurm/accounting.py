"""How jobs ended that the controller has forgotten: from the accounting, or from the completion log.

Both are read by sacct, and one call answers for all names. Job ids start again when a site sets Slurm up anew, so
jobs are found by their names, which are unique for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import Enum

log = logging.getLogger(__name__)

_FIELDS = ("JobID", "State", "ExitCode", "NodeList", "Timelimit", "ReqMem", "JobName")
_LOG_FIELDS = ("JobIDRaw", "State", "ExitCode", "NodeList", "Timelimit", "JobName")
_SINCE = "now-60days"
"""Without it sacct looks no further back than midnight."""


class Source(Enum):
    """Where ended jobs are remembered."""

    ACCOUNTING = "accounting"
    COMPLETION_LOG = "completion log"
    NOWHERE = "nowhere"


def source_of(config: Mapping[str, str]) -> Source:
    """What `scontrol show config` says about it."""
    if config.get("AccountingStorageType") == "accounting_storage/slurmdbd":
        return Source.ACCOUNTING
    if config.get("JobCompType") in ("jobcomp/filetxt", "jobcomp/mysql"):
        return Source.COMPLETION_LOG
    return Source.NOWHERE
