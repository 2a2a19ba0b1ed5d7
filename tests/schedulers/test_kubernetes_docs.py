"""The pages about Kubernetes say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nodemanager.config import parse
from nodemanager.config.kinds import Bool, Seconds
from nodemanager.outcome import EndKind
from nodemanager.schedulers.base import SchedulerContext
from nodemanager.schedulers.kubernetes import names
from nodemanager.schedulers.kubernetes.ends import DISRUPTIONS, EVENTS, POD_REASONS
from nodemanager.schedulers.kubernetes.options import KubernetesOptions
from nodemanager.schedulers.kubernetes.pending import OBSTACLES, Obstacle
from nodemanager.schedulers.kubernetes.waits import Patience

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "reference" / "kubernetes.md").read_text()
HOW_TO = (DOCS / "how-to" / "run-on-kubernetes.md").read_text()

ENDS = {EndKind.NODE_LOST: "node lost", EndKind.SCHEDULER_ERROR: "scheduler error"}


def section(title: str) -> str:
    return re.split(r"^##+ ", PAGE.split(f"# {title}\n", 1)[1], flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, their heads included."""
    lines = [line for line in text.splitlines() if re.match(r"\|(?!-)", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_option_has_its_default() -> None:
    context = SchedulerContext("xyzzy", Path("/state"), {"keep_output": "no"})
    made = KubernetesOptions.of(context)
    show = Seconds().show
    defaults = {
        "namespace": f"Default `{made.namespace}`.",
        "run": f"`{made.run}` (default)",
        "shell": f"Default `{made.shell}`.",
        "gpu_resource": f"Default `{made.gpu_resource}`.",
        "reserve_cpu": f"Default {made.reserve_milli_cores}.",
        "reserve_ram": f"Default {made.reserve_ram}.",
        "cpu_limit": f"Default {Bool().show(made.cpu_limit)}:",
        "grace": f"Default {show(made.grace_seconds)}.",
        "lost_after": f"Default {show(made.lost_seconds)}, as Kubernetes",
        "concurrency": f"Default {made.concurrency}.",
        "image_patience": f"Default {show(made.image_patience)}.",
        "relist_time": f"Default {show(made.relist_seconds)}.",
        "nodes": f"`{made.nodes}` (default)",
    }
    told = {row[0].strip("`"): row[1] for row in rows(section("Options of `[Scheduler]`"))}
    for name, words in defaults.items():
        assert words in told[name]


def test_every_word_for_an_end_means_what_the_page_says() -> None:
    table = rows(section("How a pod ends"))
    lost = dict.fromkeys([*DISRUPTIONS, *EVENTS], EndKind.NODE_LOST)
    kinds = {**lost, **POD_REASONS}
    told = {
        word: row[1]
        for row in table
        if row[1] in ENDS.values()
        for word in re.findall(r"`(\w+)`", row[0])
    }
    assert told == {word: ENDS[kind] for word, kind in kinds.items()}


def test_patience_is_that_of_the_code() -> None:
    told = [row[1] for row in rows(section("Why a pod waits")) if len(row) == 2][1:]
    patience = Patience()
    assert told == [
        Seconds().show(patience.image_seconds),
        "`image_patience`",
        Seconds().show(patience.config_seconds),
    ]


def test_every_label_and_annotation_is_there() -> None:
    told = set(
        re.findall(r"`(arvados\.org/[\w-]+|app\.[\w./-]+)`", section("What is seen with kubectl"))
    )
    known = {
        value
        for name, value in vars(names).items()
        if name.isupper() and isinstance(value, str) and "/" in value
    }
    assert told == known


@pytest.mark.parametrize(
    "text", re.findall(r"^```ini\n(.*?)^```", HOW_TO, re.MULTILINE | re.DOTALL)
)
def test_examples_of_config_files_are_taken(text: str, tmp_path: Path) -> None:
    config = parse(text, tmp_path / "nodemanager.cfg", {"NODE_MANAGER_ARVADOS_TOKEN": "v2/x/y"})
    context = SchedulerContext(
        "xyzzy",
        tmp_path,
        config.scheduler.options,
        store=config.runner.store,
        input_dirs=config.runner.input_dirs,
    )
    assert KubernetesOptions.of(context).claims


def test_every_obstacle_is_told_as_on_the_page() -> None:
    told = {row[0].strip("`"): row[1:] for row in rows(section("Why a pod waits")) if len(row) == 5}
    told.pop("in the facts", None)
    assert told == {name: cells_of(obstacle) for name, obstacle in OBSTACLES.items()}


def cells_of(obstacle: Obstacle) -> list[str]:
    whose = obstacle.token.knob if obstacle.whose is None else obstacle.whose
    words = obstacle.sentence.replace("{n}", "N").replace("{what}", "...")
    return [words, f"`{obstacle.token}`", f"`{whose}`", obstacle.advice]
