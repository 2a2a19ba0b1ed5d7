"""What a person, or a script, is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from nodemanager.config import Config, load
from nodemanager.dry_run.document import document
from nodemanager.dry_run.forecast import forecast
from nodemanager.dry_run.report import MOST_GROUPS, report
from nodemanager.dry_run.sight import Sight
from nodemanager.model import Finding
from tests.dry_run.sights import (
    NOW,
    cloud,
    container,
    job,
    locked,
    machine,
    node,
    scheduler,
    sight,
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "nodemanager.cfg"
    path.write_text(f"[Daemon]\nstate_dir = {tmp_path / 'state'}\n")
    return load(path)


def lines(config: Config, seen: Sight, *told: Finding, width: int = 0) -> list[str]:
    return [line.plain for line in report(config, seen, told, forecast(seen), width)]


def a_day() -> Sight:
    """A little of everything."""
    waiting = locked(1)
    return sight(
        *(container(2) for _ in range(3)),
        *(container(64) for _ in range(1200)),
        container(1, run_after=NOW + 600),
        held=(waiting, locked(1, priority=0)),
        schedulers=(scheduler(node("a", 2, used=2), jobs=(job(waiting),)),),
        cloud=cloud(machine("a"), machine("b"), max_nodes=4, max_total_price=2.0),
    )


def test_a_plan_reads_like_this(config: Config) -> None:
    seen = a_day()
    found = "\n".join(lines(config, seen, Finding("cloud fake", "2 machines of ours")))
    assert seen.queue is not None
    for word, each in (
        ("HELD", seen.queue.held[0]),
        ("FIRST", seen.queue.queued[0]),
        ("HUGE", seen.queue.queued[3]),
        ("LATE", seen.queue.queued[-1]),
    ):
        found = found.replace(each.uuid, word)
    for group in forecast(seen).unclaimed:
        found = found.replace(group.reason.advice, "ADVICE")
    assert found.splitlines() == PLAN.format(path=config.path).splitlines()


PLAN = """\
What the daemon of {path} would do now. Nothing of it is done.
  ok       cloud fake: 2 machines of ours

Claim 3 of 1,204 queued containers, and submit them
  1 x 1 core, 1 GiB RAM to slurm (submitted before), HELD: a node of size large is being ordered for it
  3 x 2 cores, 2 GiB RAM to slurm, such as FIRST: a node of size large is being ordered for it

Leave 1,201 containers in the queue
  1,200 x no-node-fits, such as HUGE: cores: wants 64, the largest node has 8; RAM: wants 64 GiB, the largest node has \
16 GiB; ADVICE
  1 x run-after, LATE: it asked not to start before its run_after, in 10 min 0 s; ADVICE

Claimed before: 1 over, which is written down

Nodes: 1 busy, 1 failed; 0.2 per hour
  boot 1 x large (8 cores, 16 GiB RAM, 100 GiB scratch, 0.35 per hour each)
  destroy b: it never joined the scheduler
  0.45 per hour when that is done

Limits
  claims: no more than 0 free cores and 16 that may be booted could start, and a few ahead; 2 claimed before wait
  [Daemon] max_nodes = 4: 2 here, 1 to boot
  [Daemon] max_total_price = 2 per hour: 0.2 now
"""


def test_the_document_is_json_and_tells_the_same(config: Config) -> None:
    seen = a_day()
    made = forecast(seen)
    found = json.loads(json.dumps(document(config, seen, [Finding("API", problem="down")], made)))
    assert found["claimed"] == made.claimed
    assert found["looked_at"] == [{"subject": "API", "detail": "", "problem": "down"}]
    assert sum(group["count"] for group in found["unclaimed"]) == found["queued"] - made.claimed
    assert [boot["size"] for boot in found["nodes"]["boot"]] == ["large"]
    assert found["work"][0]["places"][0]["reason"]["token"]


def test_what_could_not_be_found_out_stands_first(config: Config) -> None:
    found = lines(config, sight(queue=None), Finding("API", problem="nobody answers"))
    assert found[1] == "  problem  API: nobody answers"
    assert not any("queued" in line for line in found)


def test_names_cannot_forge_lines(config: Config) -> None:
    seen = sight(schedulers=(scheduler(error="down\n  ok  API: \x1b[32mfine"),))
    [_, line, *_] = lines(config, seen, Finding("scheduler", problem="down\n\x1b[32mfine"))
    assert line == "  problem  scheduler: down??[32mfine"


def test_many_groups_are_summed_up(config: Config) -> None:
    queue = [container(64 + number) for number in range(MOST_GROUPS + 12)]
    found = lines(config, sight(*queue, schedulers=(scheduler(node("a")),)))
    assert len(found) < MOST_GROUPS + 12
    assert "  and 12 for 12 other reasons" in found


@pytest.mark.parametrize("width", [40, 80, 200])
def test_lines_are_broken_at_the_width_of_a_terminal(config: Config, width: int) -> None:
    found = lines(config, a_day(), width=width)
    too_long = [line for line in found if len(line) > width and " " in line.strip()]
    assert too_long == []


def test_an_empty_site(config: Config) -> None:
    found = lines(config, sight())
    assert found[2] == "No container is queued"


def test_it_prints_on_any_console(config: Config) -> None:
    console = Console(force_terminal=True, width=60)
    with console.capture() as capture:
        for line in report(config, a_day(), [], forecast(a_day()), 60):
            console.print(line, soft_wrap=True)
    assert "\x1b[1m" in capture.get()
