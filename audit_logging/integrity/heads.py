"""The last signed event of every writer of one spool directory, so that a missing writer shows.

    <spool directory>/heads/<stream>/
        <writer>.json             a head that no other writer has signed yet
        vouched/<writer>.json     a head that another writer has signed into its own chain

A writer replaces its file with every event it signs. A writer that starts signs the heads it finds in
``heads/<stream>`` and moves them to ``vouched``, so each head is signed once, however many writers follow. Every event
that vouches for others is signed itself, and so becomes a new head: all signed events of the spool directory can be
reached from the heads that no writer has signed yet.
"""

from __future__ import annotations

import os
import re
from itertools import islice
from typing import TYPE_CHECKING, Final

from audit_logging.integrity.sealed_event import read_sealed_event
from audit_logging.interrupts import suppress
from audit_logging.private import FILE_MODE, check_private_directory, private_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from audit_logging.integrity.sealed_event import SealedEvent

HEADS: Final = "heads"
VOUCHED: Final = "vouched"
_FILE = re.compile(r"[0-9a-f]{20}\.json")


class Heads:
    """The heads that a spool directory keeps for one stream.

    Args:
        spool: The spool directory.
        stream: The data stream that the writers are of.
    """

    def __init__(self, spool: Path, stream: str) -> None:
        self.path = spool / HEADS / stream
        self._spool = spool
        self._vouched = self.path / VOUCHED

    def keep(self, writer: str, document: bytes) -> None:
        """Make *document*, the last event that *writer* signed, its head.

        Raises:
            OSError: The disk refused, or others can write the directory.
        """
        private_directory(self.path, within=self._spool)
        fresh = self.path / f".{writer}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(fresh, flags, FILE_MODE), "wb") as file:
            file.write(document)
        fresh.replace(self.path / f"{writer}.json")

    def forget(self, writer: str) -> None:
        """Delete the head of a writer whose end another chain vouches for."""
        for directory in (self.path, self._vouched):
            with suppress(OSError):
                (directory / f"{writer}.json").unlink()

    def vouch(self, heads: Iterable[SealedEvent]) -> None:
        """Note that another writer has signed *heads*, none of which is the last event of its writer.

        A crash before this only means that they are signed a second time.
        """
        with suppress(OSError):
            private_directory(self._vouched, within=self._spool)
            for head in heads:
                self._move(head)

    def _move(self, head: SealedEvent) -> None:
        name = f"{head.writer}.json"
        with suppress(OSError):  # another writer signed it too, and was faster
            (self.path / name).replace(self._vouched / name)
            if (self._vouched / name).read_bytes() != head.document:
                # Its writer signed another event just before the move. An even newer head keeps its place.
                os.link(self._vouched / name, self.path / name)

    def unvouched(self, most: int) -> list[SealedEvent]:
        """Return up to *most* heads that no other writer has signed, in no particular order.

        The cost does not grow with the number of heads in the directory.
        """
        return list(islice(self._read_all(self.path), most))

    def __iter__(self) -> Iterator[SealedEvent]:
        """Yield the newest head of each writer, in the order of the writers' ids; damaged files are skipped."""
        newest: dict[str, SealedEvent] = {}
        for directory in (self._vouched, self.path):
            for head in self._read_all(directory):
                known = newest.get(head.writer)
                if known is None or known.sequence < head.sequence:
                    newest[head.writer] = head
        yield from (newest[writer] for writer in sorted(newest))

    def _read_all(self, directory: Path) -> Iterator[SealedEvent]:
        # What others could have written must not be signed, nor believed.
        with suppress(OSError):
            check_private_directory(directory, within=self._spool)
            with os.scandir(directory) as entries:
                yield from filter(None, map(_read, self._named(directory, entries)))

    def _named(self, directory: Path, entries: Iterable[os.DirEntry[str]]) -> Iterator[Path]:
        return (directory / entry.name for entry in entries if _FILE.fullmatch(entry.name))


def _read(path: Path) -> SealedEvent | None:
    with suppress(OSError):
        head = read_sealed_event(path.read_bytes())
        if head is not None and head.genuine and f"{head.writer}.json" == path.name:
            return head
    return None
