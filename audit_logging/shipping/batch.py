"""The body of one bulk request, and of the stand-in for an event that is refused. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from audit_logging.spool.segment import Record, Records


def document_id(writer: str, sequence: int) -> str:
    """Return the ``_id`` that makes a second attempt harmless."""
    return f"{writer}-{sequence}"


def encode_batch(records: Records, writer: str) -> bytes:
    """Return the body of one bulk request that only creates.

    Args:
        records: Sealed documents; at least one.
        writer: The writer they are from.

    Returns:
        UTF-8 NDJSON: two lines a record (action, document), each ended by a newline.

    Source: OpenSearch documentation, "Bulk", section "Request body".
    """
    action = b'{"create":{"_id":"%b-%%d"}}' % writer.encode()
    lines = [b""] * (2 * len(records) + 1)
    lines[:-1:2] = [action % sequence for sequence in records.sequences]
    lines[1::2] = records.payloads
    return b"\n".join(lines)  # which copies each document once


def quarantine_document(record: Record, reason: str) -> bytes:
    """Return the stand-in for a refused document: its seal verbatim, the document as text that is not indexed.

    It keeps the place of the event in its writer's chain, so that verification finds no gap.

    Raises:
        ValueError: The record is no audit event.
    """
    try:
        refused = orjson.loads(record.payload)
        stand_in = {
            "@timestamp": refused["@timestamp"],
            "audit": {
                "integrity": refused["audit"]["integrity"],
                "quarantine": {"document": record.payload.decode(), "reason": reason},
                "schema": refused["audit"]["schema"],
            },
            "event": {"action": "audit.quarantined", "id": refused["event"]["id"], "kind": "pipeline_error"},
            "log": {"level": "critical"},
            "message": "An event was refused by OpenSearch and is kept in quarantine",
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"no audit event ({error})") from error
    return orjson.dumps(stand_in, option=orjson.OPT_SORT_KEYS)
