"""A real, private Kubernetes: etcd, API server, controllers and scheduler; any user, free ports, nothing left behind.

It has no node: tests make some (`podlet`), or start a real one (`kubelet`).
`python -m tests.clusters.kubernetes` starts one for a person to play with.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import requests

from tests.clusters.kubernetes_build import KubernetesMissing, find
from tests.clusters.kubernetes_conf import (
    Authority,
    Endpoints,
    KubernetesSettings,
    Users,
    apiserver_arguments,
    controllers_arguments,
    etcd_arguments,
    scheduler_arguments,
    write_audit_policy,
    write_kubeconfig,
)
from tests.clusters.processes import (
    ClusterFailed,
    Daemon,
    Den,
    Ports,
    call,
    environment,
    tail,
    until_interrupted,
    wait_until,
)

__all__ = ["Asked", "KubernetesCluster", "KubernetesMissing", "KubernetesSettings"]

_BOOTSTRAPPERS = {
    "create": "system:node-bootstrapper",
    "approve": "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
}
"""What a node with nothing but a bootstrap token may do, in any cluster that kubeadm makes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request about some object."""

    verb: str
    resource: str
    """With its part, as in ``pods/log``."""
    namespace: str
    """Empty: all of them, or none."""
    status: int
    """Of the answer."""

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Asked:
        """Read an event of the audit log."""
        target = event["objectRef"]
        resource = "/".join(filter(None, (target["resource"], target.get("subresource"))))
        status = event["responseStatus"]["code"]
        return cls(event["verb"], resource, target.get("namespace", ""), status)


class KubernetesCluster:
    """A running control plane while its `with` block lasts. Raises `KubernetesMissing`, with what to do about it."""

    directory: Path
    server: str
    """``https://127.0.0.1:port``."""
    authority: Authority
    admin_kubeconfig: Path
    admin_token: str
    guest_token: str
    """Of somebody who has no rights but those that a test gives to the user `guest`."""
    env: Mapping[str, str]
    """For kubectl and for the daemon under test: the process's own, with KUBECONFIG and a PATH."""

    def __init__(self, settings: KubernetesSettings | None = None) -> None:
        self.settings = settings or KubernetesSettings()
        self._stack = ExitStack()
        self._apiservers: list[Daemon] = []
        self._session = requests.Session()

    def __enter__(self) -> Self:
        self._bin = find()
        with self._stack:
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def programs(self) -> Path:
        """The directory of kubelet, kubectl and the others."""
        return self._bin

    @property
    def ca_file(self) -> Path:
        """What certificates are to be trusted."""
        return self.authority.file

    @property
    def port(self) -> int:
        """The API server's."""
        return self._ports.apiserver

    @property
    def etcd_url(self) -> str:
        """Where etcd answers."""
        return f"http://127.0.0.1:{self._ports.etcd}"

    def run(self, *argv: str, stdin: str = "", seconds: float = 60.0) -> str:
        """What a client, kubectl above all, says on its standard output; a failure is an error."""
        done = call(argv, env=self.env, stdin=stdin, seconds=seconds)
        if done.returncode != 0:
            raise ClusterFailed(
                f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}\n{self._logs()}"
            )
        return done.stdout.strip()

    def api(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json"
    ) -> Any:
        """One call as admin, such as ``api("GET", "/api/v1/nodes")``; the JSON of the answer.

        Raises `requests.HTTPError` for a refusal.
        """
        response = self._session.request(
            method,
            f"{self.server}{path}",
            data=None if body is None else json.dumps(body),
            headers={"Authorization": f"Bearer {self.admin_token}", "Content-Type": kind},
            verify=str(self.ca_file),
            timeout=30,
        )
        response.raise_for_status()
        return response.json()

    def make_namespace(self, name: str) -> str:
        """A namespace in which pods can be made: its service account is there."""
        self.api("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        self._wait_for_service_account(name, "default")
        return name

    def make_claim(self, namespace: str, name: str, directory: Path) -> None:
        """A claim of a volume that is a directory of this machine."""
        volume = f"{namespace}-{name}"
        common = {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
        }
        spec = {
            **common,
            "capacity": {"storage": "1Gi"},
            "hostPath": {"path": str(directory)},
            "claimRef": {"namespace": namespace, "name": name},
        }
        body = {"metadata": {"name": volume}, "spec": spec}
        self.api("POST", "/api/v1/persistentvolumes", body)
        asked = {"requests": {"storage": "1Gi"}}
        claim = {
            "metadata": {"name": name},
            "spec": {**common, "volumeName": volume, "resources": asked},
        }
        path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
        self.api("POST", path, claim)
        self.wait_until(
            lambda: self.api("GET", f"{path}/{name}")["status"].get("phase") == "Bound",
            30,
            f"the claim {name} has its volume",
        )

    def kubeconfig(self, name: str, token: str) -> Path:
        """One for who has that token."""
        return write_kubeconfig(
            self.directory / f"{name}.kubeconfig", self.server, self.ca_file, {"token": token}
        )

    def service_account_token(self, namespace: str, name: str) -> str:
        """The token of a service account that exists."""
        self._wait_for_service_account(namespace, name)
        account = self.api("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}")
        secret = account["secrets"][0]["name"]
        data = self.api("GET", f"/api/v1/namespaces/{namespace}/secrets/{secret}")["data"]
        return base64.b64decode(data["token"]).decode()

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig for a service account that exists."""
        return self.kubeconfig(f"{namespace}-{name}", self.service_account_token(namespace, name))

    def asked_by(self, namespace: str, name: str) -> Sequence[Asked]:
        """The requests of a service account so far, as the API server has noted them."""
        user = f"system:serviceaccount:{namespace}:{name}"
        lines = (self._pki / "audit.log").read_text().splitlines()
        events = [event for event in map(json.loads, lines) if event["user"]["username"] == user]
        return [Asked.of(event) for event in events if "objectRef" in event]

    def bootstrap_token(self, token_id: str = "", secret: str = "") -> str:
        """A token with which a new node may ask for its certificate, and nothing else; a new one unless it is given."""
        token_id, secret = token_id or secrets.token_hex(3), secret or secrets.token_hex(8)
        body = {
            "metadata": {"name": f"bootstrap-token-{token_id}"},
            "type": "bootstrap.kubernetes.io/token",
            "stringData": {
                "token-id": token_id,
                "token-secret": secret,
                "usage-bootstrap-authentication": "true",
                "auth-extra-groups": "system:bootstrappers:test",
            },
        }
        self.api("POST", "/api/v1/namespaces/kube-system/secrets", body)
        for name, role in _BOOTSTRAPPERS.items():
            self._bind_bootstrappers(f"bootstrappers-{name}", role)
        return f"{token_id}.{secret}"

    # The API server alone; the others go on and find it again.

    def start_apiserver(self) -> None:
        """And wait until it is ready."""
        command = apiserver_arguments(self._ports, self._pki, self.settings)
        self._apiservers.append(self._daemon("kube-apiserver", *command))
        self.wait_until(self._is_ready, 60, "the API server is ready")

    def stop_apiserver(self) -> None:
        """End it in order."""
        for daemon in self._apiservers:
            daemon.stop()

    def kill_apiserver(self) -> None:
        """End it as a crash would."""
        for daemon in self._apiservers:
            daemon.kill()

    def compact(self, version: str) -> None:
        """Let the store forget how everything was before that `resourceVersion`."""
        url = f"{self.etcd_url}/v3/kv/compaction"
        answer = self._session.post(url, json={"revision": version}, timeout=30)
        answer.raise_for_status()

    def wait_until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Raises `ClusterFailed`, with the last lines of the logs."""
        wait_until(condition, seconds, what, self._logs)

    # Inside.

    def _start(self) -> None:
        den = Den("kubernetes-")
        self._stack.callback(den.close)
        self._stack.callback(self._session.close)
        ports = Ports()
        self._stack.callback(ports.close)
        self.directory = den.path
        self._pki, self._log_dir = den.path / "pki", den.path / "log"
        self._pki.mkdir(mode=0o700)
        self._log_dir.mkdir()
        self._ports = Endpoints(*(ports.take() for _ in range(5)))
        self.server = f"https://127.0.0.1:{self._ports.apiserver}"
        self._make_credentials()
        write_audit_policy(self._pki / "audit-policy.yaml")
        self._daemon("etcd", *etcd_arguments(self._ports, den.path / "etcd"))
        self.start_apiserver()
        if self.settings.alone:
            self.wait_until(
                self._has_default_namespace, 60, "the API server has made its namespaces"
            )
        else:
            self._start_controllers()

    def _start_controllers(self) -> None:
        controllers = self.kubeconfig("controllers", self._users["system:kube-controller-manager"])
        self._daemon(
            "kube-controller-manager",
            *controllers_arguments(self._ports, self._pki, controllers, self.settings),
        )
        scheduler = self.kubeconfig("scheduler", self._users["system:kube-scheduler"])
        self._daemon("kube-scheduler", *scheduler_arguments(self._ports, self._pki, scheduler))
        self._wait_for_service_account("default", "default")

    def _make_credentials(self) -> None:
        self.authority = Authority(self._pki)
        self.authority.issue(
            "server",
            "kube-apiserver",
            addresses=("127.0.0.1", "10.96.0.1", *self.settings.addresses),
        )
        self.authority.issue("kubelet-client", "apiserver-kubelet-client", "system:masters")
        self.authority.key_pair("service-accounts")
        users = Users.new()
        users.write(self._pki / "tokens.csv")
        self._users = users.tokens
        self.admin_token, self.guest_token = self._users["admin"], self._users["guest"]
        self.admin_kubeconfig = self.kubeconfig("admin", self.admin_token)
        # KUBERNETES_*: what a pod's environment says of its cluster; this is another one.
        self.env = MappingProxyType(
            {
                **environment("KUBE"),
                "KUBECONFIG": str(self.admin_kubeconfig),
                "PATH": f"{self._bin}:{os.environ['PATH']}",
            }
        )

    def _daemon(self, program: str, *arguments: str) -> Daemon:
        daemon = Daemon(
            (str(self._bin / program), *arguments),
            # They look for clouds and proxies in their environment.
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
            directory=self.directory,
            log=self._log_dir / f"{program}.log",
        )
        self._stack.callback(daemon.wipe_out)
        return daemon

    def _is_ready(self) -> bool:
        if not self._apiservers[-1].is_running():
            raise ClusterFailed(f"kube-apiserver has ended\n{self._logs()}")
        with suppress(requests.RequestException):
            url = f"{self.server}/readyz"
            return requests.get(url, verify=str(self.ca_file), timeout=5).status_code == 200
        return False

    def _bind_bootstrappers(self, name: str, role: str) -> None:
        group = "rbac.authorization.k8s.io"
        body = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "Group", "name": "system:bootstrappers:test"}],
        }
        try:
            self.api("POST", f"/apis/{group}/v1/clusterrolebindings", body)
        except requests.HTTPError as error:
            # There already, for the token before this one?
            if error.response is None or error.response.status_code != requests.codes.conflict:
                raise

    def _has_default_namespace(self) -> bool:
        with suppress(requests.RequestException):
            return bool(self.api("GET", "/api/v1/namespaces/default"))
        return False

    def _wait_for_service_account(self, namespace: str, name: str) -> None:
        """Before it is there no pod can be made, and it has no token."""

        def is_there() -> bool:
            with suppress(requests.RequestException):
                path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}"
                return bool(self.api("GET", path).get("secrets"))
            return False

        self.wait_until(is_there, 60, f"the service account {name} of {namespace} is there")

    def _logs(self) -> str:
        return tail(*sorted(self._log_dir.iterdir()))


def main() -> None:
    """For a person: a control plane until Ctrl-C."""
    with KubernetesCluster() as cluster:
        until_interrupted(
            f"""\
export KUBECONFIG={cluster.admin_kubeconfig} PATH={cluster.programs}:$PATH

In another terminal, after that line: kubectl get nodes; kubectl create namespace mine
It has no nodes until you start one: python -m tests.clusters.podlet --help
Ctrl-C ends the cluster and removes {cluster.directory}."""
        )


if __name__ == "__main__":
    main()
