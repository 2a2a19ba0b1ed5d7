"""A real Prometheus scrapes a real daemon; every query of the dashboard and of the alerts finds something in it."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodemanager.api.connection import call
from nodemanager.metrics import PREFIX
from nodemanager.status.metrics_reference import declared
from tests.clusters.daemons import REPOSITORY, Site, free_port, wait_for
from tests.clusters.prometheus import (
    BadQuery,
    Prometheus,
    PrometheusMissing,
    install,
    promtool,
)

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

ETC = REPOSITORY / "etc"
CONFIG = ETC / "prometheus/prometheus.yml"
ALERTS = ETC / "prometheus/alerts.yml"
ALERT_TESTS = ETC / "prometheus/alerts_test.yml"
DASHBOARD = ETC / "grafana/arvados-node-manager.json"

TOKEN, API_TOKEN = "the-management-token", "the-token-of-the-api"
BOUND_SECONDS = 90.0

NO_QUOTA = "the loopback cloud refuses no machine for want of quota"
NO_COMMANDS = "the local scheduler runs no commands"
ABSENT = {"nodes_quota": NO_QUOTA, "scheduler_command_duration_seconds": NO_COMMANDS}
"""Metrics without samples here, and why."""
EMPTY = {
    f"{PREFIX}nodes_quota": NO_QUOTA,
    f"{PREFIX}scheduler_command_duration_seconds_bucket": NO_COMMANDS,
    'outcome="failed"': "no call of the scheduler failed",
    'outcome!="ok"': "no call of the API failed",
}
"""Queries with these in them may find nothing, and why."""

DAEMON = """\
[Manage]
port = {port}
ManagementToken = the-management-token
[Cloud]
provider = loopback
shutdown_windows = 0, 999999
turn_time = 500 ms
[Size worker]
cores = 1
ram = 512
scratch = 1000
price = 0.1
"""


def commit(api: Any, script: str, cores: int = 1) -> str:
    """The UUID of the request."""
    attributes = {
        "command": ["sh", "-c", script],
        "container_image": "none",
        "cwd": "/work",
        "output_path": "/work/out",
        "mounts": {"/work/out": {"kind": "tmp", "capacity": 1 << 20}},
        "runtime_constraints": {"vcpus": cores, "ram": 1 << 26},
        "priority": 500,
        "state": "Committed",
        "use_existing": False,
    }
    made = call(api.container_requests().create(body={"container_request": attributes}))
    return str(made["uuid"])


def scraping(site: Site, port: int, api_port: int) -> tuple[str, dict[str, bytes]]:
    """The shipped prometheus.yml with the places of this site, scraping every second; and the files it names."""
    text = CONFIG.read_text()
    for old, new in (
        ("15s", "1s"),
        ("127.0.0.1:8989", f"127.0.0.1:{port}"),
        ("127.0.0.1:8443", f"127.0.0.1:{api_port}"),
        ("/etc/prometheus/", ""),
        ("/var/lib/arvados-node-manager/api/", ""),
    ):
        assert old in text, f"{CONFIG.name} has no {old} any more"
        text = text.replace(old, new)
    files = {
        "node-manager.token": TOKEN.encode(),
        "dispatch-api.token": API_TOKEN.encode(),
        "certificate.pem": (site.state / "api/certificate.pem").read_bytes(),
        "alerts.yml": ALERTS.read_bytes(),
    }
    return text, files


def write(site: Site, port: int) -> None:
    site.write(DAEMON.format(port=port))
    text = site.config.read_text()
    for old, new in (
        (
            "[Daemon]\n",
            "[Daemon]\nmax_nodes = 2\nmax_total_price = 0.15\ncloudlist_poll_time = 1 s\n",
        ),
        ("[Scheduler]\n", "[Scheduler]\npoll_time = 1 s\n"),
        ("[Api]\n", f"[Api]\nmanagement_token = {API_TOKEN}\n"),
    ):
        text = text.replace(old, new, 1)
    site.config.write_text(text)
    site.config.chmod(0o600)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It has scraped a daemon through some containers: good and bad ones, one tried again, one too large for ever."""
    try:
        install()
    except PrometheusMissing as error:
        pytest.skip(str(error))
    site = Site(tmp_path_factory.mktemp("scraped"))
    try:
        port = free_port()
        write(site, port)
        site.start()
        api = site.serving()
        api_port = int((site.state / "api/port").read_text())
        with Prometheus(*scraping(site, port, api_port)) as running:
            run_some(running, api)
            yield running
    finally:
        site.end()


def run_some(running: Prometheus, api: Any) -> None:
    def value(expression: str) -> float:
        return sum(sample.value for sample in running.query(expression))

    def until(expression: str, least: float) -> None:
        wait_for(lambda: value(expression) >= least, expression, BOUND_SECONDS)

    def cancel(request: str) -> None:
        body = {"container_request": {"priority": 0}}
        call(api.container_requests().update(uuid=request, body=body))

    until("up", 2)
    finished = f"{PREFIX}containers_finished_total"
    commit(api, "true", cores=1000)
    unlucky = commit(api, "exit 75")
    # Twice: an increase needs a sample before it.
    for turn in (1, 2):
        commit(api, "true")
        commit(api, "exit 3")
        for state in ("Complete", "PermFail", "TempFail"):
            until(f'{finished}{{state="{state}"}}', turn)
        until(f'{PREFIX}boot_outcomes_total{{outcome="joined"}}', turn)
    until(f'{PREFIX}container_retries_total{{kind="temp"}}', 2)
    cancel(unlucky)
    long = commit(api, "sleep 600")
    commit(api, "sleep 600")
    until(f'{PREFIX}containers{{state="Running"}}', 1)
    until(f"{PREFIX}cost_limited_containers", 1)
    cancel(long)
    until(f"{PREFIX}jobs_cancelled_total", 1)
    until(f'{PREFIX}containers{{state="Running"}}', 1)


def queries(panels: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The titles of panels, and what they ask, with Grafana's variables filled in."""
    for panel in panels:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for variable, text in (("$instance", ".*"), ("$__rate_interval", "2m")):
                expression = expression.replace(variable, text)
            assert "$" not in expression, f"{panel['title']}: an unknown variable"
            yield panel["title"], expression


BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text())
QUERIES = list(queries(BOARD["panels"]))
RULES = [r for group in yaml.safe_load(ALERTS.read_text())["groups"] for r in group["rules"]]


def excuse(expression: str) -> str:
    """Why it may find nothing; empty when it has to find something."""
    return "".join(why for part, why in EMPTY.items() if part in expression)


@pytest.mark.parametrize(("title", "expression"), QUERIES)
def test_every_query_of_the_dashboard_finds_something(
    prometheus: Prometheus, title: str, expression: str
) -> None:
    found = prometheus.query(expression)
    if excuse(expression):
        return
    assert found, f"{title}: nothing for {expression}"
    assert any(math.isfinite(sample.value) for sample in found), f"{title}: {found}"


def test_the_queries_that_may_be_empty_are_few(prometheus: Prometheus) -> None:
    empty = [(title, e) for title, e in QUERIES if not prometheus.query(e)]
    assert len(empty) <= len(EMPTY)
    for part in EMPTY:
        assert any(part in expression for _, expression in QUERIES), f"{part} is asked by nobody"


def test_every_alert_is_evaluated_and_none_fires(prometheus: Prometheus) -> None:
    wait_for(lambda: len(prometheus.alerts()) == len(RULES), "every rule was evaluated")
    states = prometheus.alerts()
    assert states.keys() == {rule["alert"] for rule in RULES}
    assert set(states.values()) <= {"inactive", "pending"}
    # Only the limit of costs is reached.
    pending = {name for name, state in states.items() if state == "pending"}
    assert pending <= {"NodeManagerCostLimit"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_what_an_alert_compares_is_there(prometheus: Prometheus, rule: dict[str, Any]) -> None:
    """Without its condition every alert's expression finds the series it is about."""
    names = set(re.findall(rf"\b(?:{PREFIX}\w+|up)\b", rule["expr"]))
    assert names
    for name in names:
        assert prometheus.query(name), f"there is no {name}"


def test_every_metric_of_the_reference_is_scraped(prometheus: Prometheus) -> None:
    names = {series["__name__"] for series in prometheus.series(f'{{__name__=~"{PREFIX}.*"}}')}
    suffix = {"histogram": "_count"}
    missing = [
        metric.name
        for metric in declared()
        if PREFIX + metric.name + suffix.get(metric.kind, "") not in names
        and metric.name not in ABSENT
    ]
    assert not missing


def test_no_label_names_a_container_or_a_host(prometheus: Prometheus) -> None:
    series = prometheus.series(f'{{__name__=~"{PREFIX}.*"}}')
    assert len(series) < 3000
    labels = {
        value
        for one in series
        for name, value in one.items()
        if name not in ("__name__", "instance", "job", "le")
    }
    named = {value for value in labels if re.search(r"[a-z0-9]{5}-[a-z0-9]{5}-|compute|/", value)}
    assert not named


def test_both_jobs_of_the_example_are_scraped(prometheus: Prometheus) -> None:
    assert prometheus.targets() == {"arvados-node-manager": "", "arvados-dispatch-api": ""}
    assert prometheus.query("arvados_dispatch_api_requests_total")


def test_a_wrong_expression_is_told(prometheus: Prometheus) -> None:
    with pytest.raises(BadQuery, match="parse error"):
        prometheus.query("sum(")
    assert prometheus.query("no_such_metric") == []


# The files, as promtool and Grafana see them.


@pytest.fixture(scope="module")
def tool() -> None:
    try:
        install()
    except PrometheusMissing as error:
        pytest.skip(str(error))


def test_the_example_is_a_configuration(tool: None, tmp_path: Path) -> None:
    text = CONFIG.read_text()
    for name in re.findall(r"(?:credentials_file|ca_file): (\S+)", text):
        there = tmp_path / Path(name).name
        there.touch()
        text = text.replace(name, str(there))
    shutil.copy(ALERTS, tmp_path)
    (tmp_path / "prometheus.yml").write_text(text)
    status, said = promtool("check", "config", tmp_path / "prometheus.yml")
    assert status == 0, said
    assert "rules found" in said


def test_the_alerts_fire_when_they_should(tool: None) -> None:
    status, said = promtool("test", "rules", ALERT_TESTS)
    assert status == 0, said


def test_every_alert_is_tested() -> None:
    tested = ALERT_TESTS.read_text()
    assert [rule["alert"] for rule in RULES if rule["alert"] not in tested] == []


@pytest.mark.parametrize("broken", ["vector(1) > 2", "vector(1)"], ids=["never", "always"])
def test_an_alert_that_never_or_always_fires_is_found(
    tool: None, tmp_path: Path, broken: str
) -> None:
    rules = yaml.safe_load(ALERTS.read_text())
    for rule in rules["groups"][0]["rules"]:
        rule["expr"] = broken
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rules))
    shutil.copy(ALERT_TESTS, tmp_path)
    status, said = promtool("test", "rules", tmp_path / "alerts_test.yml")
    assert status != 0
    assert [rule["alert"] for rule in RULES if rule["alert"] not in said] == []


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    assert BOARD["schemaVersion"] >= 36
    assert BOARD["uid"]
    assert BOARD["id"] is None
    variables = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    identifiers = [panel["id"] for panel in BOARD["panels"]]
    assert len(identifiers) == len(set(identifiers))
    for panel in BOARD["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(t["datasource"] == panel["datasource"] for t in panel["targets"])
        assert len({t["refId"] for t in panel["targets"]}) == len(panel["targets"])
    for _, expression in QUERIES:
        assert 'instance=~".*"' in expression, "every query heeds the choice of daemons"


def test_the_dashboards_first_row_answers_four_questions() -> None:
    panels = BOARD["panels"]
    assert panels[0]["type"] == "row"
    first = [p["title"] for p in panels[1:5]]
    assert first == [
        "Is it alive?",
        "Is work flowing?",
        "Why is work waiting?",
        "What does it cost?",
    ]
    assert {p["gridPos"]["y"] for p in panels[1:5]} == {1}


def test_no_panel_covers_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboard_shows_every_metric() -> None:
    """Whatever is worth counting is worth a look, and what is shown exists."""
    asked = " ".join(expression for _, expression in QUERIES)
    shown = set(re.findall(rf"{PREFIX}(\w+?)(?:_bucket|_count|_sum)?\b(?={{)", asked))
    names = {metric.name for metric in declared()}
    assert shown <= names
    assert names - shown == NOT_SHOWN


NOT_SHOWN = {
    "look_success",
    "claims_paused",
    "containers_adopted_total",
    "dispatcher_losses_total",
    "dispatcher_registered",
    "dispatcher_registrations_total",
    "mailbox_longest_messages",
    "scheduler_nodes",
}
"""Left to alerts, or to who looks deeper."""
