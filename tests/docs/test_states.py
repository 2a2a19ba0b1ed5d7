"""The graphs of states in the documentation are those of the code.

That of nodes is compared in tests/nodes/test_states.py, that of dispatchers in
tests/server/test_core_dispatcher_states.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from nodemanager.model import (
    CONTAINER_TRANSITIONS,
    REQUEST_TRANSITIONS,
    ContainerState,
    DispatcherState,
    RequestState,
)
from tests.docs.pages import DOCS, Block, blocks, graph, table

PAGE = DOCS / "reference" / "states.md"
KINDS: Mapping[str, type[StrEnum]] = {
    "Containers": ContainerState,
    "Container requests": RequestState,
    "Dispatchers": DispatcherState,
}


def of(transitions: Mapping[Any, frozenset[Any]]) -> dict[str, set[str]]:
    return {
        before.value: {s.value for s in after} for before, after in transitions.items() if after
    }


@pytest.mark.parametrize("block", blocks("states") + blocks("states containers"), ids=str)
def test_containers(block: Block) -> None:
    assert graph(block) == of(CONTAINER_TRANSITIONS)


def test_requests() -> None:
    (block,) = blocks("states requests")
    assert graph(block) == of(REQUEST_TRANSITIONS)


@pytest.mark.parametrize("heading", KINDS)
def test_every_state_is_explained(heading: str) -> None:
    assert [row[0] for row in table(PAGE, heading)] == [state.value for state in KINDS[heading]]
