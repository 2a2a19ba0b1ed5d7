"""What is shown of pods between their making and the moment in which a watch tells of them."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nodemanager.schedulers.kubernetes.picture import Picture, PodPicture
from nodemanager.schedulers.kubernetes.pod import Pod, parse_pod
from nodemanager.schedulers.kubernetes.podnodes import KubeNode, parse_node
from tests.schedulers.kubernetes_objects import node_json, pod_json


def pod(name: str, uid: str, **fields: Any) -> Pod:
    value = pod_json(name=name)
    value["metadata"]["uid"] = uid
    return replace(parse_pod(value), **fields)


class Told:
    """Counts."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def test_only_what_differs_is_told() -> None:
    told = Told()
    picture = PodPicture(told)
    picture.upsert(pod("a", "1"))
    picture.upsert(pod("a", "1", version="2"))
    picture.replace([pod("a", "1", version="3")], 0.0)
    assert told.times == 1
    picture.upsert(pod("a", "1", phase="Running"))
    assert told.times == 2
    picture.replace([], 1.0)
    assert told.times == 3
    picture.remove(pod("a", "1"))
    assert told.times == 3


def test_a_nodes_heartbeat_is_not_told() -> None:
    told = Told()
    picture: Picture[KubeNode] = Picture(told)
    node = parse_node(node_json("n"))
    picture.replace([node], 0.0)
    picture.upsert(replace(node, version="2"))
    assert told.times == 1
    assert [n.version for n in picture.all()] == ["2"]
    picture.upsert(replace(node, unschedulable=True))
    assert told.times == 2
    picture.remove(node)
    picture.remove(node)
    assert told.times == 3
    assert not picture.all()


def test_what_was_made_is_shown_before_anybody_tells_of_it() -> None:
    picture = PodPicture(Told())
    picture.created(pod("a", "1"), 5.0)
    # A list that began before says nothing about it.
    picture.replace([], 4.0)
    assert picture.get("a") == pod("a", "1")
    picture.replace([], 6.0)
    assert picture.get("a") is None


def test_what_has_been_shown_already_is_not_undone_by_its_making() -> None:
    picture = PodPicture(Told())
    picture.upsert(pod("a", "1", phase="Running"))
    picture.created(pod("a", "1"), 5.0)
    assert [p.phase for p in picture.all()] == ["Running"]
    picture.remove(pod("a", "1"))
    assert not picture.all()


def test_one_that_was_made_after_another_of_its_name_is_not_taken_for_that() -> None:
    picture = PodPicture(Told())
    picture.upsert(pod("a", "1"))
    picture.created(pod("a", "2"), 5.0)
    picture.upsert(pod("a", "1", phase="Failed"))
    picture.remove(pod("a", "1"))
    shown = picture.get("a")
    assert shown is not None
    assert shown.uid == "2"


def test_what_was_forgotten_is_not_shown_any_more() -> None:
    picture = PodPicture(Told())
    picture.upsert(pod("a", "1"))
    picture.forgotten("a", "1", 2.0)
    picture.upsert(pod("a", "1", phase="Failed"))
    picture.replace([pod("a", "1")], 1.0)
    assert not picture.all()
    picture.remove(pod("a", "1"))
    picture.upsert(pod("a", "2"))
    assert [p.uid for p in picture.all()] == ["2"]


class Overlay(RuleBasedStateMachine):
    """A server, a reflector that lags behind it, and us, who make and forget pods."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = PodPicture(Told())
        self.now = 0.0
        self.serial = 0
        self.server: dict[str, Pod] = {}
        self.stream: list[tuple[str, Pod]] = []
        """What the watch has not told yet."""
        self.unanswered: list[Pod] = []
        """Made, and the answer is still under way."""
        self.answered: set[str] = set()
        self.forgotten: set[str] = set()
        self.listing: tuple[float, list[Pod], int] | None = None

    @rule()
    def make(self) -> None:
        self.serial += 1
        made = pod(f"p{self.serial}", str(self.serial))
        self.server[made.name] = made
        self.stream.append(("upsert", made))
        self.unanswered.append(made)

    @precondition(lambda self: self.unanswered)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        made = self.unanswered.pop(data.draw(st.integers(0, len(self.unanswered) - 1)))
        self.now += 1
        self.picture.created(made, self.now)
        self.answered.add(made.name)

    @precondition(lambda self: self.answered & self.server.keys())
    @rule(data=st.data())
    def change(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.answered & self.server.keys())))
        self.server[name] = replace(self.server[name], phase=f"{self.server[name].phase}x")
        self.stream.append(("upsert", self.server[name]))

    @precondition(lambda self: self.answered & self.server.keys())
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.answered & self.server.keys())))
        gone = self.server.pop(name)
        self.stream.append(("remove", gone))
        self.now += 1
        self.picture.forgotten(gone.name, gone.uid, self.now)
        self.forgotten.add(name)

    @precondition(lambda self: self.stream and self.listing is None)
    @rule()
    def tell(self) -> None:
        what, item = self.stream.pop(0)
        if what == "upsert":
            self.picture.upsert(item)
        else:
            self.picture.remove(item)

    @precondition(lambda self: self.listing is None)
    @rule()
    def begin_list(self) -> None:
        self.now += 1
        self.listing = (self.now, list(self.server.values()), len(self.stream))

    @precondition(lambda self: self.listing is not None)
    @rule()
    def show_list(self) -> None:
        assert self.listing is not None
        began, items, untold = self.listing
        # The watch goes on from there: what came before is never told.
        del self.stream[:untold]
        self.listing = None
        self.picture.replace(items, began)

    @invariant()
    def what_we_made_is_shown_until_we_forget_it(self) -> None:
        shown = {p.name for p in self.picture.all()}
        assert (self.answered & self.server.keys()) <= shown
        assert not shown & self.forgotten

    def teardown(self) -> None:
        if self.listing is not None:
            self.show_list()
        while self.stream:
            self.tell()
        self.now += 1
        self.picture.replace(list(self.server.values()), self.now)
        assert {p.name: p for p in self.picture.all()} == self.server


TestOverlay = Overlay.TestCase
