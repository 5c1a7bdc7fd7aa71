"""The roles of the trail: who may create, read, verify and administer it. None may change or delete an event.

Each is a file of ``index_templates/roles``, named on the server after the stream: ``audit-events-writer``. Users are
mapped to them by whoever runs the cluster; nothing here makes a user.

Source: OpenSearch documentation, "Access control", "Users and roles", "Document-level security" and "API".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from audit_logging.errors import NotFoundError, OpenSearchError
from audit_logging.opensearch.steps import Request, SetupReport, Step
from audit_logging.opensearch.templates import MANAGER, template_text

if TYPE_CHECKING:
    from audit_logging.opensearch.capabilities import Capabilities
    from audit_logging.opensearch.client import Client

ROLES = ("writer", "analyst", "tenant-analyst", "auditor", "administrator")
"""The roles, least first."""

_API = "/_plugins/_security/api/roles"


def role_name(stream: str, role: str) -> str:
    """Return the name of one of :data:`ROLES` for *stream*.

    Example:
        >>> role_name("audit-shop", "writer")
        'audit-shop-writer'
    """
    return f"{stream}-{role}"


def role_definition(stream: str, role: str) -> dict[str, Any]:
    """Return what the security plugin is told of one of :data:`ROLES` for *stream*.

    Backing indices are named by a regular expression: with a wildcard, the roles of ``audit`` would open the backing
    indices of ``audit-payroll`` as well.

    Example:
        >>> for allowed in role_definition("audit-shop", "writer")["index_permissions"]:
        ...     print(*allowed["index_patterns"])
        audit-shop
        /\\.ds-audit-shop-[0-9]+/
    """
    escaped = template_text(f"roles/{role}.json", stream).replace(f"ds-{stream}-", f"ds-{_escaped(stream)}-")
    definition: dict[str, Any] = orjson.loads(escaped)
    return definition


def _escaped(stream: str) -> str:
    """Return the name as it stands in a regular expression in JSON; of its characters only the dot means more there."""
    return stream.replace(".", r"\\.")


def plan_roles(client: Client, stream: str, able: Capabilities) -> SetupReport:
    """Compare the roles with what is there, and return the steps between. Changes nothing.

    Raises:
        OpenSearchError: The server has no security plugin, a role of that name is somebody else's, or the credentials
            do not allow to look.
    """
    if able.security is False:
        raise OpenSearchError(
            f"{able.release} has no security plugin, so it knows no roles: whoever reaches it may do everything."
            " Install the plugin, or set up without --security."
        )
    steps = tuple(_role_step(client, role_name(stream, role), role_definition(stream, role)) for role in ROLES)
    note = (
        f"Nobody has these roles yet: map users to them, applications to {role_name(stream, 'writer')!r}"
        f" (PUT _plugins/_security/api/rolesmapping/{role_name(stream, 'writer')})."
    )
    return SetupReport(stream, dry_run=True, steps=steps, notes=(note,) if any(map(_is_new, steps)) else ())


def _role_step(client: Client, name: str, wanted: dict[str, Any]) -> Step:
    path = f"{_API}/{name}"
    put = (Request("PUT", path, wanted),)
    try:
        present = client.request("GET", path)[name]
    except NotFoundError:
        return Step("role", name, "created", requests=put)
    if MANAGER not in str(present.get("description", "")):
        raise OpenSearchError(
            f"There is already another role {name!r} that audit-logging did not make: rename or delete it, or choose"
            " another stream with --stream (or AUDIT_STREAM)."
        )
    if _essence(present) == _essence(wanted):
        return Step("role", name, "unchanged")
    return Step("role", name, "updated", "it differed from what it should be", requests=put)


def _essence(role: dict[str, Any]) -> dict[str, Any]:
    """Return what a role says, without what the server adds to it."""
    permissions = [
        {key: value for key, value in permission.items() if value} for permission in role["index_permissions"]
    ]
    return {
        "description": role.get("description"),
        "cluster_permissions": sorted(role["cluster_permissions"]),
        "index_permissions": permissions,
    }


def _is_new(step: Step) -> bool:
    return step.outcome == "created"
