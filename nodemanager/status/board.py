"""What is shown of one look, made once for each, however many read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from nodemanager.status.answers import json_response
from nodemanager.status.asking import Asker
from nodemanager.status.document import Beside, status_document
from nodemanager.status.groups import MAX_ROWS, Group, group_containers, row_document
from nodemanager.status.health import why_not_ready
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

    def status(self, look: DaemonLook) -> Response:
        """`status.json`."""
        return self._shown(look).status

    def rows(self, look: DaemonLook, group_id: str, offset: int, limit: int) -> dict[str, Any]:
        """Some containers of a group, the most urgent first; raises 404 when there is no such group (any more)."""
        found = (group for group in self._shown(look).groups if group.id == group_id)
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

    def _shown(self, look: DaemonLook) -> _Shown:
        last, settings = self._last, self._settings.now
        if last is None or last.look is not look or last.settings is not settings:
            status = look.dispatcher
            groups = () if status is None else group_containers(status)
            beside = Beside(
                groups=groups,
                flow=self._recorder.history.flow(FLOW_SECONDS),
                obstacles=why_not_ready(look, self._asker.pulse(), settings.limits),
            )
            document = status_document(look, settings, beside)
            last = self._last = _Shown(look, settings, groups, json_response(document))
        return last
