"""OpenSearch Dashboards over its saved-objects API, as far as the set-up needs it."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

import orjson
import urllib3

from audit_logging.errors import (
    CredentialsError,
    NotFoundError,
    OpenSearchError,
    RefusedError,
    SettingsError,
    UnreachableError,
)
from audit_logging.opensearch.credentials import tls_context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from audit_logging.settings import Settings

SavedObject = dict[str, Any]

_WORKSPACE = re.compile(r"/w/([^/]+)$")
WORKSPACES = "/api/workspaces/_list"
BULK_GET = "/api/saved_objects/_bulk_get"
IMPORT = "/api/saved_objects/_import?overwrite=true"
FILE_NAME = "audit.ndjson"
"""Dashboards refuses a file of another extension."""

NEEDS_2_19 = " It must be version 2.19 or newer."

TOLD_ERRORS = 3
"""How many of an import's errors are told; one cause often fails all of them."""


class DashboardsClient:
    """Speaks with the Dashboards that ``dashboards_url`` names. Use it in a ``with`` block.

    Raises:
        SettingsError: No ``dashboards_url`` is set, or a TLS file cannot be read.

    Source: OpenSearch Dashboards, ``src/core/server/saved_objects/routes``; the API's documentation is Kibana 7.10's.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.dashboards_url is None:
            raise SettingsError(
                "No OpenSearch Dashboards is configured: set dashboards_url (or AUDIT_DASHBOARDS_URL), for example"
                " http://127.0.0.1:5601."
            )
        self.url = settings.dashboards_url.rstrip("/")
        workspace = _WORKSPACE.search(self.url)
        self.workspace = workspace[1] if workspace else None
        """The workspace that the URL names, if any."""
        self._headers = {"osd-xsrf": "true", "securitytenant": settings.dashboards_tenant}
        if settings.opensearch_username is not None:
            password = settings.opensearch_password.get_secret_value() if settings.opensearch_password else ""
            pair = f"{settings.opensearch_username}:{password}".encode()
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        tls = tls_context(settings) if self.url.startswith("https") else None
        self._pool = urllib3.PoolManager(timeout=settings.opensearch_timeout_seconds, ssl_context=tls)

    def read(self, objects: Sequence[SavedObject]) -> list[SavedObject | None]:
        """Return what Dashboards holds under the types and ids of *objects*, in their order; None: nothing.

        Raises:
            UnreachableError: There was no answer.
            OpenSearchError: Dashboards refused, as a whole or for one of them.
        """
        wanted = [{"id": item["id"], "type": item["type"]} for item in objects]
        answer = self._send(BULK_GET, {"Content-Type": "application/json"}, body=orjson.dumps(wanted))
        items = answer.get("saved_objects")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise UnreachableError(
                f"OpenSearch Dashboards at {self.url} answered without saved_objects. Is a proxy or another program"
                " answering in its place?"
            )
        found = {(item.get("type"), item.get("id")): item for item in items}
        return [self._present(found.get((item["type"], item["id"]))) for item in objects]

    def _present(self, found: SavedObject | None) -> SavedObject | None:
        if found is None or "error" not in found:
            return found
        error = found["error"]
        if error.get("statusCode") == 404:  # noqa: PLR2004
            return None
        raise OpenSearchError(
            f"OpenSearch Dashboards at {self.url} does not give its {found['type']} {found['id']!r}:"
            f" {error.get('message', error)}."
        )

    def put(self, objects: Sequence[SavedObject]) -> None:
        """Store *objects* in place of those of the same types and ids.

        What it says is not to be trusted: read them back.

        Raises:
            UnreachableError: There was no answer, so what became of them is unknown.
            OpenSearchError: Dashboards refused, as a whole or some of them.
        """
        lines = b"\n".join(orjson.dumps(item) for item in objects)
        answer = self._send(IMPORT, {}, fields={"file": (FILE_NAME, lines, "application/ndjson")})
        if not answer.get("success"):
            errors = answer.get("errors") or []
            told = "; ".join(map(_explain, errors[:TOLD_ERRORS]))
            hint = NEEDS_2_19 if any("unsupported_type" in _explain(error) for error in errors) else ""
            more = f"; and {len(errors) - TOLD_ERRORS} more" if len(errors) > TOLD_ERRORS else ""
            raise OpenSearchError(
                f"OpenSearch Dashboards at {self.url} refused saved objects: {told or 'it does not say which'}{more}."
                f"{hint} See its log, then run the set-up again."
            )
        renamed = [item for item in answer.get("successResults") or [] if item.get("destinationId")]
        if renamed:
            raise OpenSearchError(
                f"OpenSearch Dashboards at {self.url} stored {len(renamed)} objects under other ids, for example"
                f" the {renamed[0].get('type')} {renamed[0].get('id')!r} as {renamed[0]['destinationId']!r}: objects of"
                " these ids exist outside this workspace. Delete the copies, then assign the originals to it."
            )

    def has_workspaces(self) -> bool:
        """Return whether workspaces are enabled.

        Source: OpenSearch documentation, "Workspace APIs"; without the feature there is no such route.
        """
        try:
            return bool(self._send(WORKSPACES, {"Content-Type": "application/json"}, body=b"{}").get("success"))
        except OpenSearchError:  # absent, or not for this user: then nothing is known that would be worth a note
            return False

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, path: str, headers: dict[str, str], **content: Any) -> dict[str, Any]:
        """Send one POST and return the JSON object that answers it."""
        headers = {**self._headers, **headers}
        try:
            # A redirect is not followed: it would take the credentials along.
            answer = self._pool.request(
                "POST", self.url + path, headers=headers, redirect=False, retries=False, **content
            )
        except urllib3.exceptions.SSLError as error:
            raise UnreachableError(
                f"TLS with OpenSearch Dashboards at {self.url} failed ({error}). Set opensearch_ca_file (or"
                " AUDIT_OPENSEARCH_CA_FILE, or --ca-file) to the authority that signed its certificate."
            ) from error
        except urllib3.exceptions.ReadTimeoutError as error:
            raise UnreachableError(
                f"OpenSearch Dashboards at {self.url} did not answer in time. Is it still starting, or overloaded?"
            ) from error
        except urllib3.exceptions.HTTPError as error:
            raise UnreachableError(
                f"No OpenSearch Dashboards answers at {self.url} ({error}). Check dashboards_url (or"
                " AUDIT_DASHBOARDS_URL), and that it runs."
            ) from error
        return self._decode(answer.status, answer.headers.get("location", ""), answer.data)

    def _decode(self, status: int, location: str, body: bytes) -> dict[str, Any]:
        try:
            decoded = orjson.loads(body)
        except ValueError:
            decoded = None
        if status == 200 and isinstance(decoded, dict):  # noqa: PLR2004
            return decoded
        raise self._refusal(status, location, decoded, body)

    def _refusal(self, status: int, location: str, decoded: Any, body: bytes) -> OpenSearchError:
        message = decoded.get("message") or decoded.get("error") if isinstance(decoded, dict) else None
        reason = str(message or body[:200].decode("utf-8", "replace"))
        facts: dict[str, Any] = {"status": status, "error_type": "", "reason": reason, "body": decoded}
        base_path = (
            "give dashboards_url with the base path that it is served under, if it has one (such as /_dashboards)"
        )
        if status == 200:  # noqa: PLR2004
            return UnreachableError(f"What answers at {self.url} is not OpenSearch Dashboards: {base_path}.")
        if 300 <= status < 400:  # noqa: PLR2004
            return RefusedError(
                f"What answers at {self.url} sends elsewhere ({status}, to {location or 'nowhere'}), which is not"
                f" followed: {base_path}; where it asks for a single sign-on, allow basic authentication as well.",
                **facts,
            )
        if status == 401:  # noqa: PLR2004
            return CredentialsError(
                f"OpenSearch Dashboards at {self.url} does not accept the credentials (401): check opensearch_username"
                " and opensearch_password (AUDIT_OPENSEARCH_USERNAME, AUDIT_OPENSEARCH_PASSWORD).",
                **facts,
            )
        if status == 403:  # noqa: PLR2004
            return CredentialsError(
                f"The credentials do not allow to store objects in OpenSearch Dashboards at {self.url} (403):"
                f" {reason}. The user needs to use Dashboards, and to write to its global tenant or the workspace.",
                **facts,
            )
        if status == 404:  # noqa: PLR2004
            return NotFoundError(f"{self.url} has no saved-objects API (404): {base_path}.", **facts)
        hint = NEEDS_2_19 if status == 422 else ""  # noqa: PLR2004
        return RefusedError(f"OpenSearch Dashboards at {self.url} refused ({status}): {reason}{hint}", **facts)


def _explain(failed: dict[str, Any]) -> str:
    """Say in a few words why one object was not stored.

    Example:
        >>> error = {"type": "missing_references", "references": [{"type": "index-pattern", "id": "p"}]}
        >>> _explain({"type": "search", "id": "s", "error": error})
        "search 's': missing_references (index-pattern 'p')"
    """
    error = failed.get("error") or {}
    missing = ", ".join(f"{item.get('type')} {item.get('id')!r}" for item in error.get("references") or [])
    detail = missing or error.get("message")
    return f"{failed.get('type')} {failed.get('id')!r}: {error.get('type', 'unknown')}" + (
        f" ({detail})" if detail else ""
    )
