"""A real Kubernetes API server and its store, and nothing else: no controllers, no scheduler, no kubelet.

What these would do to pods and nodes, the tests do. The binary is looked for in the directory that the environment
variable KUBERNETES_BIN names, and on the PATH.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import urllib.request
from contextlib import suppress
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Self

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.clusters.processes import Daemon, Den, Ports, call, environment, tail, wait_until

_START_SECONDS = 90.0
_ETCD = "etcd"
_API_SERVER = "kube-apiserver"


class ApiServerMissing(Exception):
    """The programs are not there; says how to get them."""


class ApiServer:
    """See the module's docstring. A context manager, as only its end removes everything."""

    def __init__(self) -> None:
        self._etcd_program = _find(_ETCD, "apt-get install etcd-server etcd-client")
        self._program = _find(_API_SERVER, "set KUBERNETES_BIN to a directory that has one")
        self._den = Den("kubeapi-")
        self._ports = Ports()
        self._etcd_port, peer = self._ports.take(), self._ports.take()
        self.port = self._ports.take()
        path = self._den.path
        self._log = path / "apiserver.log"
        self._etcd_log = path / "etcd.log"
        self._certificate = path / "pki" / "apiserver.crt"
        self._tokens = {"admin": secrets.token_hex(), "guest": secrets.token_hex()}
        self._write_keys()
        self._etcd = Daemon(
            (
                self._etcd_program,
                f"--data-dir={path / 'etcd'}",
                f"--listen-client-urls={self._etcd_url}",
                f"--advertise-client-urls={self._etcd_url}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-cluster=default=http://127.0.0.1:{peer}",
            ),
            env=environment("ETCD"),
            directory=path,
            log=self._etcd_log,
        )
        self._server: Daemon | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in (self._server, self._etcd):
            if daemon is not None:
                daemon.wipe_out()
        self._ports.close()
        self._den.close()

    # What tests do to it.

    def start(self) -> None:
        """Start it, as often as it has ended, and wait until it answers."""
        path = self._den.path
        if self._server is not None:
            self._server.wipe_out()
        self._server = Daemon(
            (
                self._program,
                f"--etcd-servers={self._etcd_url}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={self.port}",
                "--endpoint-reconciler-type=none",
                "--service-cluster-ip-range=10.96.0.0/16",
                f"--cert-dir={path / 'pki'}",
                f"--token-auth-file={path / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-signing-key-file={path / 'accounts.key'}",
                f"--service-account-key-file={path / 'accounts.key'}",
                # Nobody makes service accounts here, nor says how nodes are.
                "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
            ),
            env=environment("KUBE"),
            directory=path,
            log=self._log,
        )
        wait_until(self._answers, _START_SECONDS, "the API server answers", self.logs)

    def stop(self) -> None:
        """End it in order: watches are ended."""
        assert self._server is not None
        self._server.stop()

    def kill(self) -> None:
        """End it where it stands."""
        assert self._server is not None
        self._server.kill()

    def compact(self, revision: str) -> None:
        """Let the store forget what was before this version."""
        program = _find("etcdctl", "apt-get install etcd-client")
        command = (program, f"--endpoints={self._etcd_url}", "compact", revision)
        done = call(command, env={**environment("ETCD"), "ETCDCTL_API": "3"})
        assert done.returncode == 0, done.stderr

    def kubeconfig(self, user: str = "admin", port: int = 0) -> Path:
        """A file for `admin`, who may do anything, or `guest`, who may do what roles say; by way of another port."""
        port = port or self.port
        path = self._den.path / f"{user}-{port}.kubeconfig"
        cluster = {
            "server": f"https://127.0.0.1:{port}",
            "certificate-authority": str(self._certificate),
        }
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self.token(user)}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": user}}],
        }
        path.write_text(yaml.safe_dump(content))
        return path

    def token(self, user: str) -> str:
        """By which that user is known."""
        return self._tokens[user]

    @property
    def certificate(self) -> Path:
        """Of the server, in PEM, with its authority."""
        return self._certificate

    def logs(self) -> str:
        """The ends of its logs."""
        return tail(self._log, self._etcd_log)

    # Inside.

    @property
    def _etcd_url(self) -> str:
        return f"http://127.0.0.1:{self._etcd_port}"

    def _write_keys(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        (self._den.path / "accounts.key").write_bytes(pem)
        lines = (
            f'{self._tokens["admin"]},admin,admin,"system:masters"\n'
            f"{self._tokens['guest']},guest,guest\n"
        )
        (self._den.path / "tokens.csv").write_text(lines)

    def _answers(self) -> bool:
        assert self._server is not None
        assert self._server.is_running(), self.logs()
        with suppress(OSError):
            context = create_default_context(cafile=str(self._certificate))
            url = f"https://127.0.0.1:{self.port}/readyz"
            with urllib.request.urlopen(url, context=context, timeout=5) as answer:
                return bool(answer.status == 200) and self._has_namespace(context)
        return False

    def _has_namespace(self, context: SSLContext) -> bool:
        """It makes that by itself, a moment after it is ready."""
        url = f"https://127.0.0.1:{self.port}/api/v1/namespaces/default"
        request = urllib.request.Request(
            url, headers={"Authorization": f"Bearer {self.token('admin')}"}
        )
        with urllib.request.urlopen(request, context=context, timeout=5) as answer:
            return bool(json.load(answer)["kind"] == "Namespace")


def _find(program: str, advice: str) -> str:
    folder = os.environ.get("KUBERNETES_BIN", "")
    found = shutil.which(program, path=os.pathsep.join((folder, os.environ.get("PATH", ""))))
    if found is None:
        raise ApiServerMissing(f"{program} is missing: {advice}")
    return found
