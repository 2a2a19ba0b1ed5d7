"""The server's own certificate: made at the first start, kept, and renewed when it no longer serves.

It is self-signed and its own CA file: whoever trusts the file trusts this server and nothing else. It
bears everything OpenSSL's strict checks ask of a CA and of a server.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nodemanager.server.state import write_private

LIFETIME = timedelta(days=3650)
RENEW_BEFORE_END = timedelta(days=60)

_ALWAYS = ("localhost", "127.0.0.1", "::1")
# A client's clock may be behind ours.
_VALID_SINCE = timedelta(days=1)


def ensure_certificate(certificate: Path, key: Path, hosts: Iterable[str], now: datetime) -> None:
    """Leave a usable pair at the two paths, for `hosts` (names or addresses) and this machine's names.

    The pair there is kept as long as it is whole, has all the names, and is not close to its end.
    `now` is an aware time.
    """
    names = _names(hosts)
    if _is_usable(certificate, key, names, now):
        return
    private = ec.generate_private_key(ec.SECP256R1())
    made = _self_signed(private, names, now)
    # The key first: a crash in between leaves a pair that does not match, which is made anew.
    write_private(
        key,
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode("ascii"),
    )
    write_private(certificate, made.public_bytes(serialization.Encoding.PEM).decode("ascii"))
    certificate.chmod(0o644)


def _names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    found: dict[x509.GeneralName, None] = {}
    for host in (*_ALWAYS, socket.gethostname(), *hosts):
        name = _general_name(host)
        if name is not None:
            found[name] = None
    return list(found)


def _general_name(host: str) -> x509.GeneralName | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        usable = host.isascii() and host.isprintable() and 0 < len(host) < 254
        return x509.DNSName(host.lower()) if usable else None
    # 0.0.0.0 is where one listens, never where one calls.
    return None if address.is_unspecified else x509.IPAddress(address)


def _is_usable(certificate: Path, key: Path, names: list[x509.GeneralName], now: datetime) -> bool:
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return (
        found.public_key() == private.public_key()
        and found.not_valid_before_utc <= now < found.not_valid_after_utc - RENEW_BEFORE_END
        and set(names) <= set(alternatives.value)
    )


def _self_signed(
    private: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName], now: datetime
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "arvados-dispatch-api")])
    public = private.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before((now - _VALID_SINCE).astimezone(UTC))
        .not_valid_after((now + LIFETIME).astimezone(UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True, key_cert_sign=True, crl_sign=False, key_agreement=False,
                content_commitment=False, key_encipherment=False, data_encipherment=False,
                encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False
        )
    )  # fmt: skip
    return builder.sign(private, hashes.SHA256())
