"""What etc/kubernetes says fits together, and the daemon understands it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiClient

from nodemanager.config import Config, load
from nodemanager.launcher import main
from nodemanager.schedulers.base import SchedulerContext
from nodemanager.schedulers.kubernetes.options import KubernetesOptions
from nodemanager.schedulers.kubernetes.template import read_template
from nodemanager.schedulers.registry import find_scheduler
from tests.schedulers.kubernetes_etc import ACCOUNT, ETC, NAMESPACE, document, documents

DEPLOYMENT = document("Deployment")
POD = DEPLOYMENT["spec"]["template"]["spec"]
(DAEMON,) = POD["containers"]
(TOKENS,) = POD["initContainers"]
MODELS = {
    "ClusterRole": "V1ClusterRole",
    "ClusterRoleBinding": "V1ClusterRoleBinding",
    "Deployment": "V1Deployment",
    "Namespace": "V1Namespace",
    "PersistentVolumeClaim": "V1PersistentVolumeClaim",
    "PriorityClass": "V1PriorityClass",
    "Role": "V1Role",
    "RoleBinding": "V1RoleBinding",
    "ServiceAccount": "V1ServiceAccount",
}


@pytest.mark.parametrize(
    "manifest", tuple(documents()), ids=lambda d: f"{d['kind']}-{d['metadata']['name']}"
)
def test_a_current_release_knows_every_field(manifest: dict[str, Any]) -> None:
    client = ApiClient()
    known = client.deserialize(json.dumps(manifest), MODELS[manifest["kind"]], "application/json")
    assert client.sanitize_for_serialization(known) == manifest


def paths(container: dict[str, Any]) -> dict[str, str]:
    """Volumes by where they are mounted."""
    return {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """What stands for the root directory of the daemon's container, its volumes filled as Kubernetes does."""
    for path in (*paths(DAEMON), *paths(TOKENS)):
        (tmp_path / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for key in ("token", "management-token"):
        secret = tmp_path / "secret" / key
        secret.write_text(f"the-{key}")
        # As fsGroup has it.
        secret.chmod(0o440)
    inside = "|".join(map(re.escape, paths(DAEMON)))
    for name in ("nodemanager.cfg", "pod-template.yaml"):
        text = re.sub(f" (?=({inside})\\b)", f" {tmp_path}", (ETC / name).read_text())
        (tmp_path / "etc/arvados-node-manager" / name).write_text(text)
    return tmp_path


def at(machine: Path, word: str) -> str:
    return f"{machine}{word}" if word.startswith("/") else word


@pytest.fixture
def config(machine: Path) -> Config:
    """The daemon's, once the tokens are where it takes them from."""
    subprocess.run([at(machine, word) for word in TOKENS["command"]], check=True)
    return load(at(machine, DAEMON["args"][-1]), {})


def test_the_daemon_loads_its_config_and_tokens(config: Config) -> None:
    assert not config.warnings
    assert str(config.arvados.token) == "the-token"
    assert str(config.manage.management_token) == "the-management-token"


def test_the_scheduler_takes_its_options(config: Config, machine: Path) -> None:
    assert find_scheduler(config.dispatch.scheduler).name == "kubernetes"
    context = SchedulerContext(
        "xyzzy", machine, config.scheduler.options, store=config.runner.store
    )
    options = KubernetesOptions.of(context)
    assert options.namespace == NAMESPACE
    assert options.kubeconfig is None
    assert options.template is not None
    pod = read_template(options.template)
    assert pod["spec"]["securityContext"].items() <= POD["securityContext"].items()
    for each in options.priority_classes:
        assert document("PriorityClass", each.name)["preemptionPolicy"] == "Never"
    assert len(options.priority_classes) == sum(d["kind"] == "PriorityClass" for d in documents())


def test_the_store_is_one_volume_for_daemon_and_containers(config: Config, machine: Path) -> None:
    context = SchedulerContext(
        "xyzzy", machine, config.scheduler.options, store=config.runner.store
    )
    (claim,) = KubernetesOptions.of(context).claims
    assert str(claim.directory) == str(config.runner.store)
    assert document("PersistentVolumeClaim", claim.name)["metadata"]["namespace"] == NAMESPACE
    name = paths(DAEMON)[f"/{claim.directory.relative_to(machine)}"]
    (volume,) = (volume for volume in POD["volumes"] if volume["name"] == name)
    assert volume["persistentVolumeClaim"]["claimName"] == claim.name


def test_the_state_directory_can_be_written_to(config: Config, machine: Path) -> None:
    inside = f"/{config.daemon.state_dir.relative_to(machine)}"
    (mount,) = (m for m in DAEMON["volumeMounts"] if inside.startswith(m["mountPath"]))
    assert not mount.get("readOnly")


def test_probes_ask_what_the_management_server_answers_without_a_token(config: Config) -> None:
    (port,) = DAEMON["ports"]
    assert (config.manage.address, config.manage.port) == ("0.0.0.0", port["containerPort"])
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        get = DAEMON[name]["httpGet"]
        path = "/_health/ready" if name == "readinessProbe" else "/_health/live"
        assert get == {"path": path, "port": port["name"]}
    probe = DAEMON["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] > config.daemon.watchdog


def test_its_command_line_is_one_that_the_command_knows(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: {DAEMON['command'][0]} ")
    assert len(DAEMON["command"]) == 1
    flag, path = DAEMON["args"]
    assert f" {flag} FILE" in said
    assert path == "/etc/arvados-node-manager/nodemanager.cfg"


def test_one_daemon_at_a_time_and_nobody_of_importance() -> None:
    assert DEPLOYMENT["spec"]["replicas"] == 1
    assert DEPLOYMENT["spec"]["strategy"] == {"type": "Recreate"}
    assert POD["securityContext"]["runAsNonRoot"]
    assert POD["serviceAccountName"] == ACCOUNT
    for container in (DAEMON, TOKENS):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
