"""The pool of the tests: no threads, an order that can be repeated, no waiting for what cannot come."""

from __future__ import annotations

import threading
from typing import Any

import pykka
import pytest

from nodemanager.actors.actor import Actor
from nodemanager.actors.future import AskCycle, PooledFuture
from nodemanager.actors.inline import NeverAnswered, NeverIdle
from nodemanager.actors.pool import InlinePool, use_pool


class Doer(Actor):
    def on_receive(self, message: Any) -> Any:
        return message(self)


class IoDoer(Doer):
    kind = "io"


def interleaving(seed: int | None) -> list[tuple[int, int]]:
    """The order in which three actors handle three messages each."""
    order: list[tuple[int, int]] = []
    with use_pool(pool := InlinePool(seed)):
        refs = [Doer.start() for _ in range(3)]
        for message in range(3):
            for actor, ref in enumerate(refs):
                ref.tell(lambda _, a=actor, m=message: order.append((a, m)))
        pool.run_until_idle()
        pykka.ActorRegistry.stop_all()
    return order


def test_nothing_runs_before_it_is_asked_for(inline: InlinePool) -> None:
    threads: list[threading.Thread] = []
    ref = IoDoer.start()
    ref.tell(lambda _: threads.append(threading.current_thread()))
    assert not threads
    assert not inline.idle
    assert inline.run_until_idle() > 0
    assert threads == [threading.current_thread()]
    assert inline.idle


def test_without_a_seed_turns_are_in_order() -> None:
    assert interleaving(None) == [(actor, message) for message in range(3) for actor in range(3)]


def test_a_seed_explores_an_interleaving_that_can_be_repeated() -> None:
    orders = {seed: interleaving(seed) for seed in range(8)}
    assert all(interleaving(seed) == order for seed, order in orders.items())
    assert len({tuple(order) for order in orders.values()}) > 4
    for order in orders.values():
        for actor in range(3):
            assert [m for a, m in order if a == actor] == [0, 1, 2]


def test_a_handler_may_wait_for_others(inline: InlinePool) -> None:
    assert inline
    first, second, third = Doer.start(), Doer.start(), IoDoer.start()
    ask = first.ask(lambda _: second.ask(lambda _: third.ask(lambda _: 3)))
    assert ask == 3


def test_two_handlers_that_wait_do_not_get_into_each_others_way(inline: InlinePool) -> None:
    """Were any actor run while one waits, the second could begin to wait for the first, below it."""
    slow, asker, other = Doer.start(), Doer.start(), Doer.start()
    got: list[Any] = []
    asker.tell(lambda _: got.append(slow.ask(lambda _: "slow")))
    other.tell(lambda _: got.append(asker.ask(lambda _: "asker")))
    inline.run_until_idle()
    assert got == ["slow", "asker"]


def test_a_circle_is_found(inline: InlinePool) -> None:
    assert inline
    first, second = Doer.start(), Doer.start()
    with pytest.raises(AskCycle):
        first.ask(lambda _: second.ask(lambda _: first.ask(lambda _: 1)))


def test_waiting_for_what_cannot_come_is_an_error_at_once(inline: InlinePool) -> None:
    assert inline
    future = PooledFuture()
    ref = Doer.start()
    with pytest.raises(NeverAnswered, match="all actors are idle"):
        ref.ask(lambda _: future.get(timeout=60))
    ref.tell(lambda _: future.set("there"))
    other = Doer.start()
    assert other.ask(lambda _: future.get()) == "there"


def test_actors_that_never_come_to_rest_are_named(inline: InlinePool) -> None:
    assert inline

    class Restless(Doer):
        pass

    def again(actor: Doer) -> None:
        actor.actor_ref.tell(again)

    with use_pool(pool := InlinePool(max_steps=500)):
        Restless.start().tell(again)
        Doer.start()
        with pytest.raises(NeverIdle, match="not idle after 500 steps; the busiest are Restless"):
            pool.run_until_idle()


def test_another_thread_may_tell(inline: InlinePool) -> None:
    got: list[int] = []
    ref = Doer.start()
    thread = threading.Thread(target=lambda: ref.tell(lambda _: got.append(1)))
    thread.start()
    thread.join()
    inline.run_until_idle()
    assert got == [1]
