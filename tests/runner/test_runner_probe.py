"""A probe looks whether a container could run on its node, says what it found, and leaves nothing else."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from nodemanager.errors import NodeManagerError
from nodemanager.runner.report import Check, Line, Report, report_path
from tests.runner.conftest import TOKEN, Lab

OTHER_TOKEN = "v2/zzzzz-gj3su-111111111111111/alsoverysecret"


class TestReport:
    def test_comes_back_from_json_as_it_was(self) -> None:
        report = Report("n1", (Line(Check.API, "it answers"), Line(Check.STORE, "", "full \u00fc")))
        assert Report.from_json(report.to_json()) == report

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '{"node": "n", "lines": [["X", "", ""]]}', '{"lines": [1]}']
    )
    def test_anything_else_is_no_report(self, text: str) -> None:
        with pytest.raises(NodeManagerError, match="no report that can be read"):
            Report.from_json(text)

    def test_the_exit_status_names_the_first_check_that_failed(self) -> None:
        lines = (Line(Check.RUNNER), Line(Check.STORE, "", "x"), Line(Check.SCRATCH, "", "y"))
        report = Report("n1", lines)
        assert Check.of_status(report.exit_status) is Check.STORE
        assert Report("n1", lines[:1]).exit_status == 0
        assert Check.of_status(0) is None
        assert Check.of_status(127) is None

    def test_no_exit_status_means_something_else_already(self) -> None:
        # Failures in general, usage, sysexits.h, requeue and error of Grid Engine, shells, signals.
        taken = {0, 1, 2, *range(64, 79), 99, 100, 111, *range(126, 256)}
        assert taken.isdisjoint({check.value for check in Check})


def report_in_store(lab: Lab) -> Report:
    return Report.from_json(report_path(lab.store, lab.uuid).read_text())


def problems(report: Report) -> dict[Check, str]:
    return {line.check: line.problem for line in report.lines if line.problem}


def posted(lab: Lab) -> Report:
    [link] = lab.api.links
    assert (link["link_class"], link["name"]) == ("probe", lab.uuid)
    return Report.from_json(link["properties"]["report"])


def test_all_is_well(lab: Lab) -> None:
    lab.run(probe=True)
    report = report_in_store(lab)
    assert problems(report) == {}
    assert {line.check for line in report.lines} == set(Check)
    assert report.node == os.uname().nodename
    assert posted(lab) == report


def test_no_container_is_run_or_asked_for(lab: Lab) -> None:
    lab.shell(f"echo ran >> {lab.ledger}")
    lab.run(probe=True)
    assert lab.ran() == ""
    assert lab.record["state"] == "Locked"
    assert lab.api.calls == ["GET /arvados/v1/users/current", "POST /arvados/v1/links"]


def test_nothing_is_left_but_the_report(lab: Lab) -> None:
    lab.run(probe=True)
    assert list(lab.scratch.iterdir()) == []
    left = [path for path in lab.store.rglob("*") if path.is_file()]
    assert left == [report_path(lab.store, lab.uuid)]


def test_the_token_is_not_told(lab: Lab) -> None:
    said = lab.run(probe=True) + lab.run(Check.TOKEN.value, probe=True, api_token=OTHER_TOKEN)
    told = said + report_path(lab.store, lab.uuid).read_text()
    assert TOKEN.rpartition("/")[2] not in told
    assert OTHER_TOKEN.rpartition("/")[2] not in told


def test_a_token_that_is_refused(lab: Lab) -> None:
    lab.run(Check.TOKEN.value, probe=True, api_token=OTHER_TOKEN)
    report = report_in_store(lab)
    assert set(problems(report)) == {Check.TOKEN}
    assert "Not logged in" in problems(report)[Check.TOKEN]
    assert report.is_well(Check.CERTIFICATE)
    assert lab.api.links == []


def test_a_certificate_of_another_authority(lab: Lab, other_certificate: Path) -> None:
    lab.run(Check.CERTIFICATE.value, probe=True, ca_file=str(other_certificate))
    report = report_in_store(lab)
    assert set(problems(report)) == {Check.CERTIFICATE}
    problem = problems(report)[Check.CERTIFICATE]
    assert lab.spec.api_url in problem
    assert str(other_certificate) in problem
    assert "self-signed" in problem


def test_a_certificate_for_another_name(lab: Lab) -> None:
    url = f"https://localhost:{lab.api.port}"
    lab.run(Check.CERTIFICATE.value, probe=True, api_url=url)
    assert "localhost" in problems(report_in_store(lab))[Check.CERTIFICATE]


def test_any_certificate_when_that_is_asked_for(lab: Lab) -> None:
    lab.run(probe=True, insecure=True, ca_file=None)
    [line] = [x for x in report_in_store(lab).lines if x.check is Check.CERTIFICATE]
    assert "insecure" in line.detail


def test_certificates_that_are_not_on_the_node(lab: Lab, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    lab.run(Check.CERTIFICATE.value, probe=True, ca_file=missing)
    problem = problems(report_in_store(lab))[Check.CERTIFICATE]
    assert missing in problem
    assert "No such file" in problem


def test_an_api_that_is_not_reached(lab: Lab) -> None:
    lab.api.stop()
    lab.run(Check.API.value, probe=True)
    problem = problems(report_in_store(lab))[Check.API]
    assert lab.spec.api_url in problem
    assert "advertise_url" in problem


@pytest.mark.parametrize("status", [404, 503])
def test_something_else_answers(lab: Lab, status: int) -> None:
    lab.api.refuse = status
    lab.run(Check.API.value, probe=True)
    assert set(problems(report_in_store(lab))) == {Check.API}


def test_a_store_that_is_not_mounted(lab: Lab, tmp_path: Path) -> None:
    lab.run(Check.STORE.value, probe=True, store=str(tmp_path / "unmounted"))
    report = posted(lab)
    assert set(problems(report)) == {Check.STORE}
    assert "mount it" in problems(report)[Check.STORE]
    assert not (tmp_path / "unmounted").exists()


def test_a_store_that_cannot_be_written(lab: Lab) -> None:
    lab.run(Check.STORE.value, probe=True, store="/proc")
    assert "/proc" in problems(posted(lab))[Check.STORE]


def test_uploads_are_refused_for_lack_of_a_container(lab: Lab) -> None:
    lab.record["state"] = "Complete"
    lab.run(probe=True, store="api")
    [line] = [x for x in posted(lab).lines if x.check is Check.STORE]
    assert "as it should" in line.detail
    assert lab.api.files == {}


def test_uploads_that_do_not_pass(lab: Lab) -> None:
    lab.api.largest = 1000
    lab.run(Check.STORE.value, probe=True, store="api")
    assert "413" in problems(posted(lab))[Check.STORE]


def test_scratch_that_cannot_be_used(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lab.run(Check.SCRATCH.value, probe=True, scratch=str(tmp_path / "file"))
    assert str(tmp_path / "file") in problems(report_in_store(lab))[Check.SCRATCH]


def test_an_engine_that_is_not_installed(lab: Lab, tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path)}
    lab.run(Check.ENGINE.value, environment, probe=True, engine="podman")
    assert "podman" in problems(report_in_store(lab))[Check.ENGINE]


def test_inputs_that_are_not_mounted(lab: Lab, tmp_path: Path) -> None:
    dirs: Any = (str(lab.inputs), str(tmp_path / "reference"))
    lab.run(Check.INPUTS.value, probe=True, input_dirs=dirs)
    assert str(tmp_path / "reference") in problems(report_in_store(lab))[Check.INPUTS]


@pytest.mark.parametrize(("ahead", "words"), [(100.0, "behind"), (-100.0, "ahead of")])
def test_clocks_that_differ(lab: Lab, ahead: float, words: str) -> None:
    lab.api.clock_ahead = ahead
    lab.run(Check.CLOCK.value, probe=True)
    assert words in problems(report_in_store(lab))[Check.CLOCK]


def test_every_problem_is_told(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lab.api.clock_ahead = 1000.0
    scratch = str(tmp_path / "file")
    lab.run(Check.CLOCK.value, probe=True, store=str(tmp_path / "no"), scratch=scratch)
    assert set(problems(posted(lab))) == {Check.CLOCK, Check.STORE, Check.SCRATCH}


def test_a_signal_ends_it_at_once(lab: Lab) -> None:
    with lab.api.lock:
        process = lab.start(probe=True)
        lab.until(lambda: lab.store.joinpath(lab.uuid).exists() or lab.api._connections)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=15)
    assert process.returncode == -signal.SIGTERM


def test_the_specification_says_whether_it_is_a_probe(lab: Lab) -> None:
    value = json.loads(lab.spec.to_json())
    assert value["probe"] is False
