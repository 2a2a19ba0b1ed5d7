"""A real node for a private Kubernetes: kubelet, containerd and runc on this machine, for root.

They run on a host of their own (see hosts.py), a network and a file system in which what nodes write to is elsewhere. So
the kernel takes their mounts, bridges and settings away with the last of their processes, however these end.
`python -m tests.clusters.kubelet` starts one, with its cluster, for a person to play with.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import shutil
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Self

import requests

from tests.clusters import packages
from tests.clusters.cgroups import Cgroups, CgroupsMissing
from tests.clusters.hosts import NamespaceHosts, NamespacesMissing
from tests.clusters.images import write_images
from tests.clusters.kubelet_conf import (
    KERNEL_SETTINGS,
    NODE_DIRECTORIES,
    NODE_LABELS,
    SERVICE_ADDRESS,
    kubelet_arguments,
    write_containerd_files,
    write_kubelet_config,
)
from tests.clusters.kubernetes import KubernetesCluster
from tests.clusters.kubernetes_conf import write_kubeconfig
from tests.clusters.processes import (
    ClusterFailed,
    Daemon,
    Den,
    call,
    tail,
    until_interrupted,
    wait_until,
)
from tests.clusters.tcpproxy import TcpProxy

__all__ = ["KubeletMissing", "RealKubelet"]

_PACKAGES = ("containerd", "runc", "containernetworking-plugins", "busybox-static")
_PROGRAMS = ("containerd", "ctr", "runc", "busybox", "/usr/lib/cni/bridge")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CLONE_NEWNET = 0x40000000


class KubeletMissing(Exception):
    """It cannot run here."""


class RealKubelet:
    """A ready node while its `with` block lasts. Raises `KubeletMissing`, with what to do about it.

    What is to run on it selects the node (`pool: real`) and tolerates its taint (`only=real`), so that nothing else ever
    lands there; its images are those of images.py. Pods reach this machine at `address`, and the API server where pods
    look for it; nothing else.
    """

    address: str
    """This machine's, as pods see it: servers of the tests that listen there can be reached from them."""
    node_labels: Mapping[str, str] = MappingProxyType(dict(NODE_LABELS))

    def __init__(
        self, cluster: KubernetesCluster, name: str = "k1", *, bootstrap: bool = False
    ) -> None:
        """With `bootstrap` it has nothing to join the cluster with but a token and the authority's certificate."""
        self.name = name
        self._cluster = cluster
        self._bootstrap = bootstrap
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise KubeletMissing("a real kubelet needs root")
        packages.ensure(_PACKAGES, lambda: all(map(shutil.which, _PROGRAMS)), KubeletMissing)
        with self._stack:
            try:
                self._start()
            except (NamespacesMissing, CgroupsMissing) as error:
                raise KubeletMissing(str(error)) from error
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def path(self) -> str:
        """The node's, below the API server."""
        return f"/api/v1/nodes/{self.name}"

    def setting(self, name: str) -> Path:
        """The node's own file for a kernel setting, such as ``kernel/panic``."""
        return self.directory / "settings" / name

    def _start(self) -> None:
        den = Den("kubelet-")
        self._stack.callback(den.close)
        self.directory = den.path
        self._log_dir = den.path / "log"
        self._log_dir.mkdir()
        self._cgroups = Cgroups(self.name)
        self._stack.callback(self._remove_cgroups)
        self._stack.callback(self._forget)
        self._hosts = NamespaceHosts(den.path, self._log_dir)
        self._stack.callback(self._hosts.close)
        self._hosts.add(self.name)
        self.address = self._hosts.address
        self._make_host()
        self._start_containerd()
        self._serve_api()
        arguments = kubelet_arguments(
            self.name,
            self._hosts.address_of(self.name),
            write_kubelet_config(
                self.directory / "kubelet.yaml",
                self._cluster.ca_file,
                self._hosts.address_of(self.name),
                self._cgroups.path,
            ),
            self.directory / "kubelet.kubeconfig",
        )
        self._kubelet = self._daemon(
            "kubelet", str(self._cluster.programs / "kubelet"), *self._identity(), *arguments
        )
        wait_until(self._is_ready, 90, f"node {self.name} is ready", self._logs)

    def _make_host(self) -> None:
        """Its directories and kernel settings; and half of its network is for its pods."""
        for number, path in enumerate(NODE_DIRECTORIES):
            own = self.directory / f"host-{number}"
            own.mkdir()
            self._inside("mount", "--bind", str(own), path)
        for name in KERNEL_SETTINGS:
            # No namespace has its own: the kubelet finds a file instead, and writes what it wants there.
            setting = self.setting(name)
            setting.parent.mkdir(parents=True, exist_ok=True)
            setting.write_text("0\n")
            self._inside("mount", "--bind", str(setting), f"/proc/sys/{name}")
        network = ipaddress.ip_network(f"{self.address}/24", strict=False)
        assert isinstance(network, ipaddress.IPv4Network)
        _, self._pods = network.subnets()
        route = ("ip", "route", "add", str(self._pods), "via", self._hosts.address_of(self.name))
        _must(*route)  # goes with the host

    def _start_containerd(self) -> None:
        config = write_containerd_files(self.directory, self._pods)
        self._containerd = self._daemon("containerd", "containerd", f"--config={config}")
        client = self._hosts.inside(self.name, "ctr", "--namespace=k8s.io")
        wait_until(
            lambda: call((*client, "version"), env=os.environ).returncode == 0,
            30,
            "containerd answers",
            self._logs,
        )
        images = self.directory / "images"
        images.mkdir()
        for archive in write_images(images):
            _must(*client, "images", "import", str(archive))
        shutil.rmtree(images)

    def _serve_api(self) -> None:
        """The API server listens on this machine's loopback interface, which is another one on the host."""
        self._inside("ip", "address", "add", f"{SERVICE_ADDRESS}/32", "dev", "lo")
        namespace = Path(f"/proc/{self._containerd.pid}/ns/net")
        # In a thread that ends: it is in the other network from then on.
        with ThreadPoolExecutor(1) as visitor:
            listener = visitor.submit(_listen_in, namespace, SERVICE_ADDRESS, 443).result()
        proxy = TcpProxy(self._cluster.port, listener)
        self._stack.callback(proxy.close)

    def _identity(self) -> list[str]:
        server = f"https://{SERVICE_ADDRESS}"
        authority = self._cluster.ca_file
        if self._bootstrap:
            path = self.directory / "bootstrap.kubeconfig"
            write_kubeconfig(path, server, authority, {"token": self._cluster.bootstrap_token()})
            return [f"--bootstrap-kubeconfig={path}"]
        certificate, key = self._cluster.authority.issue(
            f"node-{self.name}", f"system:node:{self.name}", "system:nodes"
        )
        user = {"client-certificate": str(certificate), "client-key": str(key)}
        write_kubeconfig(self.directory / "kubelet.kubeconfig", server, authority, user)
        return []

    def _daemon(self, label: str, *command: str) -> Daemon:
        daemon = Daemon(
            self._hosts.inside(self.name, *command),
            # Nothing of this machine's; and nobody is to be asked which cloud this is.
            env={"PATH": _PATH, "HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true"},
            directory=self.directory,
            log=self._log_dir / f"{label}.log",
        )
        self._hosts.belongs(self.name, daemon)
        return daemon

    def _is_ready(self) -> bool:
        if not self._kubelet.is_running():
            raise ClusterFailed(f"the kubelet of {self.name} has ended\n{self._logs()}")
        with suppress(requests.RequestException):
            node = self._cluster.api("GET", self.path)
            conditions = {each["type"]: each["status"] for each in node["status"]["conditions"]}
            # The taint of those that are not ready goes a little later.
            return conditions["Ready"] == "True" and len(node["spec"]["taints"]) == 1
        return False

    def _forget(self) -> None:
        """Its processes have ended: neither it nor its pods will be heard of again."""
        with suppress(requests.RequestException):
            pods = f"/api/v1/pods?fieldSelector=spec.nodeName={self.name}"
            for pod in self._cluster.api("GET", pods)["items"]:
                about = pod["metadata"]
                with suppress(requests.RequestException):
                    self._cluster.api(
                        "DELETE",
                        f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}",
                        {"gracePeriodSeconds": 0},
                    )
            self._cluster.api("DELETE", self.path)

    def _remove_cgroups(self) -> None:
        wait_until(self._cgroups.is_removed, 20, f"{self._cgroups.path} is removed", self._logs)

    def _inside(self, *command: str) -> None:
        _must(*self._hosts.inside(self.name, *command))

    def _logs(self) -> str:
        return tail(*sorted(self._log_dir.iterdir()))


def _must(*command: str) -> None:
    done = call(command, env=os.environ)
    if done.returncode != 0:
        raise ClusterFailed(f"{' '.join(command)}: {done.stderr.strip()}")


def _listen_in(namespace: Path, address: str, port: int) -> socket.socket:
    """A socket stays in the network in which it was made."""
    with namespace.open() as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the network {namespace}")
    return socket.create_server((address, port))


def main() -> None:
    """For a person: a cluster with one node until Ctrl-C."""
    with KubernetesCluster() as cluster, RealKubelet(cluster) as kubelet:
        until_interrupted(
            f"""\
export KUBECONFIG={cluster.admin_kubeconfig} PATH={cluster.programs}:$PATH

In another terminal, after that line: kubectl get nodes; its pods need
    nodeSelector: {{pool: real}}, tolerations: [{{key: only, value: real}}], an image of images.py
and reach this machine at {kubelet.address}.
Ctrl-C ends both and removes {cluster.directory} and {kubelet.directory}."""
        )


if __name__ == "__main__":
    main()
