"""Pykka's contract, kept by ThreadingActor and by ours on every pool.

(Pykka's own test suite passes with PooledActor as its runtime, too; these are the points others rely on.)
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Literal

import pykka
import pytest

from nodemanager.actors.actor import PooledActor
from nodemanager.actors.pool import ActorPool

if TYPE_CHECKING:
    from tests.actors.conftest import Stage

BOUND = 20.0


def recorder(base: type[pykka.Actor]) -> type[pykka.Actor]:
    """An actor that notes all that happens to it in a list it is given."""

    class Recorder(base):  # type: ignore[misc, valid-type]
        def __init__(self, events: list[Any]) -> None:
            super().__init__()
            self.events = events
            self.busy = threading.Lock()

        def on_start(self) -> None:
            self.events.append("start")

        def on_stop(self) -> None:
            self.events.append("stop")

        def on_failure(self, *error: Any) -> None:
            self.events.append(("failure", str(error[1])))

        def on_receive(self, message: Any) -> Any:
            assert self.busy.acquire(blocking=False), "two messages at a time"
            try:
                self.events.append(message)
                match message:
                    case "raise":
                        raise ValueError("as told")
                    case "exit":
                        raise SystemExit
                return ("answer", message)
            finally:
                self.busy.release()

        def double(self, number: int) -> int:
            return 2 * number

    return Recorder


@pytest.fixture
def events() -> list[Any]:
    return []


@pytest.fixture
def ref(stage: Stage, events: list[Any]) -> pykka.ActorRef[Any]:
    return recorder(stage.actor_class).start(events)


def test_start_registers_and_runs_on_start(
    stage: Stage, ref: pykka.ActorRef[Any], events: list[Any]
) -> None:
    assert ref in pykka.ActorRegistry.get_all()
    stage.until(lambda: events == ["start"])
    assert ref.is_alive()


def test_tell_keeps_the_order(ref: pykka.ActorRef[Any], events: list[Any]) -> None:
    for number in range(500):
        ref.tell(number)
    ref.ask("last")
    assert events == ["start", *range(500), "last"]


def test_ask_returns_the_answer(ref: pykka.ActorRef[Any]) -> None:
    assert ref.ask("x") == ("answer", "x")
    futures = [ref.ask(n, block=False) for n in range(100)]
    assert pykka.get_all(futures, timeout=BOUND) == [("answer", n) for n in range(100)]


def test_an_exception_goes_to_the_asker_and_the_actor_lives(ref: pykka.ActorRef[Any]) -> None:
    with pytest.raises(ValueError, match="as told"):
        ref.ask("raise")
    assert ref.is_alive()
    assert ref.ask("x") == ("answer", "x")


def test_an_exception_of_a_tell_ends_the_actor_through_on_failure(
    stage: Stage, ref: pykka.ActorRef[Any], events: list[Any]
) -> None:
    ref.tell("raise")
    stage.until(lambda: ("failure", "as told") in events)
    stage.until(lambda: not ref.is_alive())
    assert "stop" not in events
    assert ref not in pykka.ActorRegistry.get_all()
    with pytest.raises(pykka.ActorDeadError):
        ref.tell("x")
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("x")


def test_stop_comes_after_what_was_sent_before(
    stage: Stage, ref: pykka.ActorRef[Any], events: list[Any]
) -> None:
    for number in range(50):
        ref.tell(number)
    assert ref.stop(timeout=BOUND) is True
    # Pykka sets the stopped flag, then calls on_stop, then answers.
    assert events == ["start", *range(50), "stop"]
    assert ref.stop(timeout=BOUND) is False
    stage.until(lambda: ref not in pykka.ActorRegistry.get_all())


def test_what_is_asked_after_a_stop_fails(ref: pykka.ActorRef[Any], events: list[Any]) -> None:
    stop = ref.stop(block=False)
    late = ref.ask("late", block=False)
    assert stop.get(timeout=BOUND) is True
    with pytest.raises(pykka.ActorDeadError):
        late.get(timeout=BOUND)
    assert "late" not in events


def test_an_actor_may_stop_itself(stage: Stage) -> None:
    class Leaver(stage.actor_class):  # type: ignore[name-defined, misc]
        def on_receive(self, message: Any) -> Any:
            self.stop()
            return message

    ref = Leaver.start()
    assert ref.ask("bye") == "bye"
    stage.until(lambda: not ref.is_alive())


def test_a_failing_on_start_ends_the_actor_without_on_failure(
    stage: Stage, events: list[Any]
) -> None:
    class Stillborn(recorder(stage.actor_class)):  # type: ignore[misc]
        def on_start(self) -> None:
            raise ValueError("not today")

    ref = Stillborn.start(events)
    question = ref.ask("x", block=False)
    with pytest.raises(pykka.ActorDeadError):
        question.get(timeout=BOUND)
    assert not ref.is_alive()
    assert events == []


def test_stop_all_is_last_first(stage: Stage) -> None:
    stopped: list[int] = []

    class Numbered(stage.actor_class):  # type: ignore[name-defined, misc]
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

        def on_stop(self) -> None:
            stopped.append(self.number)

    for number in range(5):
        Numbered.start(number)
    assert pykka.ActorRegistry.stop_all(timeout=BOUND) == [True] * 5
    assert stopped == [4, 3, 2, 1, 0]
    assert pykka.ActorRegistry.get_all() == []


def test_a_base_exception_stops_all_actors(
    stage: Stage, ref: pykka.ActorRef[Any], events: list[Any]
) -> None:
    other_events: list[Any] = []
    other = recorder(stage.actor_class).start(other_events)
    ref.tell("exit")
    stage.until(lambda: not ref.is_alive() and not other.is_alive())
    stage.until(lambda: "stop" in events and "stop" in other_events)


def test_proxies_call_read_write_and_defer(ref: pykka.ActorRef[Any], events: list[Any]) -> None:
    proxy = ref.proxy()
    assert proxy.double(21).get(timeout=BOUND) == 42
    proxy.note = "new"
    assert proxy.note.get(timeout=BOUND) == "new"
    proxy.on_receive.defer("deferred")
    assert ref.ask("after") == ("answer", "after")
    assert events[-2:] == ["deferred", "after"]


def test_futures_map_filter_join_and_reduce(ref: pykka.ActorRef[Any]) -> None:
    proxy = ref.proxy()
    futures = [proxy.double(n) for n in range(4)]
    joined = futures[0].join(*futures[1:])
    assert joined.get(timeout=BOUND) == [0, 2, 4, 6]
    assert joined.filter(lambda n: n > 2).map(sum).get(timeout=BOUND) == 10
    assert futures[3].map(str).get(timeout=BOUND) == "6"


def test_a_message_to_itself_before_start_is_kept(stage: Stage) -> None:
    class Eager(stage.actor_class):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.got: list[Any] = []
            self.actor_ref.tell("early")

        def on_receive(self, message: Any) -> Any:
            self.got.append(message)
            return self.got

    assert Eager.start().ask("late") == ["early", "late"]


def test_many_tellers_each_keep_their_order(ref: pykka.ActorRef[Any], events: list[Any]) -> None:
    def tell(teller: int) -> None:
        for number in range(1000):
            ref.tell((teller, number))

    tellers = [threading.Thread(target=tell, args=(teller,)) for teller in range(6)]
    for thread in tellers:
        thread.start()
    for thread in tellers:
        thread.join()
    ref.ask("last")
    for teller in range(6):
        assert [event[1] for event in events if event[0] == teller] == list(range(1000))


@pytest.mark.parametrize("actor_kind", ["workers", "io"])
def test_every_question_is_answered_while_an_actor_stops(
    pool: ActorPool, actor_kind: Literal["workers", "io"]
) -> None:
    """ThreadingActor may leave one for ever that came between its last look and its end."""
    assert pool

    class Kind(PooledActor):
        kind = actor_kind

    for _ in range(50):
        ref = recorder(Kind).start([])
        answers: list[pykka.Future[Any]] = []
        asking = threading.Event()

        def ask(
            ref: pykka.ActorRef[Any] = ref,
            answers: list[pykka.Future[Any]] = answers,
            asking: threading.Event = asking,
        ) -> None:
            for n in range(60):
                answers.append(ref.ask(n, block=False))
                asking.set()

        asker = threading.Thread(target=ask)
        asker.start()
        asking.wait(BOUND)
        ref.stop(block=False)
        asker.join()
        for answer in answers:
            with contextlib.suppress(pykka.ActorDeadError):
                assert answer.get(timeout=BOUND)[0] == "answer"
