"""Events that OpenSearch refused even in quarantine: kept on disk, one file each, until somebody replays them."""

from __future__ import annotations

import datetime as dt
import os
from typing import TYPE_CHECKING, Any

import orjson

from audit_logging.shipping.batch import document_id

if TYPE_CHECKING:
    from pathlib import Path

    from audit_logging.spool.segment import Record


class DeadLetters:
    """The dead letters of one spool directory.

    Args:
        path: Their directory; made, private, with the first one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def keep(self, record: Record, writer: str, reason: str) -> Path:
        """Write one refused event and return its file. Keeping the same one again changes nothing.

        Raises:
            OSError: The disk refused, so that the event must stay in the spool.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.path / f"{document_id(writer, record.sequence)}.json"
        letter = {
            "writer": writer,
            "sequence": record.sequence,
            "reason": reason,
            "kept": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
            "document": record.payload.decode(),
        }
        fresh = path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(letter))
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
        return path

    def __iter__(self) -> Any:
        """Yield the letters as objects, in the order of their names."""
        for path in sorted(self.path.glob("*.json")):
            yield orjson.loads(path.read_bytes())
