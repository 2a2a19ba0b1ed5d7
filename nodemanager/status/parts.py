"""What the routes of the management server have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from nodemanager.clock import Clock
from nodemanager.status.access import Access
from nodemanager.status.asking import Asker
from nodemanager.status.board import Board
from nodemanager.status.events import Events
from nodemanager.status.look import Source
from nodemanager.status.recorder import Recorder
from nodemanager.status.settings import LiveSettings, ManageSettings


@dataclass(frozen=True, slots=True)
class Parts:
    """One of each per server. All belong to the event loop's thread."""

    settings: LiveSettings
    clock: Clock
    asker: Asker
    access: Access
    recorder: Recorder
    board: Board
    events: Events

    @classmethod
    def around(
        cls, source: Source, settings: ManageSettings, clock: Clock, patience_seconds: float
    ) -> Self:
        """Those of a server that looks at `source`."""
        asker = Asker(source, clock, patience_seconds)
        recorder = Recorder.at_start(asker, clock)
        live = LiveSettings(settings)
        return cls(
            settings=live,
            clock=clock,
            asker=asker,
            access=Access(settings, clock),
            recorder=recorder,
            board=Board(live, asker, recorder),
            events=Events(asker),
        )
