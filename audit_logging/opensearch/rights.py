"""What the given credentials may do beyond what they should. Tried with requests that find nothing to change."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from audit_logging.errors import CredentialsError, RefusedError
from audit_logging.opensearch.check import Check
from audit_logging.opensearch.roles import role_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.opensearch.capabilities import Capabilities
    from audit_logging.opensearch.client import Client

_NAME = "rights"


def check_rights(client: Client, stream: str, able: Capabilities) -> Check:
    """Tell whether the credentials could do the trail harm.

    Each way is tried on a document or index that does not exist: the server looks at the rights first.
    """
    if able.security is False:
        sentence = f"{able.release} knows no users: whoever reaches it may read the trail and delete its indices."
        return Check(_NAME, "warning", sentence, "Install the security plugin, or let only the application reach it.")
    harmful = [what for what, method, path in _ways(stream) if _may(client, method, path)]
    if not harmful:
        return Check(_NAME, "ok", "These credentials can neither change nor delete what is in the trail.")
    return Check(
        _NAME,
        "warning",
        f"These credentials may {', '.join(harmful)}. That is right for the administrator, and for nobody else.",
        f"Give applications the role {role_name(stream, 'writer')!r} (`audit-logging setup --security` makes it).",
    )


def _ways(stream: str) -> Iterator[tuple[str, str, str]]:
    nothing = f"no-such-{secrets.token_hex(8)}"
    yield "delete events", "DELETE", f"/{stream}/_doc/{nothing}"
    yield "delete backing indices", "DELETE", f"/.ds-{stream}-{'9' * 12}"
    yield "manage users and roles", "GET", f"/_plugins/_security/api/roles/{nothing}"


def _may(client: Client, method: str, path: str) -> bool:
    try:
        client.request(method, path)
    except CredentialsError:
        return False
    except (
        RefusedError
    ) as error:  # allowed, and not found; or allowed, and stopped because a stream takes only new events
        return "no handler found" not in error.reason
    return True
