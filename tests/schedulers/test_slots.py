"""Which waiting job starts next, and where."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodemanager.model import Resources
from nodemanager.schedulers.slots import Line, Need, Place, shortage

PATIENCE = 60.0


def need(cores: int, *partitions: str, preemptible: bool = False, exclusive: bool = False) -> Need:
    return Need(Resources(cores, 0), partitions, preemptible, exclusive)


def place(node: str, total: int, free: int, *partitions: str, preemptible: bool = False) -> Place:
    return Place(
        node, Resources(total, 0), Resources(free, 0), partitions, preemptible, free == total
    )


class OneNode:
    """A line before a single node of four cores, as `choose` was asked before there were several."""

    def __init__(self) -> None:
        self.line = Line(PATIENCE)

    def add(self, name: str, number: int, priority: int, cores: int) -> None:
        self.line.add(name, number, priority, need(cores))

    def choose(self, free: int, now: float) -> str | None:
        chosen = self.line.choose([place("", 4, free)], now)
        return None if chosen is None else chosen[0]


def test_the_most_urgent_comes_first_then_the_oldest() -> None:
    one = OneNode()
    one.add("a", 1, 5, 1)
    one.add("b", 2, 9, 1)
    one.add("c", 3, 9, 1)
    chosen = []
    while (name := one.choose(4, 0)) is not None:
        chosen.append(name)
        one.line.remove(name)
    assert chosen == ["b", "c", "a"]
    assert len(one.line) == 0


def test_a_new_priority_is_a_new_place() -> None:
    one = OneNode()
    one.add("a", 1, 5, 1)
    one.add("b", 2, 5, 1)
    one.line.prioritise("b", 6)
    assert one.choose(1, 0) == "b"
    one.line.prioritise("b", 4)
    assert one.choose(1, 0) == "a"


def test_small_jobs_pass_a_large_one_only_for_a_while() -> None:
    one = OneNode()
    one.add("large", 1, 0, 4)
    one.add("small", 2, 0, 1)
    assert one.choose(2, 100) == "small"
    assert one.choose(2, 100 + PATIENCE - 1) == "small"
    assert one.choose(2, 100 + PATIENCE) is None
    assert one.choose(4, 100 + PATIENCE) == "large"


def test_a_more_urgent_job_is_not_held_up_by_a_large_one() -> None:
    one = OneNode()
    one.add("large", 1, 0, 4)
    assert one.choose(2, 0) is None
    one.add("urgent", 2, 1, 1)
    assert one.choose(2, PATIENCE + 1) == "urgent"


# Several nodes.


def line_of(*needs: Need) -> Line:
    """Jobs 0, 1, 2, ... of one priority."""
    line = Line(PATIENCE)
    for number, wanted in enumerate(needs):
        line.add(str(number), number, 0, wanted)
    return line


def test_the_fullest_node_that_fits_is_taken() -> None:
    nodes = [place("empty", 4, 4), place("fuller", 8, 2), place("full", 4, 1), place("half", 4, 2)]
    assert line_of(need(2)).choose(nodes, 0) == ("0", "fuller")
    assert line_of(need(1)).choose(nodes, 0) == ("0", "full")
    assert line_of(need(3)).choose(nodes, 0) == ("0", "empty")


def test_an_empty_node_stays_empty_while_another_has_room() -> None:
    nodes = [place("small", 2, 2), place("used", 8, 5)]
    assert line_of(need(1)).choose(nodes, 0) == ("0", "used")


def test_an_empty_node_is_taken_that_is_hardly_too_large() -> None:
    nodes = [place("large", 8, 8), place("small", 2, 2)]
    assert line_of(need(1)).choose(nodes, 0) == ("0", "small")


def test_a_job_stays_in_its_partitions() -> None:
    nodes = [place("a", 1, 1, "alpha"), place("b", 1, 1, "beta", "gamma")]
    assert line_of(need(1, "gamma", "delta")).choose(nodes, 0) == ("0", "b")
    assert line_of(need(1, "delta")).choose(nodes, 0) is None
    assert line_of(need(1)).choose(nodes, 0) == ("0", "a")


def test_a_node_without_partitions_is_in_every_one() -> None:
    assert line_of(need(1, "delta")).choose([place("a", 1, 1)], 0) == ("0", "a")


def test_only_who_bears_it_runs_on_a_preemptible_node() -> None:
    spot = [place("spot", 1, 1, preemptible=True)]
    assert line_of(need(1)).choose(spot, 0) is None
    assert line_of(need(1, preemptible=True)).choose(spot, 0) == ("0", "spot")
    assert line_of(need(1, preemptible=True)).choose([place("a", 1, 1)], 0) == ("0", "a")


def test_who_wants_a_node_to_itself_gets_an_empty_one() -> None:
    nodes = [place("used", 4, 3), place("empty", 8, 8)]
    assert line_of(need(1, exclusive=True)).choose(nodes, 0) == ("0", "empty")
    assert line_of(need(1, exclusive=True)).choose(nodes[:1], 0) is None


def test_a_job_that_no_node_could_hold_holds_up_nobody() -> None:
    """It waits for a node to come, however long, and gets what comes."""
    line = line_of(need(8), need(1))
    nodes = [place("a", 4, 4)]
    assert line.choose(nodes, 0) == ("1", "a")
    assert line.choose(nodes, 10 * PATIENCE) == ("1", "a")
    assert line.choose([*nodes, place("b", 8, 8)], 10 * PATIENCE) == ("0", "b")


def test_its_patience_begins_when_there_is_a_node_to_wait_for() -> None:
    line = line_of(need(4), need(1))
    assert line.choose([place("a", 1, 1)], 0) == ("1", "a")
    nodes = [place("a", 1, 0), place("b", 4, 3)]
    assert line.choose(nodes, 1000) == ("1", "b")
    assert line.choose(nodes, 1000 + PATIENCE - 1) == ("1", "b")
    assert line.choose(nodes, 1000 + PATIENCE) is None


def test_one_node_is_kept_for_it_and_the_others_go_on() -> None:
    """The one that lacks least."""
    line = line_of(need(4), need(1))
    nodes = [place("a", 4, 1), place("b", 4, 3), place("c", 4, 2)]
    line.choose(nodes, 0)
    assert line.choose(nodes, PATIENCE) == ("1", "a")
    assert line.choose([place("a", 4, 0), *nodes[1:]], PATIENCE) == ("1", "c")
    assert line.choose([nodes[1]], PATIENCE) is None
    assert line.choose([place("a", 4, 0), place("b", 4, 4)], PATIENCE) == ("0", "b")


def test_each_set_of_nodes_has_its_own_first_in_line() -> None:
    """Who waits for others' nodes does not stand before those who cannot use them."""
    line = line_of(need(2, "alpha"), need(2, "beta"), need(1))
    nodes = [place("a", 2, 1, "alpha"), place("b", 2, 1, "beta"), place("c", 1, 1, "gamma")]
    assert line.choose(nodes[:2], 0) == ("2", "a")
    assert line.choose(nodes[:2], PATIENCE) is None
    assert line.choose(nodes, PATIENCE) == ("2", "c")


def test_patience_is_counted_for_each_of_them_also_while_all_is_full() -> None:
    line = line_of(need(2, "alpha"), need(2, "beta"), need(1))
    assert line.choose([place("a", 2, 0, "alpha"), place("b", 2, 0, "beta")], 0) is None
    nodes = [place("a", 2, 1, "alpha"), place("b", 2, 1, "beta")]
    assert line.choose(nodes, PATIENCE) is None


def test_the_second_in_line_has_to_wait_for_its_turn() -> None:
    """Its patience counts from when it is the first for some node."""
    line = line_of(need(4), need(3), need(1))
    nodes = [place("a", 4, 2), place("b", 4, 2)]
    assert line.choose(nodes, 0) == ("2", "a")
    assert line.choose(nodes, PATIENCE) == ("2", "b"), "a is kept for the first, b for nobody"
    line.remove("0")
    assert line.choose(nodes, PATIENCE) == ("2", "a")
    assert line.choose(nodes, 2 * PATIENCE) == ("2", "b")


def test_a_node_is_kept_for_who_wants_it_to_itself() -> None:
    line = line_of(need(1, exclusive=True), need(1))
    nodes = [place("a", 4, 2), place("b", 4, 3)]
    line.choose(nodes, 0)
    assert line.choose(nodes, PATIENCE) == ("1", "a")
    assert line.choose(nodes[1:], PATIENCE) is None


def test_a_shortage_names_each_resource_with_numbers() -> None:
    assert shortage(Resources(1, 0), Resources(1, 0)) == ""
    words = shortage(Resources(4, 2 << 30, gpus=1), Resources(-1, 1 << 30))
    assert words == "cores: wants 4 of 0, RAM: wants 2 GiB of 1 GiB, GPUs: wants 1 of 0"


# Whatever comes.

NODES = {"a": (2, ("alpha",), False), "b": (4, ("alpha", "beta"), False), "c": (4, ("beta",), True)}


class Site:
    """Nodes and running jobs, and a clock."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.line = Line(patience)
        self.needs: dict[str, Need] = {}
        self.running: list[tuple[float, str, str]] = []
        self.now = 0.0
        self.started: dict[str, float] = {}

    def add(self, name: str, priority: int, wanted: Need) -> None:
        self.needs[name] = wanted
        self.line.add(name, len(self.needs), priority, wanted)

    def places(self) -> list[Place]:
        found = []
        for node, (cores, partitions, preemptible) in NODES.items():
            held = [self.needs[name] for _, name, where in self.running if where == node]
            free = cores - sum(wanted.resources.cores for wanted in held)
            assert free >= 0, "overbooked"
            alone = any(wanted.exclusive for wanted in held)
            assert not alone or len(held) == 1, "not alone"
            resources = Resources(0 if alone else free, 0)
            found.append(
                Place(node, Resources(cores, 0), resources, partitions, preemptible, not held)
            )
        return found

    def start_all(self, seconds: dict[str, float]) -> None:
        while (chosen := self.line.choose(self.places(), self.now)) is not None:
            name, node = chosen
            wanted, (_, partitions, preemptible) = self.needs[name], NODES[node]
            assert wanted.preemptible or not preemptible
            assert not wanted.partitions or set(wanted.partitions) & set(partitions)
            self.line.remove(name)
            self.started[name] = self.now
            self.running.append((self.now + seconds[name], name, node))

    def next_end(self) -> None:
        self.now, name, node = min(self.running)
        self.running.remove((self.now, name, node))


NEEDS = st.builds(
    Need,
    st.builds(Resources, st.integers(1, 4), st.just(0)),
    st.sampled_from([(), ("alpha",), ("beta",), ("alpha", "beta")]),
    st.booleans(),
    st.booleans(),
)


@given(
    jobs=st.lists(st.tuples(NEEDS, st.integers(0, 3), st.integers(1, 50)), max_size=30),
)
def test_everything_starts_in_the_end_and_nothing_is_overbooked(
    jobs: list[tuple[Need, int, int]],
) -> None:
    site = Site()
    seconds = {}
    for number, (wanted, priority, lasts) in enumerate(jobs):
        seconds[str(number)] = float(lasts)
        site.add(str(number), priority, wanted)
    site.start_all(seconds)
    while len(site.line):
        assert site.running, "nothing runs, and nothing is started"
        site.next_end()
        site.start_all(seconds)
    assert sorted(site.started) == sorted(seconds)


@given(
    wanted=NEEDS.filter(lambda n: n.resources.cores > 1 or n.exclusive),
    stream=st.lists(st.tuples(NEEDS, st.integers(1, 5)), min_size=1, max_size=4),
)
def test_nobody_waits_for_ever_behind_an_endless_stream(
    wanted: Need, stream: list[tuple[Need, int]]
) -> None:
    """However many keep coming, a job starts once those before it did, its patience is over, and a node has
    emptied."""
    longest, patience = 5, 3.0
    site = Site(patience)
    seconds: dict[str, float] = {}

    def arrive() -> None:
        for need_of_it, lasts in stream:
            name = f"s{len(seconds)}"
            seconds[name] = float(lasts)
            site.add(name, 0, need_of_it)

    arrive()
    arrive()
    before = len(site.line)
    seconds["it"] = 1.0
    site.add("it", 0, wanted)
    while "it" not in site.started:
        assert site.now <= (before + 1) * (longest + patience)
        while len(site.line) < 2 * before:
            arrive()
        site.start_all(seconds)
        site.next_end()
