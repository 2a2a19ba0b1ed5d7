"""What people say of a waiting container reaches whoever waits for it, and the dispatcher acts on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nodemanager.outcome import End, EndKind
from nodemanager.reason import ReasonToken
from nodemanager.testing import Harness, Program


@pytest.fixture
def world() -> Iterator[Harness]:
    with Harness() as harness:
        yield harness


def test_a_hold_is_told_in_the_words_of_who_holds_it(world: Harness) -> None:
    world.kill(world.site)
    request = world.submit()
    uuid = world.request(request)["container_uuid"]
    world.call("containers", "hold", uuid=uuid, body={"reason": "wrong genome"})
    world.start(world.site)
    world.advance(30)
    (reason,) = world.reasons(request)
    assert reason.token is ReasonToken.ON_HOLD
    assert reason.sentence.startswith("it is on hold: wrong genome (root, ")
    world.call("containers", "release", uuid=uuid)
    world.advance(30)
    assert world.container_of(request)["state"] == "Complete"


def test_a_retry_that_need_not_wait_begins_at_once(world: Harness) -> None:
    fails, works = Program(end=End(EndKind.NODE_LOST)), Program()
    world.program = lambda record: fails if record["attempt"] == 1 else works
    request = world.submit()
    world.advance_until(lambda: len(world.attempts(request)) == 2)
    world.advance(2)
    (reason,) = world.reasons(request)
    assert reason.token is ReasonToken.BACKOFF
    world.call("containers", "retry_now", uuid=world.request(request)["container_uuid"])
    # The shortest backoff is 10 s.
    world.advance(5)
    assert [attempt["state"] for attempt in world.attempts(request)] == ["TempFail", "Complete"]
