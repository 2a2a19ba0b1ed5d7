"""The names of the metrics follow Prometheus' conventions, and the reference lists exactly what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from nodemanager import metrics
from nodemanager.clock import ManualClock
from nodemanager.metrics import Declared
from nodemanager.reason import ReasonToken, Tier
from nodemanager.server.database import IN_MEMORY, Database
from nodemanager.server.metrics import Metrics
from nodemanager.server.policy import Policy
from nodemanager.server.service import Service
from nodemanager.status import metrics_reference
from nodemanager.status.metrics import FAMILIES
from nodemanager.status.waits import TOKENS

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs/reference/metrics.md"
ALERTS = REPOSITORY / "etc/prometheus/alerts.yml"
ALL = metrics_reference.declared()

each = pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)

MULTIPLES = re.compile(
    r"_(milliseconds|ms|micros|minutes|hours|days|kib|mib|gib|kb|mb|gb|percent|ratio_percent)(_|$)"
)
BOUNDED = {
    "actor": "classes of actors",
    "call": "methods of `Scheduler`",
    "claimed": "yes and no",
    "cloud": "one, of the config file",
    "command": "programs that a scheduler module runs",
    "end": "`EndKind`, and none",
    "kind": "two or three words of the code",
    "libcloud": "one version",
    "arvados": "one version",
    "pykka": "one version",
    "python": "one version",
    "version": "one version",
    "method": "methods of the discovery document",
    "operation": "`clouds.hand.OPERATIONS`",
    "outcome": "words of the code",
    "phase": "`NodePhase`",
    "reason": "`ReasonToken`, and none",
    "scheduler": "those of the config file",
    "size": "those of the config file, and unknown",
    "source": "four words of the code",
    "stage": "`Stage`, and claim",
    "state": "states of containers or of nodes",
    "use": "used and free",
}
"""Every label, and why it has few values."""


def test_there_is_no_name_twice() -> None:
    names = [metric.name for metric in ALL]
    assert len(names) == len(set(names))
    assert len(names) == len(FAMILIES) + len(metrics.DECLARED)


@each
def test_the_name_follows_the_conventions(metric: Declared) -> None:
    name = metric.name
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)
    assert not MULTIPLES.search(name), "base units: seconds, bytes"
    assert name.endswith("_total") == (metric.kind == "counter")
    assert ("timestamp" in name) == name.endswith("_timestamp_seconds")
    if metric.kind == "histogram":
        assert name.endswith(("_seconds", "_bytes"))
        assert "duration" in name
    # What Prometheus itself adds to names of histograms and summaries.
    assert not name.endswith(("_bucket", "_sum", "_count", "_created"))


@each
def test_its_labels_have_few_values(metric: Declared) -> None:
    assert set(metric.labels) <= BOUNDED.keys(), "say why a new label is bounded"
    assert len(set(metric.labels)) == len(metric.labels)
    assert not {"instance", "job", "le", "quantile"} & set(metric.labels), "those are Prometheus'"


@each
def test_it_says_what_it_tells(metric: Declared) -> None:
    assert metric.doc.endswith(".")
    assert "|" not in metric.doc, "it stands in a table"
    assert metrics_reference.topic_of(metric)
    for label in metric.labels:
        values = BOUNDED[label]
        assert values


def test_the_registry_holds_what_is_declared() -> None:
    registered = {
        family.name.removeprefix(metrics.PREFIX) + "_total" * (family.type == "counter")
        for family in metrics.REGISTRY.collect()
        if not family.name.startswith("process_")
    }
    assert registered == {metric.name for metric in metrics.DECLARED}


def test_the_page_is_what_make_docs_writes() -> None:
    assert PAGE.read_text() == metrics_reference.page(), "run: make docs"


def test_the_page_lists_every_metric_once() -> None:
    rows = re.findall(r"^\| `([a-z_]+)(?:\{[a-z_,]+\})?` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(metric.name for metric in ALL)


def test_a_metric_without_a_topic_is_found() -> None:
    with pytest.raises(LookupError, match="add it to one"):
        metrics_reference.topic_of(Declared("unheard_of", "gauge", "", ()))


def test_the_api_servers_metrics_are_documented() -> None:
    database = Database(IN_MEMORY, ManualClock())
    try:
        text = Metrics(Service(database, Policy(), "zzzzz", lambda: 0.5)).text().decode()
    finally:
        database.close()
    names = set(re.findall(r"^# TYPE (arvados_dispatch_api_\w+)", text, re.MULTILINE))
    shown = (REPOSITORY / "docs/how-to/run-the-api-server.md").read_text() + PAGE.read_text()
    missing = [
        name for name in sorted(names) if name.removeprefix("arvados_dispatch_api") not in shown
    ]
    assert names
    assert not missing


# Reasons.


def test_every_token_is_a_value_of_its_label() -> None:
    assert set(TOKENS) == {token.value for token in ReasonToken} | {"none"}


def test_the_alert_about_waiting_leaves_out_what_no_operator_can_end() -> None:
    rules = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    [expr] = [rule["expr"] for rule in rules if rule["alert"] == "NodeManagerContainersWait"]
    [pattern] = re.findall(r'reason!~"([^"]+)"', expr)
    left_out = set(pattern.split("|"))
    hopeless = {t.value for t in ReasonToken if t.tier in (Tier.NEVER, Tier.HOLD)}
    assert left_out >= hopeless | {ReasonToken.RUN_AFTER.value, ReasonToken.BACKOFF.value}
    assert not left_out & {t.value for t in ReasonToken if t.tier is Tier.LIMIT}


# Alerts.


def test_every_alert_has_a_summary_a_description_and_a_runbook() -> None:
    headings = {
        heading.lower() for heading in re.findall(r"^### (\w+)$", PAGE.read_text(), re.MULTILINE)
    }
    rules = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    for rule in rules:
        told = rule["annotations"]
        assert told["summary"]
        assert re.search(r"\b[Ll]ook\b", told["description"]), "it says where to look"
        assert told["runbook_url"] == f"docs/reference/metrics.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")
    assert headings == {rule["alert"].lower() for rule in rules}
