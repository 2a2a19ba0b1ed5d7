"""The config file: what can be said in it, and how it becomes one frozen value.

`load(path)` is what everybody else needs; then ``config.arvados.host``, ``config.api.port`` and so on. Every
option is declared once, in `sections` or `nodes`, with its kind, default, range and one sentence; the parser,
the example file, the listing of `--check` and the reference page are made from that. Adding an option means
adding one field there.
"""

from nodemanager.config.kinds import Secret
from nodemanager.config.load import load, parse
from nodemanager.config.nodes import Cloud, CloudCreate, CloudCredentials, CloudList, Size
from nodemanager.config.sections import (
    EMBEDDED,
    Api,
    Arvados,
    Daemon,
    Dispatch,
    Logging,
    Manage,
    Runner,
    Scheduler,
)
from nodemanager.config.tree import Config, Shown, describe

__all__ = [
    "EMBEDDED",
    "Api",
    "Arvados",
    "Cloud",
    "CloudCreate",
    "CloudCredentials",
    "CloudList",
    "Config",
    "Daemon",
    "Dispatch",
    "Logging",
    "Manage",
    "Runner",
    "Scheduler",
    "Secret",
    "Shown",
    "Size",
    "describe",
    "load",
    "parse",
]
