"""What is shown of one look, made once for each, however many read it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from nodemanager.status.answers import json_response
from nodemanager.status.asking import Asker
from nodemanager.status.document import Beside, status_document
from nodemanager.status.groups import MAX_ROWS, Group, group_containers, row_document
from nodemanager.status.health import why_not_ready
from nodemanager.status.history import Flow
from nodemanager.status.look import DaemonLook, shown_time
from nodemanager.status.recorder import Recorder
from nodemanager.status.settings import LiveSettings, ManageSettings

FLOW_SECONDS = 300.0
"""Over how long what was started and ended lately is counted."""


@dataclass(frozen=True, slots=True)
class _Shown:
    look: DaemonLook
    settings: ManageSettings
    groups: tuple[Group, ...]
    status: Response


class Board:
    """Belongs to the event loop's thread."""

    def __init__(self, settings: LiveSettings, asker: Asker, recorder: Recorder) -> None:
        self._settings = settings
        self._asker = asker
        self._recorder = recorder
        self._last: _Shown | None = None
        self._making = asyncio.Lock()

    async def status(self, look: DaemonLook) -> Response:
        """`status.json`."""
        return (await self._shown(look)).status

    async def rows(
        self, look: DaemonLook, group_id: str, offset: int, limit: int
    ) -> dict[str, Any]:
        """Some containers of a group, the most urgent first; raises 404 when there is no such group (any more)."""
        groups = (await self._shown(look)).groups
        found = (group for group in groups if group.id == group_id)
        group = next(found, None)
        if group is None:
            raise HTTPException(404, "no container waits for this reason any more")
        end = offset + min(limit, MAX_ROWS)
        return {
            "taken_at": shown_time(look.taken_at),
            "containers": len(group.members),
            "offset": offset,
            "items": [row_document(member) for member in group.members[offset:end]],
        }

    async def _shown(self, look: DaemonLook) -> _Shown:
        # Whoever comes meanwhile waits for what is being made.
        async with self._making:
            last, settings = self._last, self._settings.now
            if last is None or last.look is not look or last.settings is not settings:
                flow = self._recorder.history.flow(FLOW_SECONDS)
                obstacles = why_not_ready(look, self._asker.pulse(), settings.limits)
                # 100,000 containers take a moment, in which others are served.
                last = await asyncio.to_thread(_make, look, settings, flow, obstacles)
                self._last = last
            return last


def _make(
    look: DaemonLook, settings: ManageSettings, flow: Flow, obstacles: Sequence[str]
) -> _Shown:
    groups = () if look.dispatcher is None else group_containers(look.dispatcher)
    document = status_document(look, settings, Beside(groups, flow, obstacles))
    return _Shown(look, settings, groups, json_response(document))
