"""How a new node with nothing but a bootstrap token gets a certificate of its own, as a kubelet does."""

from __future__ import annotations

import base64
import time
from dataclasses import replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.clusters.podlet_api import Access, Api, Object

_REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_BOUND_SECONDS = 60.0
_LOOK_SECONDS = 0.1


class BootstrapRefused(Exception):
    """No certificate was given."""


def bootstrap(access: Access, name: str, directory: Path) -> Access:
    """What the node of that name is known by from now on; kept in a directory, for the next time."""
    key_file, certificate_file = directory / f"{name}.key", directory / f"{name}.crt"
    if not certificate_file.exists():
        directory.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        key_file.touch(mode=0o600)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        api = Api(access)
        try:
            certificate_file.write_bytes(_certificate(api, _request(name, key)))
        finally:
            api.close()
    return replace(access, token="", certificate=certificate_file, key=key_file)


def _request(name: str, key: ec.EllipticCurvePrivateKey) -> Object:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{name}"),
        ]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return {
        "metadata": {"generateName": "node-csr-"},
        "spec": {
            "request": base64.b64encode(pem).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "key encipherment", "client auth"],
        },
    }


def _certificate(api: Api, request: Object) -> bytes:
    """Wait for the controllers to approve and to sign."""
    name = api.create(_REQUESTS, request)["metadata"]["name"]
    deadline = time.monotonic() + _BOUND_SECONDS
    while time.monotonic() < deadline:
        status = api.get(f"{_REQUESTS}/{name}").get("status", {})
        if "certificate" in status:
            return base64.b64decode(status["certificate"])
        time.sleep(_LOOK_SECONDS)
    raise BootstrapRefused(f"{name} has no certificate after {_BOUND_SECONDS:g} s: {status}")
