"""The body of one bulk request. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audit_logging.spool.segment import Records


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
