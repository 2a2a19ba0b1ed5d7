"""Whole runs against the API server's own logic in memory, dispatched by real actors."""

import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nodemanager.api.requests import ArvadosRequests
from nodemanager.errors import ApiRefused, ApiUnavailable, RequestError
from nodemanager.outcome import End, EndKind
from nodemanager.runs.plan import NodeRow, Row
from nodemanager.runs.record import RunRecords
from nodemanager.runs.request_file import RequestSpec, load_requests
from nodemanager.runs.session import (
    FAILED,
    INTERRUPTED,
    SUCCEEDED,
    Ending,
    RunContext,
    run_requests,
)
from nodemanager.runs.view import LiveView, PlainView, make_view, node_picture, picture
from nodemanager.testing import Harness, Program

FILE = """\
defaults:
  output_path: /work/out
  mounts: {/work/out: {kind: tmp}}
  runtime_constraints: {vcpus: 1, ram: 64 MiB}
requests:
  - {name: a, command: [a]}
  - {name: b, command: [b], after: a}
  - {name: c, command: [c]}
"""


@dataclass
class Watcher:
    """A view that remembers."""

    said: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    nodes: list[NodeRow] = field(default_factory=list)
    ending: Ending | None = None
    closed: bool = False

    def begin(self, title: str) -> None:
        self.said.append(title)

    def show(self, rows: Sequence[Row], nodes: Sequence[NodeRow] = ()) -> None:
        self.rows = list(rows)
        self.nodes = list(nodes)

    def say(self, message: str) -> None:
        self.said.append(message)

    def end(self, ending: Ending) -> None:
        self.ending = ending

    def close(self) -> None:
        self.closed = True


class Turns(threading.Event):
    """Lets the world's time pass while the run waits for its next turn; sets itself after `limit`."""

    def __init__(self, world: Harness, limit: int = 400) -> None:
        super().__init__()
        self._world = world
        self.left = limit

    def wait(self, timeout: float | None = None) -> bool:
        self._world.advance(timeout or 0)
        self.left -= 1
        if self.left <= 0:
            self.set()
        return self.is_set()


@dataclass
class Bench:
    world: Harness
    source: Path
    view: Watcher
    stop: Turns
    api: ArvadosRequests | None = None
    nodes: Callable[[], Sequence[NodeRow]] = tuple

    @property
    def specs(self) -> tuple[RequestSpec, ...]:
        return load_requests(self.source)

    def run(self, *, resume: bool = False, turns: int = 400) -> int:
        self.stop = Turns(self.world, turns)
        context = RunContext(
            api=self.api or ArvadosRequests(self.world.root),
            records=RunRecords(self.source.parent / "state"),
            view=self.view,
            clock=self.world.clock,
            stop=self.stop,
            store="/store",
            nodes=self.nodes,
        )
        return run_requests(context, self.source, self.specs, resume=resume)

    def row(self, name: str) -> Row:
        [row] = [row for row in self.view.rows if row.name == name]
        return row

    def request_names(self) -> list[str]:
        items = self.world.call("container_requests", "list", order="created_at asc")["items"]
        return [item["name"] for item in items]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    source = tmp_path / "requests.yml"
    source.write_text(FILE)
    with Harness() as world:
        yield Bench(world, source, Watcher(), Turns(world))


def test_all_complete(bench: Bench) -> None:
    assert bench.run() == SUCCEEDED
    assert [row.state for row in bench.view.rows] == ["Complete"] * 3
    assert bench.request_names()[-1] == "b", "b waits for a"
    assert bench.view.ending is not None
    assert bench.view.closed


def test_one_that_fails_takes_those_with_it_that_wait_for_it(bench: Bench) -> None:
    bench.world.program = lambda record: Program(
        end=End(EndKind.EXITED, 3 if record["command"] == ["a"] else 0)
    )
    assert bench.run() == FAILED
    assert bench.row("a").words == "exited with 3"
    assert (bench.row("b").state, bench.row("b").words) == ("not submitted", "a ended PermFail")
    assert bench.row("c").complete


def test_requests_are_stamped(bench: Bench) -> None:
    bench.run()
    items = bench.world.call("container_requests", "list")["items"]
    stamps = {(item["properties"]["file"], item["properties"]["index"]) for item in items}
    assert stamps == {("requests.yml", 0), ("requests.yml", 1), ("requests.yml", 2)}
    assert len({item["properties"]["run"] for item in items}) == 1


@pytest.mark.parametrize("turns", range(1, 8))
def test_a_run_that_was_stopped_at_any_turn_is_resumed_without_twins(
    bench: Bench, turns: int
) -> None:
    assert bench.run(turns=turns) == INTERRUPTED
    assert "--resume" in bench.view.said[-1]
    assert bench.run(resume=True) == SUCCEEDED
    assert sorted(bench.request_names()) == ["a", "b", "c"]


@pytest.mark.parametrize("lost", range(1, 12))
def test_answers_that_are_lost_make_no_twins(bench: Bench, lost: int) -> None:
    bench.world.wire.lost_answers = lost
    assert bench.run() == SUCCEEDED
    assert sorted(bench.request_names()) == ["a", "b", "c"]
    assert any("does not answer" in line for line in bench.view.said)


def test_a_new_run_of_the_same_files_is_another_run(bench: Bench) -> None:
    bench.run(turns=1)
    assert bench.run() == SUCCEEDED
    assert len(bench.request_names()) > 3
    assert any("is unfinished" in line for line in bench.view.said)


def test_nothing_to_resume(bench: Bench) -> None:
    bench.run()
    with pytest.raises(RequestError, match=r"no run of .* is unfinished"):
        bench.run(resume=True)


def test_changed_files_cannot_be_resumed(bench: Bench) -> None:
    bench.run(turns=1)
    bench.source.write_text(FILE.replace("[c]", "[d]"))
    with pytest.raises(RequestError, match="have changed since"):
        bench.run(resume=True)


def test_what_can_never_fit_is_cancelled_with_the_reason(bench: Bench) -> None:
    bench.source.write_text(
        FILE.replace("command: [c]", "command: [c], runtime_constraints: {ram: 1 TiB}")
    )
    assert bench.run() == FAILED
    assert bench.row("c").state == "Cancelled"
    assert "RAM: wants 1 TiB, the largest node has 8 GiB" in bench.row("c").words


def test_cancel_after(bench: Bench) -> None:
    bench.world.program = lambda record: Program(seconds=None if record["command"] == ["c"] else 1)
    bench.source.write_text(FILE.replace("command: [c]", "command: [c], cancel_after: 5"))
    assert bench.run() == FAILED
    row = bench.row("c")
    assert row.state == "Cancelled"
    assert row.elapsed is not None
    assert 5 <= row.elapsed < 12


def test_run_after(bench: Bench) -> None:
    bench.source.write_text(FILE.replace("command: [c]", "command: [c], run_after: +30 s"))
    began = bench.world.clock.elapsed()
    assert bench.run() == SUCCEEDED
    assert bench.world.clock.elapsed() - began >= 30


class PickyRequests(ArvadosRequests):
    """An API with a rule that the files' own checks do not know."""

    def create(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        if attributes["name"] == "c":
            raise ApiRefused("no c here", 422)
        return super().create(attributes)


def test_a_request_the_api_refuses(bench: Bench) -> None:
    bench.api = PickyRequests(bench.world.root)
    assert bench.run() == FAILED
    assert bench.row("c").state == "not submitted"
    assert "refuses" in bench.row("c").words


def test_work_that_was_done_is_not_done_again(bench: Bench) -> None:
    assert bench.run() == SUCCEEDED
    done = len(bench.world.call("containers", "list")["items"])
    assert bench.run() == SUCCEEDED
    assert all("done before" in row.words for row in bench.view.rows)
    assert len(bench.world.call("containers", "list")["items"]) == done
    bench.source.write_text(FILE.replace("defaults:", "defaults:\n  use_existing: false"))
    assert bench.run() == SUCCEEDED
    assert {row.words for row in bench.view.rows} == {""}
    assert len(bench.world.call("containers", "list")["items"]) == 2 * done


def test_the_nodes_are_shown_where_somebody_knows_them(bench: Bench) -> None:
    node = NodeRow("n1", "small", "idle", 0, "")
    bench.nodes = lambda: [node]
    assert bench.run() == SUCCEEDED
    assert bench.view.nodes == [node]


def test_the_run_is_noted_before_anything_is_submitted(bench: Bench) -> None:
    bench.world.wire.down = True
    assert bench.run(turns=2) == INTERRUPTED
    [note] = (bench.source.parent / "state" / "runs").iterdir()
    record = json.loads(note.read_text())
    assert record["source"] == str(bench.source)
    assert record["finished_at"] is None
    with pytest.raises(ApiUnavailable):
        ArvadosRequests(bench.world.root).list_run(record["id"])


def rows(count: int) -> list[Row]:
    return [
        Row(
            f"r{n}",
            "Complete" if n % 2 else "Running",
            1,
            "",
            "node1",
            3.0,
            bool(n % 2),
            bool(n % 2),
        )
        for n in range(count)
    ]


def test_plain_lines_tell_changes_only_and_hold_no_control_characters() -> None:
    out = io.StringIO()
    view = make_view(Console(file=out, force_terminal=False, width=80))
    assert isinstance(view, PlainView)
    evil = Row("na\x1b[31mme\nx", "Queued", 1, "it [bold]broke[/] \x07", "", None, False, False)
    view.show([evil])
    view.show([evil])
    text = out.getvalue()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "it [bold]broke[/]" in text


def test_a_terminal_gets_a_table_with_the_running_ones_first() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=30, color_system=None)
    view = make_view(console)
    assert isinstance(view, LiveView)
    console.print(picture(rows(100), 10))
    lines = out.getvalue().splitlines()
    assert len(lines) == 12
    assert all("Running" in line for line in lines[1:11])
    assert "50 Complete" in lines[11]
    assert "40 Running" in lines[11]


def test_a_line_tells_when_a_node_comes_changes_or_goes() -> None:
    out = io.StringIO()
    view = PlainView(Console(file=out, width=100))
    booting = NodeRow("n1", "small", "booting", 0, "for 2 s")
    view.show([], [booting])
    view.show([], [replace(booting, detail="for 3 s")])
    view.show([], [NodeRow("n1", "small", "busy", 1, "")])
    view.show([], [])
    lines = [line.split(" ", 1)[1] for line in out.getvalue().splitlines()]
    assert lines == [
        "node n1 (small) is booting: for 2 s",
        "node n1 (small) is busy",
        "node n1 is gone",
    ]


def test_nodes_stand_below_the_containers_the_idle_ones_last() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=30, color_system=None)
    nodes = [
        NodeRow(f"n{n}", "small", "idle" if n % 2 else "busy", n, "1 core\x07 free")
        for n in range(20)
    ]
    console.print(node_picture(nodes, 12))
    lines = out.getvalue().splitlines()
    assert [line.split()[:4] for line in lines[1:4]] == [
        ["n0", "small", "busy", "0"],
        ["n2", "small", "busy", "2"],
        ["n4", "small", "busy", "4"],
    ]
    assert "\x07" not in out.getvalue()
    assert lines[13:] == ["and 8 idle".ljust(len(lines[13]))]
    view = LiveView(console)
    view.show(rows(100), nodes)
    view.close()


def test_the_last_words_of_a_large_run_name_only_what_failed() -> None:
    out = io.StringIO()
    view = PlainView(Console(file=out, width=100))
    failed = Row("bad", "PermFail", 1, "exited with 3", "", 1.0, True, False)
    view.end(Ending([*(r for r in rows(200) if r.complete), failed], [], "/store", 5.0))
    text = out.getvalue()
    assert "bad  PermFail     in 1.0 s: exited with 3" in text
    assert "r1 " not in text
    assert "100 Complete, 1 PermFail; 5.0 s; logs and outputs: /store" in text
