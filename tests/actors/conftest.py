"""Where actors run in these tests, and how a test waits for them: always for a condition, with a bound."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pykka
import pytest

from nodemanager.actors.actor import PooledActor
from nodemanager.actors.pool import ActorPool, InlinePool, use_pool

BOUND_SECONDS = 20.0


class IoActor(PooledActor):
    kind = "io"


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + BOUND_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {BOUND_SECONDS} s: {condition}")
        time.sleep(0.001)


@pytest.fixture(name="until")
def until_fixture() -> Callable[[Callable[[], object]], None]:
    return wait_until


@dataclass(frozen=True)
class Stage:
    """A kind of actor, and how to let it come to rest."""

    actor_class: type[pykka.Actor]
    inline: InlinePool | None = None

    def until(self, condition: Callable[[], object]) -> None:
        if self.inline is not None:
            self.inline.run_until_idle()
            assert condition()
        wait_until(condition)


@pytest.fixture
def pool() -> Iterator[ActorPool]:
    with use_pool(pool := ActorPool(size=2, idle_seconds=0.05)):
        yield pool
        pykka.ActorRegistry.stop_all(timeout=BOUND_SECONDS)
    assert pool.close(BOUND_SECONDS)


@pytest.fixture
def inline() -> Iterator[InlinePool]:
    with use_pool(pool := InlinePool()):
        yield pool
        pykka.ActorRegistry.stop_all()


@pytest.fixture(params=["threading", "workers", "io", "inline", "inline-shuffled"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Every kind of actor that has to keep pykka's contract, and pykka's own."""
    if request.param == "threading":
        yield Stage(pykka.ThreadingActor)
        pykka.ActorRegistry.stop_all(timeout=BOUND_SECONDS)
    elif request.param in ("workers", "io"):
        request.getfixturevalue("pool")
        yield Stage(PooledActor if request.param == "workers" else IoActor)
    else:
        with use_pool(pool := InlinePool(seed=7 if request.param == "inline-shuffled" else None)):
            yield Stage(PooledActor, pool)
            pykka.ActorRegistry.stop_all()
