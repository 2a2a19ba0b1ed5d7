"""The registry's list, replaced: its methods cannot tell, but stopping is not quadratic any more."""

from __future__ import annotations

from typing import Any

import pykka
import pytest

from nodemanager.actors.actor import PooledActor
from nodemanager.actors.pool import InlinePool
from nodemanager.actors.registry import OrderedRefs, speed_up


class One(PooledActor):
    got: list[Any]

    def on_receive(self, message: Any) -> Any:
        return message


class Two(One):
    pass


def test_the_registry_answers_as_before(inline: InlinePool) -> None:
    assert inline
    refs: list[pykka.ActorRef[Any]] = [cls.start() for cls in (One, Two, One)]
    registry = pykka.ActorRegistry
    assert registry.get_all() == refs
    assert registry.get_by_class(One) == refs
    assert registry.get_by_class(Two) == [refs[1]]
    assert registry.get_by_class_name("One") == [refs[0], refs[2]]
    assert registry.get_by_urn(refs[1].actor_urn) is refs[1]
    assert registry.get_by_urn("urn:none") is None
    refs[1].stop()
    assert registry.get_all() == [refs[0], refs[2]]
    registry.unregister(refs[1])
    assert registry.get_all() == [refs[0], refs[2]]


def test_speeding_up_again_keeps_what_is_registered(inline: InlinePool) -> None:
    assert inline
    ref: pykka.ActorRef[Any] = One.start()
    speed_up()
    assert isinstance(pykka.ActorRegistry._actor_refs, OrderedRefs)
    assert pykka.ActorRegistry.get_all() == [ref]


def test_a_list_in_use_is_taken_over(inline: InlinePool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inline
    ref: pykka.ActorRef[Any] = One.start()
    monkeypatch.setattr(pykka.ActorRegistry, "_actor_refs", [ref])
    speed_up()
    assert pykka.ActorRegistry.get_all() == [ref]
    assert isinstance(pykka.ActorRegistry._actor_refs, OrderedRefs)


def test_removing_the_unknown_is_an_error_as_for_a_list(inline: InlinePool) -> None:
    assert inline
    ref: pykka.ActorRef[Any] = One.start()
    refs = OrderedRefs()
    with pytest.raises(ValueError, match="not registered"):
        refs.remove(ref)
    refs.append(ref)
    assert ref in refs
    assert len(refs) == 1
    refs.remove(ref)
    assert list(refs) == []
