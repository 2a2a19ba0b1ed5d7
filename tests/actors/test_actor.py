"""The base of our actors: unknown messages, failures that are counted and told, fatal errors."""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass
from typing import Any

import pykka
import pytest

from nodemanager.actors.actor import Actor, ChildFailed, UnknownMessage, failure_counts
from nodemanager.actors.fatal import is_fatal, use_exit
from nodemanager.actors.pool import InlinePool
from nodemanager.errors import NodeManagerError


@dataclass(frozen=True)
class Secret:
    token: str


class Parent(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.failures: list[ChildFailed] = []

    def on_receive(self, message: Any) -> list[ChildFailed]:
        match message:
            case ChildFailed():
                self.failures.append(message)
            case "failures":
                pass
            case _:
                super().on_receive(message)
        return self.failures


class Child(Actor):
    """Fails where and how it is told."""

    def __init__(self, where: str = "", error: BaseException | None = None) -> None:
        super().__init__()
        self.where = where
        self.error = error or ValueError("broken")

    def on_start(self) -> None:
        self.fail_in("on_start")

    def on_stop(self) -> None:
        self.fail_in("on_stop")

    def on_failure(self, *_: Any) -> None:
        self.fail_in("on_failure")

    def fail_in(self, where: str) -> None:
        if where in self.where.split():
            raise self.error

    def on_receive(self, message: Any) -> None:
        if isinstance(message, BaseException):
            raise message
        super().on_receive(message)


def test_an_unknown_message_is_an_error_that_does_not_show_it(inline: InlinePool) -> None:
    ref = Parent.start()
    with pytest.raises(UnknownMessage, match=r"Parent .* has no handler for Secret") as error:
        ref.ask(Secret("xyzzy"))
    assert "xyzzy" not in str(error.value)
    assert isinstance(error.value, NodeManagerError)
    ref.tell(Secret("xyzzy"))
    inline.run_until_idle()
    assert not ref.is_alive()


@pytest.mark.parametrize("where", ["on_start", "on_stop", "on_receive", "on_receive on_failure"])
def test_a_failure_anywhere_is_told_to_the_parent_once(
    inline: InlinePool, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = failure_counts().get("Child", 0)
    parent = Parent.start()
    error = ValueError("broken")
    child = Child.start_under(parent, "the-child", where, error)
    if "on_receive" in where:
        child.tell(error)
    if where == "on_stop":
        child.stop(block=False)
    with caplog.at_level(logging.ERROR):
        inline.run_until_idle()
    assert parent.ask("failures") == [ChildFailed("the-child", error, child)]
    assert not child.is_alive()
    assert child not in pykka.ActorRegistry.get_all()
    assert failure_counts()["Child"] == before + len(where.split())
    [record, *_] = caplog.records
    assert record.__dict__["action"] == "actor_failed"
    assert record.__dict__["key"] == "the-child"
    assert record.exc_info is not None


def test_a_failure_without_a_parent_or_after_it_is_only_logged(
    inline: InlinePool, caplog: pytest.LogCaptureFixture
) -> None:
    parent = Parent.start()
    orphans = [Child.start(), Child.start_under(parent, 1)]
    parent.stop()
    for orphan in orphans:
        orphan.tell(ValueError("broken"))
    inline.run_until_idle()
    assert not any(orphan.is_alive() for orphan in orphans)
    assert caplog.text.count("failed: broken") == 2


def test_a_child_that_stops_in_good_order_is_no_failure(inline: InlinePool) -> None:
    parent = Parent.start()
    Child.start_under(parent, 1).stop()
    inline.run_until_idle()
    assert parent.ask("failures") == []


def test_an_exception_that_goes_to_an_asker_is_no_failure(inline: InlinePool) -> None:
    assert inline
    parent = Parent.start()
    child = Child.start_under(parent, 1)
    with pytest.raises(ValueError, match="for you"):
        child.ask(ValueError("for you"))
    assert child.is_alive()
    assert parent.ask("failures") == []


FATAL = [
    MemoryError(),
    OSError(errno.ENOMEM, "out of memory"),
    RuntimeError("can't start new thread"),
]


@pytest.mark.parametrize("error", FATAL, ids=repr)
@pytest.mark.parametrize("how", ["tell", "ask", "on_start"])
def test_a_process_short_of_memory_or_threads_ends(
    inline: InlinePool, error: Exception, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    statuses: list[int] = []
    with use_exit(statuses.append):
        child = Child.start("on_start" if how == "on_start" else "", error)
        if how == "tell":
            child.tell(error)
        if how == "ask":
            with pytest.raises(type(error)):
                child.ask(error)
        inline.run_until_idle()
    assert statuses
    assert set(statuses) == {70}
    assert "the process ends" in caplog.text


def test_other_errors_are_not_fatal() -> None:
    assert not is_fatal(OSError(errno.ENOENT, "no such file"))
    assert not is_fatal(RuntimeError("something else"))
    assert not is_fatal(None)
