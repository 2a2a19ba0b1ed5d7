"""The certificates, tokens and command lines of a private Kubernetes."""

from __future__ import annotations

import csv
import datetime as dt
import ipaddress
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class KubernetesSettings:
    """What a test may want otherwise."""

    node_grace_seconds: int = 40
    """A node that is silent so long is not ready."""
    eviction_seconds: int = 5
    """So long after that its pods are deleted, unless they tolerate it for longer."""
    pod_gc_threshold: int = 12500
    """More finished pods than these are deleted by the pod garbage collector."""
    addresses: tuple[str, ...] = ()
    """More addresses of this machine that the API server's certificate is for."""
    listen: str = "127.0.0.1"
    alone: bool = False
    """The API server and its store, and nobody who would do anything to pods or nodes: the tests do that."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The ports of the four."""

    etcd: int
    etcd_peer: int
    apiserver: int
    controllers: int
    scheduler: int


@dataclass(frozen=True)
class Users:
    """The tokens of those who have one by a file, by user name. Of a guest nothing is known, and RBAC lets it do nothing."""

    tokens: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def new(cls) -> Users:
        """Fresh ones."""
        names = ("admin", "guest", "system:kube-controller-manager", "system:kube-scheduler")
        return cls({name: secrets.token_hex(16) for name in names})

    def write(self, path: Path) -> None:
        """As the API server reads them: token, user, uid, groups."""
        with path.open("w", newline="") as file:
            for name, token in self.tokens.items():
                groups = ["system:masters"] if name == "admin" else []
                csv.writer(file).writerow([token, name, name, *groups])


class Authority:
    """A certificate authority below a directory, and the certificates it gives."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test-ca")])
        usage = x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = _certificate(name, name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self._certificate = builder.add_extension(usage, critical=True).sign(
            self._key, hashes.SHA256()
        )
        _write_pem(self.file, self._certificate.public_bytes(serialization.Encoding.PEM))
        _write_key(directory / "ca.key", self._key)

    @property
    def file(self) -> Path:
        """Its own certificate."""
        return self._directory / "ca.crt"

    def issue(
        self, file: str, name: str, group: str = "", addresses: Sequence[str] = ()
    ) -> tuple[Path, Path]:
        """Certificate and key for a server with addresses, or a client without."""
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if group:
            attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        key = ec.generate_private_key(ec.SECP256R1())
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if addresses else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = _certificate(
            x509.Name(attributes), self._certificate.subject, key.public_key()
        ).add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if addresses:
            known = [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
            names = [x509.DNSName("localhost"), x509.DNSName("kubernetes.default.svc")]
            builder = builder.add_extension(
                x509.SubjectAlternativeName([*known, *names]), critical=False
            )
        issued = builder.sign(self._key, hashes.SHA256())
        path = self._directory / f"{file}.crt"
        _write_pem(path, issued.public_bytes(serialization.Encoding.PEM))
        _write_key(self._directory / f"{file}.key", key)
        return path, self._directory / f"{file}.key"

    def key_pair(self, file: str) -> Path:
        """A private key alone: for the tokens of service accounts."""
        path = self._directory / f"{file}.key"
        _write_key(path, ec.generate_private_key(ec.SECP256R1()))
        return path


def write_kubeconfig(path: Path, server: str, authority: Path, user: Mapping[str, Any]) -> Path:
    """A kubeconfig for one user: `user` is a token, or a client certificate and key."""
    value = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [
            {"name": "test", "cluster": {"server": server, "certificate-authority": str(authority)}}
        ],
        "users": [{"name": "test", "user": dict(user)}],
        "contexts": [
            {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}
        ],
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(value))
    return path


def write_audit_policy(path: Path) -> None:
    """Every request of a service account is noted, but for those of Kubernetes' own."""
    rules = [
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ]
    value = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": rules,
    }
    path.write_text(yaml.safe_dump(value))


def etcd_arguments(ports: Endpoints, data: Path) -> list[str]:
    """One member, without its neighbours."""
    client, peer = (f"http://127.0.0.1:{port}" for port in (ports.etcd, ports.etcd_peer))
    return [
        "--name=test", f"--data-dir={data}", f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=test={peer}",
    ]  # fmt: skip


def apiserver_arguments(ports: Endpoints, pki: Path, settings: KubernetesSettings) -> list[str]:
    """With everything that a cluster has by default, RBAC above all."""
    # What these wait for, or do for the time being, controllers have to follow up.
    alone = ["--disable-admission-plugins=ServiceAccount,TaintNodesByCondition"]
    return [
        f"--etcd-servers=http://127.0.0.1:{ports.etcd}",
        f"--bind-address={settings.listen}", "--advertise-address=127.0.0.1",
        f"--secure-port={ports.apiserver}",
        # There is nobody else to reach it by a service.
        "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16",
        f"--tls-cert-file={pki}/server.crt", f"--tls-private-key-file={pki}/server.key",
        f"--cert-dir={pki}", f"--client-ca-file={pki}/ca.crt",
        f"--token-auth-file={pki}/tokens.csv", "--authorization-mode=Node,RBAC",
        "--enable-bootstrap-token-auth=true", "--allow-privileged=true",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        f"--service-account-key-file={pki}/service-accounts.key",
        f"--audit-policy-file={pki}/audit-policy.yaml", f"--audit-log-path={pki}/audit.log",
        "--max-requests-inflight=2000", "--max-mutating-requests-inflight=1000",
        *(alone if settings.alone else ()),
    ]  # fmt: skip


def controllers_arguments(
    ports: Endpoints, pki: Path, kubeconfig: Path, settings: KubernetesSettings
) -> list[str]:
    """All controllers; without their own service accounts RBAC would let them do nothing."""
    return [
        f"--kubeconfig={kubeconfig}", "--use-service-account-credentials=true",
        "--leader-elect=false", "--bind-address=127.0.0.1", f"--secure-port={ports.controllers}",
        "--port=0", f"--cert-dir={pki}/controllers",
        f"--service-account-private-key-file={pki}/service-accounts.key",
        f"--root-ca-file={pki}/ca.crt", f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        f"--node-monitor-grace-period={settings.node_grace_seconds}s",
        "--node-monitor-period=1s", f"--pod-eviction-timeout={settings.eviction_seconds}s",
        # By default one lost node in ten seconds; those of tests that are over would be waited for.
        "--node-eviction-rate=100",
        f"--terminated-pod-gc-threshold={settings.pod_gc_threshold}",
        "--kube-api-qps=500", "--kube-api-burst=1000", "--concurrent-gc-syncs=20",
        "--controllers=*,bootstrapsigner,tokencleaner",
    ]  # fmt: skip


def scheduler_arguments(ports: Endpoints, pki: Path, kubeconfig: Path) -> list[str]:
    """The stock one."""
    return [
        f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1",
        f"--secure-port={ports.scheduler}", "--port=0", f"--cert-dir={pki}/scheduler",
        "--kube-api-qps=500", "--kube-api-burst=1000",
    ]  # fmt: skip


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=2))
    )


def _write_pem(path: Path, pem: bytes) -> None:
    path.write_bytes(pem)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
