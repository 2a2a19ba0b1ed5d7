"""An embedded API on the loopback is of no use to jobs on other machines; that is told before the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodemanager.check import findings
from nodemanager.config import parse
from nodemanager.errors import ConfigError
from nodemanager.reach import refuse_unreachable
from nodemanager.schedulers.base import Scheduler
from nodemanager.schedulers.fake import FakeScheduler
from tests.clusters.daemons import Site


class Away(FakeScheduler):
    """A scheduler whose jobs run on other machines, as they do unless its class says otherwise."""

    name = "away"
    on_this_machine = Scheduler.on_this_machine


AWAY = "[Dispatch]\nscheduler = tests.test_reach:Away\n"


def api_problems(text: str, tmp_path: Path) -> list[str]:
    found = findings(parse(text, tmp_path / "x.cfg"))
    return [f.problem for f in found if f.subject == "API" and f.problem]


def test_it_is_refused_and_the_options_to_set_are_named(tmp_path: Path) -> None:
    [problem] = api_problems(AWAY, tmp_path)
    assert "scheduler away" in problem
    assert "127.0.0.1" in problem
    for option in ("advertise_url", "[Api] address", "[Arvados] host"):
        assert option in problem
    with pytest.raises(ConfigError, match="advertise_url is empty"):
        refuse_unreachable(parse(AWAY, tmp_path / "x.cfg"))


@pytest.mark.parametrize(
    "text",
    [
        f"{AWAY}[Api]\nadvertise_url = https://head.example.org:8443\n",
        # A cluster that is one machine says so by this.
        f"{AWAY}[Api]\nadvertise_url = https://127.0.0.1:8443\n",
        "[Dispatch]\nscheduler = local\n",
        "[Dispatch]\nscheduler = fake\n",
        "",
    ],
)
def test_what_can_be_reached_is_not(text: str, tmp_path: Path) -> None:
    assert api_problems(text, tmp_path) == []
    refuse_unreachable(parse(text, tmp_path / "x.cfg"))


def test_an_api_elsewhere_is_reached_by_everybody(tmp_path: Path) -> None:
    text = f"{AWAY}[Arvados]\nhost = 127.0.0.1:1\ntoken = abc\n"
    refuse_unreachable(parse(text, tmp_path / "x.cfg"))


@pytest.mark.parametrize(("scheduler", "number"), [(AWAY, 0), ("", 1)])
def test_what_only_nodes_need_is_looked_for_where_jobs_run(
    scheduler: str, number: int, tmp_path: Path
) -> None:
    """A head node need have neither runner nor engine."""
    text = f"{scheduler}[Runner]\ncommand = /nonexistent/runner\n"
    found = list(findings(parse(text, tmp_path / "x.cfg")))
    missing = [f.subject for f in found if "is not installed on this machine" in f.problem]
    assert len(missing) == number
    assert any("--probe" in f.detail for f in found) == (number == 0)


def test_the_daemon_does_not_start(site: Site) -> None:
    site.config.write_text(site.config.read_text().replace("[Dispatch]\n", AWAY))
    status, output = site.run()
    assert status == 2, output
    assert "[Api] advertise_url is empty" in output
    assert not site.state.exists()
