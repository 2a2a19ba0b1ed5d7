"""The desk and the hands of a cloud: what is asked when, and what is made of the answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from nodemanager.actors.driver import advance, settle
from nodemanager.actors.inline import InlinePool
from nodemanager.actors.lease import ActUntil
from nodemanager.actors.pool import use_pool
from nodemanager.actors.timer import TimerActor
from nodemanager.clock import ManualClock
from nodemanager.clouds.actor import CloudActor, CloudPace, Hands
from nodemanager.clouds.base import CLUSTER_TAG, CloudContext, CloudNode, CloudState, NodeOrder
from nodemanager.clouds.errors import CloudError, Denied, Gone, NoCapacity, QuotaExceeded
from nodemanager.clouds.fake import FakeCloud, FakeMachine, FakeSky, Fate, SkyFault
from nodemanager.clouds.hand import CloudHand
from nodemanager.clouds.messages import (
    CloudCounts,
    CloudSilent,
    CloudView,
    Created,
    CreateFailed,
    CreateNode,
    Destroyed,
    DestroyFailed,
    DestroyNode,
    FollowCloud,
    Forgo,
    Forgone,
    GetCloudCounts,
    Ref,
    TagNode,
)
from nodemanager.model import NodeSize, Resources
from tests.nodes.bench import Ear

SIZE = NodeSize("small", Resources(2, 4 << 30), 0.1)
OLD = CloudNode("i-9", "old", "small", CloudState.RUNNING)
"""A machine that went long ago."""
FOR_EVER = 1e9


class Desk:
    """A cloud actor with its hands over a pretended cloud. What it answers is in `answers` and `views`."""

    cloud_class: type[FakeCloud] = FakeCloud

    def __init__(self, pace: CloudPace, *, hands: int = 1, unpaced: bool = True) -> None:
        self.clock = ManualClock()
        self.clock.advance(1000)
        self.began = self.clock.elapsed()
        self.pool = InlinePool()
        self._using = use_pool(self.pool)
        self.timer = TimerActor.start(self.clock)
        self.sky = FakeSky(self.clock)
        self.answers: list[Any] = []
        self.views: list[Any] = []
        self._answers = Ear.start(self.answers)
        self._views = Ear.start(self.views)
        self.actor = CloudActor.start(pace, self.timer, self.clock, unpaced=unpaced)
        context = CloudContext("zzzzz", Path("/nonexistent"))
        self._hands = [
            CloudHand.start(lambda: self.cloud_class(context, self.sky), self.actor, 60.0)
            for _ in range(hands)
        ]

    def begin(self, lease_until: float = FOR_EVER) -> Desk:
        """With a lease, hands, and somebody who wants to know."""
        self.tell(ActUntil(lease_until), FollowCloud(self._views), Hands(self._hands))
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        actors: list[Ref] = [*self._hands, self.actor, self._answers, self._views, self.timer]
        for actor in actors:
            actor.stop(block=False)
        settle(self.pool)
        self._using.__exit__()

    def tell(self, *messages: Any) -> None:
        for message in messages:
            self.actor.tell(message)
        settle(self.pool)

    def create(self, *names: str) -> None:
        tags = {CLUSTER_TAG: "zzzzz"}
        self.tell(*(CreateNode(NodeOrder(name, SIZE, tags), self._answers) for name in names))

    def destroy(self, node: CloudNode) -> None:
        self.tell(DestroyNode(node, self._answers))

    def advance(self, seconds: float) -> None:
        advance(self.clock, self.timer, self.pool, seconds)

    def counts(self) -> CloudCounts:
        counts: CloudCounts = self.actor.ask(GetCloudCounts(), block=True)
        return counts

    @property
    def calls(self) -> list[tuple[float, str]]:
        """What the cloud was asked, and how many seconds after the beginning."""
        return [
            (at - self.began, f"{method} {name}".strip()) for at, method, name in self.sky.journal
        ]

    @property
    def names(self) -> list[str]:
        """The machines there are."""
        return sorted(machine.node.name for machine in self.sky.machines.values())


@pytest.fixture
def desk() -> Iterator[Desk]:
    with Desk(CloudPace(list_seconds=60, max_list_seconds=300)) as desk:
        yield desk


class TestLists:
    def test_at_once_and_at_every_beat(self, desk: Desk) -> None:
        desk.begin().advance(130)
        assert desk.calls == [(0, "list"), (60, "list"), (120, "list")]
        assert [view.asked_at - desk.began for view in desk.views] == [0, 60, 120]

    def test_nothing_is_asked_before_somebody_wants_to_know(self, desk: Desk) -> None:
        desk.advance(100)
        assert desk.calls == []

    def test_soon_after_something_was_created_or_destroyed(self, desk: Desk) -> None:
        desk.begin().advance(10)
        desk.create("a")
        desk.advance(20)
        assert desk.calls[1:] == [(10, "create a"), (10.5, "list")]
        desk.destroy(desk.answers[0].node)
        desk.advance(10)
        assert desk.calls[3:] == [(30, "destroy a"), (30.5, "list")]
        assert desk.views[-1].nodes == ()

    def test_a_silent_cloud_is_asked_more_and_more_slowly(self, desk: Desk) -> None:
        desk.sky.upcoming[SkyFault.LIST] = 4
        desk.begin().advance(1200)
        assert [at for at, _ in desk.calls] == [0, 120, 360, 660, 960, 1020, 1080, 1140, 1200]
        assert [type(view) for view in desk.views] == [CloudSilent] * 4 + [CloudView] * 5
        assert {view.since for view in desk.views[:4]} == {desk.began}

    def test_machines_of_other_clusters_are_not_shown(self, desk: Desk) -> None:
        desk.sky.add_foreign("theirs", {CLUSTER_TAG: "xxxxx"})
        desk.sky.add_foreign("nobodys")
        desk.sky.add_foreign("ours", {CLUSTER_TAG: "zzzzz"})
        desk.begin()
        assert [node.name for node in desk.views[0].nodes] == ["ours"]


class TestOrder:
    def test_lists_come_first_then_what_was_made_then_new_ones(self, desk: Desk) -> None:
        desk.create("a", "b")
        desk.destroy(OLD)
        desk.tell(TagNode(OLD, {"a": "b"}))
        desk.begin()
        assert [call for _, call in desk.calls] == [
            *("list", "destroy old", "set_tags old", "create a", "create b")
        ]

    def test_a_budget_holds_for_all_together(self) -> None:
        pace = CloudPace(list_seconds=10, operations_per_second=2)
        with Desk(pace, hands=3, unpaced=False) as desk:
            desk.begin().create(*(f"node{n}" for n in range(40)))
            desk.advance(60)
        at = [seconds for seconds, _ in desk.calls]
        assert len(desk.names) == 40
        for n, begin in enumerate(at):
            for m, end in enumerate(at[n:], start=1):
                assert m <= 2 * (end - begin) + 2 * 2 + 1, (begin, end)
        assert max(at[:41]) <= 21, "and it is used"


class TestRateLimits:
    def test_what_the_cloud_says_is_obeyed(self, desk: Desk) -> None:
        """The old node manager's retry_create: Retry-After 2, then 1."""
        desk.begin().advance(10)
        waits = iter([2.0, 1.0])
        desk.sky.upcoming[SkyFault.RATE] = 2
        desk.sky.retry_after = next(waits)
        desk.create("a", "b")
        desk.sky.retry_after = next(waits)
        desk.advance(10)
        assert [(at, call) for at, call in desk.calls if at >= 10][:4] == [
            (10, "create a"),
            (12, "create a"),
            (13, "create a"),
            (13, "create b"),
        ]
        assert [type(answer) for answer in desk.answers] == [Created, Created]

    def test_nothing_at_all_is_asked_meanwhile(self, desk: Desk) -> None:
        desk.begin().advance(50)
        desk.sky.retry_after = 100.0
        desk.sky.upcoming[SkyFault.RATE] = 1
        desk.create("a")
        desk.destroy(OLD)
        desk.advance(120)
        assert [(at, call) for at, call in desk.calls if at >= 50][:4] == [
            (50, "create a"),
            (150, "list"),
            (150, "destroy old"),
            (150, "create a"),
        ]

    @pytest.mark.parametrize(("said", "waited"), [(0.0, 1.0), (1e9, 3600.0)])
    def test_what_makes_no_sense_is_bounded(self, desk: Desk, said: float, waited: float) -> None:
        desk.begin().advance(10)
        desk.sky.retry_after = said
        desk.sky.upcoming[SkyFault.RATE] = 1
        desk.create("a")
        desk.advance(4000)
        assert [at for at, call in desk.calls if call == "create a"] == [10, 10 + waited]

    def test_without_a_word_it_waits_longer_and_longer(self, desk: Desk) -> None:
        desk.begin().advance(10)
        desk.sky.retry_after = None
        desk.sky.upcoming[SkyFault.RATE] = 12
        desk.advance(1500)
        at = [seconds for seconds, _ in desk.calls if seconds >= 60][:13]
        pauses = [b - a for a, b in itertools.pairwise(at)]
        assert all(0.8 * 2**n <= pause <= 1.2 * 2**n for n, pause in enumerate(pauses[:8]))
        assert all(pause <= 1.2 * 180 for pause in pauses)

    def test_a_list_that_came_too_often_is_no_silence(self, desk: Desk) -> None:
        desk.sky.upcoming[SkyFault.RATE] = 1
        desk.begin().advance(10)
        assert [type(view) for view in desk.views] == [CloudView]


class TestCreating:
    def test_the_answer_is_the_machine(self, desk: Desk) -> None:
        desk.begin().create("a")
        [answer] = desk.answers
        assert answer.node.name == "a"
        assert desk.names == ["a"]

    def test_a_doubtful_create_is_looked_up_by_name(self, desk: Desk) -> None:
        desk.begin()
        desk.sky.upcoming[SkyFault.CREATE_AFTER] = 1
        desk.create("a")
        assert [call for _, call in desk.calls] == ["list", "create a", "list"]
        assert [type(answer) for answer in desk.answers] == [Created]
        assert desk.names == ["a"]

    @pytest.mark.parametrize("fault", [SkyFault.CREATE, SkyFault.BARE])
    def test_one_that_failed_is_looked_up_and_told(self, desk: Desk, fault: SkyFault) -> None:
        desk.begin()
        desk.sky.upcoming[fault] = 1
        desk.create("a")
        assert [call for _, call in desk.calls] == ["list", "create a", "list"]
        [answer] = desk.answers
        assert isinstance(answer, CreateFailed)
        assert type(answer.error) is CloudError

    @pytest.mark.parametrize("fault", [SkyFault.RATE, SkyFault.LIST])
    def test_when_the_list_fails_too_it_is_not_created_twice(
        self, desk: Desk, fault: SkyFault
    ) -> None:
        desk.begin()
        desk.sky.upcoming[SkyFault.CREATE_AFTER] = 1

        def spoil_the_list(_machine: FakeMachine) -> Fate:
            desk.sky.upcoming[fault] = 1
            return Fate()

        desk.sky.fates = spoil_the_list
        desk.create("a")
        desk.advance(300)
        assert desk.names == ["a"]
        [answer] = desk.answers
        assert isinstance(answer, CreateFailed)
        assert [node.name for node in desk.views[-1].nodes] == ["a"], "whoever lists will find it"

    @pytest.mark.parametrize(
        ("prepare", "kind"),
        [
            (lambda sky: setattr(sky, "quota", 0), QuotaExceeded),
            (lambda sky: sky.no_capacity.add("small"), NoCapacity),
            (lambda sky: sky.upcoming.update({SkyFault.DENIED: 1}), Denied),
        ],
    )
    def test_a_clear_refusal_is_not_looked_up(
        self, desk: Desk, prepare: Callable[[FakeSky], None], kind: type[CloudError]
    ) -> None:
        desk.begin()
        prepare(desk.sky)
        desk.create("a")
        assert [call for _, call in desk.calls] == ["list", "create a"]
        assert isinstance(desk.answers[0].error, kind)

    def test_one_that_was_not_begun_is_forgone(self, desk: Desk) -> None:
        desk.begin().advance(10)
        desk.sky.upcoming[SkyFault.RATE] = 1
        desk.create("a", "b")
        desk.tell(Forgo("b"), Forgo("never heard of"))
        desk.advance(10)
        assert desk.answers[0] == Forgone("b")
        assert desk.names == ["a"]

    def test_one_that_was_begun_is_not_forgone(self, desk: Desk) -> None:
        desk.begin().create("a")
        desk.tell(Forgo("a"))
        assert desk.names == ["a"]
        assert [type(answer) for answer in desk.answers] == [Created]


class ForgetfulCloud(FakeCloud):
    def destroy(self, node: CloudNode) -> None:
        super().destroy(node)
        raise Gone(f"there is no {node.name}")


class TestDestroying:
    def test_the_answers(self, desk: Desk) -> None:
        desk.begin().create("a")
        node = desk.answers[0].node
        desk.sky.upcoming[SkyFault.DESTROY] = 1
        desk.destroy(node)
        desk.destroy(node)
        assert [type(answer) for answer in desk.answers[1:]] == [DestroyFailed, Destroyed]
        assert desk.names == []

    def test_one_that_is_gone_already_is_no_error(self, desk: Desk) -> None:
        desk.cloud_class = ForgetfulCloud
        desk.begin().create("a")
        desk.destroy(desk.answers[0].node)
        assert isinstance(desk.answers[-1], Destroyed)


class TestLease:
    def test_without_one_nothing_is_created_or_destroyed_but_lists_go_on(self, desk: Desk) -> None:
        desk.begin(lease_until=desk.began + 100)
        desk.advance(100)
        desk.create("a")
        desk.destroy(OLD)
        desk.advance(100)
        assert [call for _, call in desk.calls] == ["list"] * 4
        desk.tell(ActUntil(FOR_EVER))
        assert [call for _, call in desk.calls][-2:] == ["destroy old", "create a"]

    def test_what_waits_in_the_budget_when_it_ends_waits_on(self) -> None:
        with Desk(CloudPace(operations_per_second=1), unpaced=False) as desk:
            desk.begin(lease_until=desk.began + 5)
            desk.create(*(f"node{n}" for n in range(20)))
            desk.advance(100)
        made = [at for at, call in desk.calls if call.startswith("create")]
        assert 4 <= len(made) < 10
        assert max(made) < 5


class SecondTagsFail(FakeCloud):
    def set_tags(self, node: CloudNode, tags: Mapping[str, str]) -> None:
        if self.sky.calls("set_tags") == 1:
            self.sky.upcoming[SkyFault.TAG] = 1
        super().set_tags(node, tags)


class TestTags:
    def machine(self, desk: Desk) -> CloudNode:
        desk.begin().create("a")
        node: CloudNode = desk.answers[0].node
        return node

    def tags(self, desk: Desk) -> dict[str, str]:
        [machine] = desk.sky.machines.values()
        return {key: value for key, value in machine.node.tags.items() if key != CLUSTER_TAG}

    def test_are_tried_again_until_they_are_set(self, desk: Desk) -> None:
        node = self.machine(desk)
        desk.sky.upcoming[SkyFault.TAG] = 3
        desk.tell(TagNode(node, {"behaviour": "hold"}))
        assert self.tags(desk) == {}
        desk.advance(100)
        assert self.tags(desk) == {"behaviour": "hold"}
        assert sum(call.startswith("set_tags") for _, call in desk.calls) == 4

    def test_a_newer_word_that_fails_is_not_forgotten_when_the_older_is_set(
        self, desk: Desk
    ) -> None:
        desk.cloud_class = SecondTagsFail
        node = self.machine(desk)
        desk.actor.tell(TagNode(node, {"behaviour": "hold"}))
        desk.tell(TagNode(node, {"behaviour": "run"}))
        assert self.tags(desk) == {"behaviour": "hold"}
        desk.advance(100)
        assert self.tags(desk) == {"behaviour": "run"}

    def test_an_older_word_does_not_come_after_a_newer_one(self, desk: Desk) -> None:
        node = self.machine(desk)
        desk.sky.upcoming[SkyFault.TAG] = 1
        desk.tell(TagNode(node, {"behaviour": "hold", "colour": "red"}))
        desk.advance(10)
        desk.tell(TagNode(node, {"behaviour": "run"}))
        desk.advance(100)
        assert self.tags(desk) == {"behaviour": "run", "colour": "red"}
        assert sum(call.startswith("set_tags") for _, call in desk.calls) == 2


def test_calls_and_failures_are_counted(desk: Desk) -> None:
    desk.begin()
    desk.sky.upcoming[SkyFault.CREATE] = 1
    desk.create("a", "b")
    desk.destroy(desk.answers[-1].node)
    assert desk.counts() == CloudCounts(
        list_calls=1, create_calls=2, create_errors=1, destroy_calls=1
    )
