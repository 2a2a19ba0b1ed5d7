"""The pool of threads: few, fair, more while some wait, and gone in the end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pykka
import pytest

from nodemanager.actors.actor import Actor
from nodemanager.actors.future import AskCycle, PooledFuture
from nodemanager.actors.pool import (
    ActorPool,
    PoolClosed,
    PoolExhausted,
    blocking,
    current_pool,
    use_pool,
)

BOUND = 20.0

Until = Callable[[Callable[[], object]], None]


class Doer(Actor):
    """Calls what it is sent, with itself."""

    def on_receive(self, message: Any) -> Any:
        return message(self)


class IoDoer(Doer):
    kind = "io"


def test_a_thousand_actors_need_few_threads(pool: ActorPool) -> None:
    refs = [Doer.start() for _ in range(1000)]
    names = set(
        pykka.get_all(
            [ref.ask(lambda _: threading.current_thread().name, block=False) for ref in refs],
            timeout=BOUND,
        )
    )
    assert len(names) <= 2
    assert all(name.startswith("actors-") for name in names)
    assert pool.statistics().workers <= 2


def test_all_threads_are_daemons_so_that_the_process_can_exit(pool: ActorPool) -> None:
    assert Doer.start().ask(lambda _: threading.current_thread().daemon)
    assert IoDoer.start().ask(lambda _: threading.current_thread().daemon)
    assert pool.statistics().io_threads == 1


def test_a_chatty_actor_does_not_starve_the_others(pool: ActorPool) -> None:
    chatter = [Doer.start() for _ in range(2)]
    spoken = [0, 0]
    stop = threading.Event()

    def chat(me: int) -> Callable[[Doer], None]:
        def again(actor: Doer) -> None:
            spoken[me] += 1
            if not stop.is_set():
                actor.actor_ref.tell(again)

        return again

    for me, ref in enumerate(chatter):
        for _ in range(100):
            ref.tell(chat(me))
    quiet = Doer.start()
    # Every worker has an actor that never has an empty inbox; the quiet one is answered all the same.
    for _ in range(50):
        assert quiet.ask(lambda _: "here", timeout=BOUND) == "here"
    stop.set()
    assert min(spoken) > 0
    assert pool.statistics().compensations == 0


def test_workers_that_wait_for_answers_are_made_up_for(pool: ActorPool, until: Until) -> None:
    gate = threading.Event()
    deep = [Doer.start() for _ in range(10)]

    def descend(level: int) -> Callable[[Doer], int]:
        def step(_: Doer) -> int:
            if level == len(deep) - 1:
                gate.wait(BOUND)
                return 1
            answer: int = deep[level + 1].ask(descend(level + 1), block=True)
            return answer + 1

        return step

    answer = deep[0].ask(descend(0), block=False)
    until(lambda: pool.statistics().waiting_workers == 9)
    assert pool.statistics().compensations >= 8
    gate.set()
    assert answer.get(timeout=BOUND) == 10
    until(lambda: pool.statistics().workers <= 2)  # the surplus retired
    assert pool.statistics().waiting_workers == 0


def test_blocking_makes_up_for_slow_io(pool: ActorPool, until: Until) -> None:
    gate = threading.Event()

    def slow(_: Doer) -> None:
        with blocking():
            gate.wait(BOUND)

    for _ in range(5):
        Doer.start().tell(slow)
    until(lambda: pool.statistics().waiting_workers == 5)
    assert Doer.start().ask(lambda _: "still answered", timeout=BOUND) == "still answered"
    gate.set()
    until(lambda: pool.statistics().waiting_workers == 0)


def test_blocking_does_nothing_outside_a_pool() -> None:
    with blocking(), blocking():
        assert True


def test_an_exhausted_pool_says_so_instead_of_hanging(until: Until) -> None:
    pool = ActorPool(size=1, max_workers=3)
    with use_pool(pool):
        chain = [Doer.start() for _ in range(6)]

        def descend(level: int) -> Callable[[Doer], Any]:
            return lambda _: (
                "bottom" if level == 5 else chain[level + 1].ask(descend(level + 1), timeout=BOUND)
            )

        with pytest.raises(PoolExhausted, match="3 workers wait for answers"):
            chain[0].ask(descend(0), timeout=BOUND)
        assert pool.statistics().refused_compensations >= 1
        until(lambda: pool.statistics().waiting_workers == 0)
        assert chain[5].ask(descend(5), timeout=BOUND) == "bottom"
        assert pool.close(BOUND)


def test_who_asks_itself_gets_an_exception_at_once(pool: ActorPool) -> None:
    assert pool
    with pytest.raises(AskCycle, match=r"Doer .* waits for its own end"):
        Doer.start().ask(lambda me: me.actor_ref.ask(lambda _: 1), timeout=BOUND)


def test_a_circle_of_asks_gets_an_exception_at_once(pool: ActorPool) -> None:
    assert pool
    first, second, third = Doer.start(), IoDoer.start(), Doer.start()
    with pytest.raises(AskCycle, match=r"Doer.* -> .*IoDoer"):
        first.ask(
            lambda _: second.ask(lambda _: third.ask(lambda _: first.ask(lambda _: 1))),
            timeout=BOUND,
        )
    # Nobody is left waiting, and the same actors go on.
    assert first.ask(lambda _: second.ask(lambda _: third.ask(lambda _: 3)), timeout=BOUND) == 3


def test_a_blocking_stop_of_itself_is_a_circle(pool: ActorPool) -> None:
    assert pool
    ref = Doer.start()
    with pytest.raises(AskCycle):
        ref.ask(lambda me: me.actor_ref.stop(), timeout=BOUND)


def test_a_wait_that_times_out_leaves_nothing_behind(pool: ActorPool) -> None:
    gate = threading.Event()
    slow, asker = Doer.start(), Doer.start()
    slow.tell(lambda _: gate.wait(BOUND))
    with pytest.raises(pykka.Timeout):
        asker.ask(lambda _: slow.ask(lambda _: 1, timeout=0.01), timeout=BOUND)
    gate.set()
    # The other way round is no circle now.
    assert slow.ask(lambda _: asker.ask(lambda _: 2), timeout=BOUND) == 2
    assert pool.statistics().waiting_workers == 0


def test_an_io_actor_keeps_its_thread_and_ends_it(pool: ActorPool, until: Until) -> None:
    ref = IoDoer.start()
    idents = {ref.ask(lambda _: threading.get_ident(), timeout=BOUND) for _ in range(20)}
    assert len(idents) == 1
    assert IoDoer.start().ask(lambda _: threading.get_ident(), timeout=BOUND) not in idents
    pykka.ActorRegistry.stop_all(timeout=BOUND)
    until(lambda: pool.statistics().io_threads == 0)


def test_a_future_wakes_everybody_who_waits_for_it() -> None:
    future = PooledFuture()
    got: list[Any] = []
    threads = [
        threading.Thread(target=lambda: got.append(future.get(timeout=BOUND))) for _ in "123"
    ]
    for thread in threads:
        thread.start()
    future.set("all")
    for thread in threads:
        thread.join(BOUND)
    assert got == ["all"] * 3


def test_the_pool_survives_what_a_handler_may_throw(pool: ActorPool) -> None:
    class Thrower(Actor):
        def on_start(self) -> None:
            raise KeyboardInterrupt

    thrower = Thrower.start()
    with pytest.raises(pykka.ActorDeadError):
        thrower.ask(1, timeout=BOUND)
    assert Doer.start().ask(lambda _: "fine", timeout=BOUND) == "fine"
    assert pool.statistics().workers <= 2


def test_an_asker_is_told_when_its_message_kills_the_actor(pool: ActorPool) -> None:
    assert pool

    def leave(_: Doer) -> None:
        raise SystemExit

    with pytest.raises(pykka.ActorDeadError):
        Doer.start().ask(leave, timeout=BOUND)


def test_close_handles_what_is_there_then_ends_the_threads() -> None:
    pool = ActorPool(size=2)
    done: list[int] = []
    with use_pool(pool):
        refs = [Doer.start() for _ in range(20)]
        for number, ref in enumerate(refs):
            ref.tell(lambda _, n=number: done.append(n))
        assert pool.close(BOUND) is True
        assert sorted(done) == list(range(20))
        assert not any(ref.is_alive() for ref in refs)
        assert pool.statistics().workers == 0
        with pytest.raises(PoolClosed):
            Doer.start()
    pykka.ActorRegistry.stop_all(timeout=BOUND)


def test_close_names_who_hangs_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    pool = ActorPool(size=2)
    gate = threading.Event()

    class Hanging(Doer):
        pass

    with use_pool(pool):
        hanging = Hanging.start()
        hanging.tell(lambda _: gate.wait(BOUND))
        Doer.start()
        with caplog.at_level(logging.WARNING):
            assert pool.close(0.05) is False
        assert "Hanging" in caplog.text
        assert "did not stop in time" in caplog.text
    gate.set()
    hanging.actor_stopped.wait(BOUND)


def test_a_question_to_an_actor_of_a_closed_pool_is_refused(until: Until) -> None:
    pool = ActorPool(size=1)
    gate = threading.Event()
    with use_pool(pool):
        first, second = Doer.start(), Doer.start()
        first.tell(lambda _: gate.wait(BOUND))
        until(lambda: pool.statistics().ready_actors <= 1)
        pool.close(0.05)
        late = second.ask(lambda _: 1, block=False)
        gate.set()
        with pytest.raises(pykka.ActorDeadError):
            late.get(timeout=BOUND)


def test_use_pool_is_a_setting_and_a_block(pool: ActorPool) -> None:
    inner = ActorPool()
    with use_pool(inner) as used:
        assert used is inner
        assert current_pool() is inner
    assert current_pool() is pool
    setting = use_pool(inner)
    assert current_pool() is inner
    with setting:
        pass
    assert current_pool() is pool
    assert inner.close(BOUND)
