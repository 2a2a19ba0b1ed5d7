"""What differs between Grid Engine and its relatives, as far as this module is concerned: one table.

All of them descend from Sun's 6.2 and share commands, options, the XML of qstat and qhost, state letters and exit codes.
Only Son of Grid Engine was run with this module; the others' rows are from their published documentation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Records(Enum):
    """How the accounting file is written."""

    COLONS = "fields with colons between"
    JSON = "a JSON object a line"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One of the relatives."""

    name: str
    banner: str
    """A pattern for the first line of `qstat -help`."""
    accounting_name: str = "accounting"
    """The accounting file in the cell's `common` directory."""
    records: Records = Records.COLONS
    ticks_per_second: int = 1
    """The unit of the times in it."""
    ran: bool = False
    """This module was tested against the real thing."""


DIALECTS = (
    Dialect("Son of Grid Engine", r"SGE 8\.", ran=True),
    Dialect("Grid Engine 6.2", r"(SGE|GE) 6\."),
    Dialect("Open Grid Scheduler", r"OGS/GE |OGS "),
    Dialect("Univa Grid Engine", r"UGE ", ticks_per_second=1000),
    Dialect("Altair Grid Engine", r"AGE ", ticks_per_second=1000),
    Dialect(
        "Open Cluster Scheduler",
        r"OCS |GCS ",
        accounting_name="accounting.jsonl",
        records=Records.JSON,
        ticks_per_second=1_000_000,
    ),
)


def dialect_of(banner: str) -> Dialect | None:
    """Who says that of itself in the first line of `qstat -help`; None for a stranger."""
    return next((found for found in DIALECTS if re.match(found.banner, banner)), None)
