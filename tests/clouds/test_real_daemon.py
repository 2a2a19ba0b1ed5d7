"""The whole daemon with a cloud: real processes, a real moto server, real jobs on nodes that are shares of this machine."""

from __future__ import annotations

import json
import socket
import urllib.request
from typing import Any

import pytest

from nodemanager.clouds.base import CLUSTER_TAG, DISPATCHER_TAG, HOST_TAG, RECORD_TAG, SIZE_TAG
from tests.clouds.conftest import IMAGE, Account
from tests.clusters.daemons import BOUND_SECONDS, Site, create, state_of, wait_for

pytestmark = pytest.mark.processes

NODES = """\
[Cloud]
provider = {provider}
shutdown_windows = 0, 999999
turn_time = 500 ms
[Size worker]
instance_type = m5.large
cores = 1
ram = 512
scratch = 1000
price = 0.1
"""


def ec2(account: Account) -> str:
    return (
        NODES.format(provider="ec2")
        + f"""\
[Cloud Credentials]
key = k
secret = s
host = 127.0.0.1
port = {account.proxy.port}
secure = no
[Cloud Create]
image_id = {IMAGE}
ping_host = api.example.org:8443
"""
    )


def write(site: Site, more: str, *, min_nodes: int = 0) -> None:
    site.write(more)
    text = site.config.read_text()
    daemon = f"[Daemon]\nmin_nodes = {min_nodes}\nmax_nodes = 2\ncloudlist_poll_time = 1 s\n"
    text = text.replace("[Daemon]\n", daemon, 1)
    site.config.write_text(text.replace("[Scheduler]\n", "[Scheduler]\npoll_time = 1 s\n", 1))
    site.config.chmod(0o600)


def tags_of(instance: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in instance["Tags"]}


def test_a_node_at_ec2_is_booted_once_and_taken_up_by_the_next_daemon(
    site: Site, account: Account
) -> None:
    write(site, ec2(account), min_nodes=1)
    daemon = site.start()
    site.serving()
    [instance] = wait_for(account.instances, "an instance at EC2")
    tags = tags_of(instance)
    assert tags[CLUSTER_TAG] == "zzzzz"
    assert tags[SIZE_TAG] == "worker"
    assert tags[HOST_TAG] == "compute1"
    assert tags[RECORD_TAG].startswith("zzzzz-7ekkf-")
    assert tags[DISPATCHER_TAG]

    site.kill(daemon)
    lists = account.proxy.count("DescribeInstances")
    site.start()
    site.serving()
    wait_for(
        lambda: account.proxy.count("DescribeInstances") >= lists + 4, "the next daemon has looked"
    )
    assert [each["InstanceId"] for each in account.instances()] == [instance["InstanceId"]]


def test_nodes_of_this_machine_come_run_jobs_and_go(site: Site) -> None:
    write(site, NODES.format(provider="loopback"))
    daemon = site.start()
    api = site.serving()
    uuids = [create(api, "echo done") for _ in range(3)]
    wait_for(lambda: {state_of(api, uuid) for uuid in uuids} == {"Complete"}, "all complete")
    machines = site.state / "cloud"
    wait_for(lambda: not list(machines.rglob("*.json")), "the nodes have gone")
    daemon.terminate()
    assert daemon.wait(timeout=BOUND_SECONDS) == 0


def test_a_killed_daemons_nodes_and_jobs_are_taken_up(site: Site) -> None:
    write(site, NODES.format(provider="loopback"))
    go, ledger = site.folder / "go", site.folder / "ledger"
    daemon = site.start()
    api = site.serving()
    uuid = create(api, f"echo x >> {ledger}; while [ ! -e {go} ]; do sleep 0.1; done")
    wait_for(ledger.exists, "the command runs on a node")
    [machine] = (site.state / "cloud").rglob("*.json")
    name = json.loads(machine.read_text())["name"]
    site.kill(daemon)
    site.start()
    api = site.serving()
    go.touch()
    wait_for(lambda: state_of(api, uuid) == "Complete", "the adopted container completes")
    assert ledger.read_text() == "x\n"
    wait_for(lambda: not machine.exists(), f"{name} is shut when nothing waits")


def test_an_operator_holds_a_node_and_lets_it_go(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    manage = f"[Manage]\nport = {port}\nManagementToken = of-the-operator\n"
    write(site, NODES.format(provider="loopback") + manage)
    site.start()
    api = site.serving()
    base = f"http://127.0.0.1:{port}"

    token = {"Authorization": "Bearer of-the-operator"}

    def status() -> Any:
        request = urllib.request.Request(f"{base}/status.json", headers=token)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def say(verb: str, name: str) -> None:
        path = f"arvados/v1/dispatch/instances/{verb}?instance_id={name}"
        request = urllib.request.Request(f"{base}/{path}", method="POST", headers=token)
        urllib.request.urlopen(request, timeout=10).close()

    uuid = create(api, "sleep 1")
    [node] = wait_for(lambda: status()["nodes"], "a node in status.json")
    say("hold", node["name"])
    wait_for(lambda: state_of(api, uuid) == "Complete", "its job ends in peace")
    wait_for(lambda: status()["nodes"][0]["phase"] == "draining", "it takes no more work")
    decided = len(status()["history"])
    again = create(api, "true")
    wait_for(lambda: len(status()["history"]) > decided, "a decision about the next container")
    assert [each["name"] for each in status()["nodes"] if each["behaviour"] == "hold"] == [
        node["name"]
    ]
    say("run", node["name"])
    wait_for(lambda: state_of(api, again) == "Complete", "it works again")
    wait_for(lambda: not status()["nodes"], "it goes when nothing waits")
