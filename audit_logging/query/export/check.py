"""Proves an exported file against its manifest, offline: the sums, the counts, the order, and every event's seal."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import orjson

from audit_logging.errors import FilterError, QueryError
from audit_logging.files import TooLargeError, open_regular
from audit_logging.integrity.sealed_event import read_sealed_event
from audit_logging.query.export.formats import format_of
from audit_logging.query.export.manifest import ORDERED, read_manifest
from audit_logging.query.export.page import UNSEALED, place_of
from audit_logging.query.export.tally import Tally, differences

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from audit_logging.query.export.page import Stored

BATCH: Final = 1000
_SUMS: Final = ("bytes", "sha256", "content_bytes", "content_sha256")
_TALLIED: Final = ("events", "first", "last", "hours", "unsealed", "writers")


def check_export(manifest_path: Path) -> Iterator[str]:
    """Yield a sentence for everything in which the files are not what their manifest says; nothing proves them.

    Args:
        manifest_path: The manifest; the files lie beside it.

    Raises:
        QueryError: There is no manifest to go by.
    """
    manifest = read_manifest(manifest_path)
    check = _Check(manifest)
    for claimed in manifest["files"]:
        path = manifest_path.parent / str(claimed.get("name"))
        if path.parent != manifest_path.parent:
            raise QueryError(f"{manifest_path} names a file elsewhere: files lie beside their manifest.")
        try:
            with open_regular(path) as raw:
                yield from check.file(path.name, raw, {name: claimed.get(name) for name in _SUMS})
        except FileNotFoundError:
            yield f"{path.name} is missing"
        except OSError as error:
            raise QueryError(f"{path} cannot be read ({error.strerror or error}).") from None
    if check.holds_documents:
        yield from differences({name: manifest.get(name) for name in _TALLIED}, check.tally.facts())


class _Check:
    """What was found so far in the files of one manifest."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        self.tally = Tally()
        self._ordered = manifest.get("order") == ORDERED
        self._compressed = manifest.get("compression") == "gzip"
        try:
            self._format = format_of(manifest)
        except (FilterError, TypeError):
            raise QueryError("The manifest names no format that this version knows.") from None
        self._chains = _Chains()
        self._before: Any = None

    @property
    def holds_documents(self) -> bool:
        """Whether single events can be checked: not in a table without their column."""
        return self._format.is_exact

    def file(self, name: str, raw: BinaryIO, claimed: dict[str, Any]) -> Iterator[str]:
        """Yield what is wrong with one file."""
        file = _Hashing(raw)
        content = _Hashing(gzip.GzipFile(fileobj=io.BufferedReader(file)) if self._compressed else file)
        try:
            yield from self._events(name, self._format.documents(io.BufferedReader(content)))
            content.drain()
        except TooLargeError as error:
            yield f"{name}: {error.strerror}"
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            yield f"{name} is damaged: {error}"
        except (UnicodeDecodeError, csv.Error):
            yield f"{name} is no text of its format"
        file.drain()
        found = {"bytes": file.bytes, "sha256": file.sha256}
        found |= {"content_bytes": content.bytes, "content_sha256": content.sha256}
        yield from (f"{name}: {difference}" for difference in differences(claimed, found))

    def _events(self, name: str, lines: Iterator[bytes]) -> Iterator[str]:
        """Count the events of a file, and yield what is wrong with single ones."""
        batch: list[Stored] = []
        for number, line in enumerate(lines, 1):
            where = f"{name}, event {number}"
            try:
                orjson.loads(line)
                event: Stored = (*place_of(line), line)
            except (ValueError, OverflowError):
                yield f"{where}: not a JSON object"
                continue
            yield from (f"{where}: {problem}" for problem in self._chains.problems(event))
            if self._ordered and self._before is not None and event[:3] < self._before:
                yield f"{where}: out of order"
            self._before = event[:3]
            batch.append(event)
            if len(batch) == BATCH:
                self.tally.add(batch)
                batch = []
        self.tally.add(batch)


@dataclass
class _Chains:
    """Where each writer's chain stands."""

    _heads: dict[str, tuple[int, str]] = field(default_factory=dict)

    def problems(self, event: Stored) -> Iterator[str]:
        """Yield what is wrong with the seal of the next event."""
        if event[1:3] == UNSEALED:
            return
        sealed = read_sealed_event(event[3])
        if sealed is None:
            yield "its seal has no writer or number as writers give them"
            return
        if not sealed.genuine:
            yield f"its content does not have the hash of its seal ({sealed.place})"
        last, head = self._heads.get(sealed.writer, (0, ""))
        if last == sealed.sequence - 1 and head not in {"", sealed.previous}:
            yield f"it does not follow the event before it ({sealed.place})"
        self._heads[sealed.writer] = (sealed.sequence, sealed.hash)


class _Hashing(io.RawIOBase):
    """A file that hashes what is read of it."""

    def __init__(self, raw: Any) -> None:
        super().__init__()
        self._raw = raw
        self._hash = hashlib.sha256()
        self.bytes = 0

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes."""
        data = self._raw.read(len(buffer))
        buffer[: len(data)] = data
        self._hash.update(data)
        self.bytes += len(data)
        return len(data)

    def drain(self) -> None:
        """Read what nobody asked for."""
        buffer = bytearray(1 << 16)
        while self.readinto(buffer):
            pass

    @property
    def sha256(self) -> str:
        """SHA-256 of what was read, in hexadecimal."""
        return self._hash.hexdigest()
