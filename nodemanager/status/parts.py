"""What the routes of the management server have in common."""

from __future__ import annotations

from dataclasses import dataclass

from nodemanager.status.access import Access
from nodemanager.status.asking import Asker
from nodemanager.status.settings import ManageSettings


@dataclass(frozen=True, slots=True)
class Parts:
    """One of each per server. All belong to the event loop's thread."""

    settings: ManageSettings
    asker: Asker
    access: Access
