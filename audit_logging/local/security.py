"""Users, roles and passwords of a secured server. Nothing here has a default that somebody could guess."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from audit_logging._version import install_command
from audit_logging.errors import LocalServerError
from audit_logging.local.certificates import NODE_NAME, write_certificates

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from audit_logging.local.account import Account

ADMIN = "admin"
DASHBOARDS = "kibanaserver"
"""The account that OpenSearch Dashboards itself uses; the role of that name is built into the plugin."""

RULES = "opensearch-security"
"""The directory, below the configuration, that the plugin reads its first users and roles from."""


def settings(prefix: str = "") -> dict[str, Any]:
    """Return the entries of ``opensearch.yml``: TLS on both ports, users that the administrator may manage.

    Args:
        prefix: Where the certificates lie, from the configuration directory: empty, or ending with a slash.
    """
    files = {"pemcert_filepath": "node.pem", "pemkey_filepath": "node-key.pem", "pemtrustedcas_filepath": "ca.pem"}
    entries: dict[str, Any] = {
        f"plugins.security.ssl.{layer}.{key}": prefix + name
        for layer in ("transport", "http")
        for key, name in files.items()
    }
    return entries | {
        "plugins.security.ssl.http.enabled": True,
        "plugins.security.ssl.transport.enforce_hostname_verification": False,
        "plugins.security.allow_default_init_securityindex": True,
        "plugins.security.nodes_dn": [f"CN={NODE_NAME}"],
        "plugins.security.restapi.roles_enabled": ["all_access"],
        "plugins.security.audit.type": "noop",  # the plugin's own audit log; it has nowhere to go here
    }


def new_password() -> str:
    """Return a password of 144 random bits."""
    return secrets.token_urlsafe(18)


def secure_instance(config: Path, account: Account) -> str:
    """Write certificates and users into the configuration of a new server; return the administrator's password.

    Raises:
        LocalServerError: A package is missing.
    """
    password = new_password()
    write_certificates(config)
    rules = config / RULES
    rules.mkdir(mode=0o700)
    write_rules(rules, {ADMIN: password})
    for path in (*config.glob("*.pem"), *rules.iterdir()):
        path.chmod(0o600)
        account.own(path)
    account.own(rules)
    return password


def write_rules(directory: Path, passwords: Mapping[str, str]) -> None:
    """Write all that the plugin reads at its first start: these users, and the roles that are built in.

    Args:
        directory: Made before; see :data:`RULES`.
        passwords: User to password: :data:`ADMIN`, and :data:`DASHBOARDS` where that is used.

    Raises:
        LocalServerError: The package ``bcrypt`` is missing.
    """
    basic = {
        "http_enabled": True,
        "transport_enabled": True,
        "order": 0,
        "http_authenticator": {"type": "basic", "challenge": True},
        "authentication_backend": {"type": "intern"},
    }
    contents: dict[str, tuple[str, dict[str, Any]]] = {
        "config": ("config", {"config": {"dynamic": {"authc": {"basic_internal_auth_domain": basic}}}}),
        "internal_users": ("internalusers", {name: _user(name, password) for name, password in passwords.items()}),
        "roles_mapping": (
            "rolesmapping",
            {
                "all_access": {"reserved": False, "users": [ADMIN]},
                "kibana_server": {"reserved": True, "users": [DASHBOARDS]},
            },
        ),
        "audit": ("audit", {"config": {"enabled": False}}),
        "allowlist": ("allowlist", {"config": {"enabled": False, "requests": {}}}),
        "roles": ("roles", {}),
        "action_groups": ("actiongroups", {}),
        "tenants": ("tenants", {}),
        "nodes_dn": ("nodesdn", {}),
    }
    for name, (kind, content) in contents.items():
        meta = {"_meta": {"type": kind, "config_version": 2}}
        (directory / f"{name}.yml").write_text(json.dumps({**meta, **content}))  # JSON is YAML


def _user(name: str, password: str) -> dict[str, Any]:
    # Reserved users cannot be changed over the REST API, not even by an administrator.
    return {"hash": _hash(password), "reserved": name == DASHBOARDS}


def _hash(password: str) -> str:
    try:
        import bcrypt
    except ImportError:
        raise LocalServerError(f"A secured server needs more packages: {install_command('local')}.") from None
    hashed: str = bcrypt.hashpw(password.encode(), bcrypt.gensalt(10, prefix=b"2a")).decode()
    return hashed
