"""A throw-away authority and one certificate. The authority's key is never written: nothing else can be signed."""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import TYPE_CHECKING

from audit_logging._version import install_command
from audit_logging.errors import LocalServerError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, CertificateBuilder, GeneralName

VALID_DAYS = 365
AUTHORITY_NAME = "audit-logging local authority"
NODE_NAME = "audit-logging-local"


def write_certificates(directory: Path, *, hosts: Iterable[str] = ("localhost", "127.0.0.1")) -> None:
    """Write ``ca.pem``, ``node.pem`` and ``node-key.pem`` into *directory*; the certificate is good for *hosts*.

    Raises:
        LocalServerError: The package ``cryptography`` is missing.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise LocalServerError(f"A secured server needs more packages: {install_command('local')}.") from None

    authority_key, node_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret = directory / "node-key.pem"
    secret.touch(mode=0o600)
    secret.write_bytes(node_key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    (directory / "node.pem").write_bytes(_sign_node(node_key, authority_key, hosts).public_bytes(pem))
    (directory / "ca.pem").write_bytes(_sign_authority(authority_key).public_bytes(pem))


def _sign_authority(key: EllipticCurvePrivateKey) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _begin(AUTHORITY_NAME, key, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )


def _sign_node(
    key: EllipticCurvePrivateKey, authority_key: EllipticCurvePrivateKey, hosts: Iterable[str]
) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    # Nodes speak TLS with each other in both roles.
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        _begin(NODE_NAME, key, authority_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _begin(
    common_name: str, key: EllipticCurvePrivateKey, authority_key: EllipticCurvePrivateKey
) -> CertificateBuilder:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    now = dt.datetime.now(dt.timezone.utc)
    issuer_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(named(common_name))
        .issuer_name(named(AUTHORITY_NAME))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
        .add_extension(issuer_identifier, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _general_name(host: str) -> GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
