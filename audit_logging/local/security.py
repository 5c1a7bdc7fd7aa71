"""Throw-away security for one server: an authority, a certificate, an administrator. Nothing here has a default."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import secrets
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from audit_logging.errors import LocalServerError

if TYPE_CHECKING:
    from pathlib import Path

    from audit_logging.local.installation import Installation

ADMIN = "admin"
VALID_DAYS = 365
_NODE_NAME = "audit-logging-local"

SETTINGS: dict[str, Any] = {
    "plugins.security.ssl.transport.pemcert_filepath": "node.pem",
    "plugins.security.ssl.transport.pemkey_filepath": "node-key.pem",
    "plugins.security.ssl.transport.pemtrustedcas_filepath": "ca.pem",
    "plugins.security.ssl.transport.enforce_hostname_verification": False,
    "plugins.security.ssl.http.enabled": True,
    "plugins.security.ssl.http.pemcert_filepath": "node.pem",
    "plugins.security.ssl.http.pemkey_filepath": "node-key.pem",
    "plugins.security.ssl.http.pemtrustedcas_filepath": "ca.pem",
    "plugins.security.allow_default_init_securityindex": True,
    "plugins.security.nodes_dn": [f"CN={_NODE_NAME}"],
    "plugins.security.restapi.roles_enabled": ["all_access"],
    "plugins.security.audit.type": "noop",  # its own audit log; it has nowhere to go here
}
"""For ``opensearch.yml``: TLS on both ports; the administrator may make users and roles over the REST API."""


def secure_instance(config: Path, installation: Installation) -> str:
    """Write certificates and users into *config*; return the administrator's password.

    Raises:
        LocalServerError: A package is missing, or the password cannot be hashed.
    """
    password = secrets.token_urlsafe(18)
    _write_certificates(config)
    rules = config / "opensearch-security"
    shutil.copytree(_plugin(installation) / "config", rules, ignore=shutil.ignore_patterns("*.example"))
    users = {
        "_meta": {"type": "internalusers", "config_version": 2},
        ADMIN: {
            "hash": _hash(password, installation),
            "reserved": False,
            "backend_roles": ["admin"],
            "description": "The administrator of this server",
        },
    }
    (rules / "internal_users.yml").write_text(json.dumps(users))  # JSON is YAML; replaces the plugin's demo users
    for path in (rules, *rules.iterdir(), *config.glob("*.pem")):
        path.chmod(0o700 if path.is_dir() else 0o600)
        installation.account.own(path)
    return password


def _plugin(installation: Installation) -> Path:
    return installation.distribution.home / "plugins" / "opensearch-security"


def _hash(password: str, installation: Installation) -> str:
    """Hash with the plugin's own tool, so that its format is always the one that this version reads."""
    class_path = f"{_plugin(installation)}/*:{installation.distribution.class_path}"
    command = [str(installation.java.program), "-XX:TieredStopAtLevel=1", "-cp", class_path]
    answer = subprocess.run(  # noqa: S603
        [*command, "org.opensearch.security.tools.Hasher", "-env", "PASSWORD"],
        env={"PATH": os.defpath, "PASSWORD": password},
        capture_output=True,
        text=True,
        check=False,
    )
    hashes: list[str] = [line for line in answer.stdout.split() if line.startswith("$2")]
    if not hashes:
        raise LocalServerError(
            f"The security plugin of OpenSearch {installation.distribution.version} cannot hash a password"
            f" ({(answer.stderr or answer.stdout).strip()[-200:]}); 2.19.4 is known to work."
        )
    return hashes[-1]


def _write_certificates(config: Path) -> None:
    """Write an authority (its key is thrown away) and the node's certificate for the loopback address."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError:
        raise LocalServerError("A secured server needs one more package: pip install 'audit-logging[local]'.") from None

    def named(common_name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])

    def build(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )

    authority_name = named("audit-logging local authority")
    authority_key, node_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    key_usage = {
        "digital_signature": True, "content_commitment": False, "key_encipherment": False, "data_encipherment": False,
        "key_agreement": False, "key_cert_sign": True, "crl_sign": True, "encipher_only": False, "decipher_only": False,
    }  # fmt: skip
    authority = (
        build(authority_name, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**key_usage), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    loopback = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    node = (
        build(named(_NODE_NAME), node_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(loopback), critical=False)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    node_pem = node_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (config / "node-key.pem").touch(mode=0o600)
    (config / "node-key.pem").write_bytes(node_pem)
    (config / "node.pem").write_bytes(node.public_bytes(serialization.Encoding.PEM))
    (config / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
