"""Nodes that a scheduler has to know before their machines exist: each place is given out once, and given back."""

from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from nodemanager.actors.actor import Actor
from nodemanager.model import NodeSize, Resources
from nodemanager.schedulers.actor import SchedulerActor
from nodemanager.schedulers.base import Newcomer
from nodemanager.schedulers.fake import Fault
from nodemanager.schedulers.messages import Admit, Admitted, NotAdmitted, Remove
from nodemanager.testing import Harness


class Ear(Actor):
    """Keeps what it is told."""

    def __init__(self, heard: list[Any]) -> None:
        super().__init__()
        self._heard = heard

    def on_receive(self, message: Any) -> None:
        self._heard.append(message)


class Gate:
    """A scheduler that has defined two nodes, and somebody who asks for them."""

    def __init__(self, world: Harness) -> None:
        self.world = world
        self.cluster, self.scheduler = world.site.cluster, world.site.scheduler
        self.cluster.admits, self.cluster.places = True, ("a", "b")
        self.heard: list[Any] = []
        self._ear = Ear.start(self.heard)
        [self._actor] = pykka.ActorRegistry.get_by_class(SchedulerActor)

    def tell(self, *messages: Admit | Remove) -> list[Any]:
        """In one turn; the answers."""
        self.heard.clear()
        for message in messages:
            self._actor.tell(message)
        self.world.settle()
        return list(self.heard)

    def admit(self, name: str) -> Admit:
        """Somebody who knows of no other."""
        return Admit(Newcomer(name, NodeSize("small", Resources(1, 1), 0.1)), self._ear)

    def close(self) -> None:
        self._ear.stop()


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Harness() as world:
        world.advance(10)
        gate = Gate(world)
        yield gate
        gate.close()


def test_a_name_is_given_out_once_though_those_who_ask_do_not_know_of_each_other(
    gate: Gate,
) -> None:
    answers = gate.tell(*map(gate.admit, ("x", "y", "z")))
    assert answers[:2] == [Admitted("a"), Admitted("b")]
    assert isinstance(answers[2], NotAdmitted)
    assert "none of the nodes that are defined is left" in answers[2].error
    assert gate.tell(Remove("a"), gate.admit("z")) == [Admitted("a")]


def test_a_removal_that_failed_is_repeated(gate: Gate) -> None:
    gate.tell(gate.admit("x"))
    gate.scheduler.faults.upcoming[Fault.REMOVE] = 2
    gate.tell(Remove("a"))
    gate.world.advance(30)
    assert not gate.cluster.admitted
    assert len(gate.scheduler.calls("remove")) == 3


def test_a_removal_that_failed_does_not_hit_the_next_one(gate: Gate) -> None:
    """It is of a node that a former process had admitted."""
    gate.scheduler.faults.upcoming[Fault.REMOVE] = 1
    assert gate.tell(Remove("a"), gate.admit("x")) == [Admitted("b")]
    gate.world.advance(30)
    assert set(gate.cluster.admitted) == {"b"}
    assert gate.tell(gate.admit("y")) == [Admitted("a")]
