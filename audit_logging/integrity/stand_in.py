"""The stand-in for an event that OpenSearch refused: made by the shipper, and made again by verification.

One function makes it, of the refused document and the reason alone. So verification can tell a stand-in of the shipper
from one that somebody wrote to hide an event or to show another in its place.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

MOST_REASON_CHARACTERS: Final = 4000
"""The reason is the server's text, and under no seal: it is for people, and bounded."""


def stand_in(payload: bytes, reason: str) -> bytes:
    """Return the stand-in for a refused document: its seal verbatim, the document as text that is not indexed.

    It keeps the place of the event in its writer's chain, so that verification finds no gap.

    Args:
        payload: The sealed document, in canonical form.
        reason: Why OpenSearch refused it.

    Raises:
        ValueError: *payload* is no audit event.
    """
    try:
        refused = orjson.loads(payload)
        made = {
            "@timestamp": refused["@timestamp"],
            "audit": {
                "integrity": refused["audit"]["integrity"],
                "quarantine": {"document": payload.decode(), "reason": reason[:MOST_REASON_CHARACTERS]},
                "schema": refused["audit"]["schema"],
            },
            "event": {"action": "audit.quarantined", "id": refused["event"]["id"], "kind": "pipeline_error"},
            "log": {"level": "critical"},
            "message": "An event was refused by OpenSearch and is kept in quarantine",
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"no audit event ({error})") from error
    return orjson.dumps(made, option=orjson.OPT_SORT_KEYS)


def refused_document(stored: dict[str, Any]) -> dict[str, Any] | None:
    """Return the document within a stand-in; None unless *stored* is what :func:`stand_in` makes of it.

    Every member of a stand-in is compared. Nothing that a reader shows of it can come from anywhere else.
    """
    try:
        quarantine = stored["audit"]["quarantine"]
        payload, reason = quarantine["document"].encode(), quarantine["reason"]
        document: dict[str, Any] = orjson.loads(payload)
        # What the shipper sent was canonical: sorted, and no key twice.
        canonical = orjson.dumps(document, option=orjson.OPT_SORT_KEYS) == payload
        if not canonical or orjson.dumps(stored, option=orjson.OPT_SORT_KEYS) != stand_in(payload, reason):
            return None
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
    return document if "quarantine" not in document["audit"] else None
