"""The heads of the writers of one spool directory, so that a whole writer cannot vanish unnoticed.

    <spool directory>/heads/<stream>/
        <writer>.json     the last event that this writer signed, as it is in the trail

A file belongs to its writer, which replaces it with every event it signs; nobody waits for anybody. Whoever starts
next signs what is here into its own chain. The head of a writer that has ended is forgotten then: from now on the
other chain vouches for it. So there are files only for the living and for the last of the dead.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

from audit_logging.integrity.sealed_event import read_sealed_event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from audit_logging.integrity.sealed_event import SealedEvent

HEADS = "heads"
_FILE = re.compile(r"[0-9a-f]{20}\.json")


class Heads:
    """The heads that a spool directory keeps for one stream.

    Args:
        spool: The spool directory.
        stream: The data stream that the writers are of.
    """

    def __init__(self, spool: Path, stream: str) -> None:
        self.path = spool / HEADS / stream

    def keep(self, writer: str, document: bytes) -> None:
        """Make *document*, the last event that *writer* signed, its head.

        Raises:
            OSError: The disk refused.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self.path / f".{writer}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(document)
        fresh.replace(self.path / f"{writer}.json")

    def forget(self, writer: str) -> None:
        """Let go of the head of a writer that another chain vouches for."""
        with contextlib.suppress(OSError):
            (self.path / f"{writer}.json").unlink()

    def __iter__(self) -> Iterator[SealedEvent]:
        """Yield the heads, in the order of the writers' ids. What is damaged says nothing and is passed over."""
        with contextlib.suppress(OSError):
            for path in sorted(self.path.iterdir()):
                if not _FILE.fullmatch(path.name):
                    continue
                with contextlib.suppress(OSError):
                    head = read_sealed_event(path.read_bytes())
                    if head is not None and head.genuine and f"{head.writer}.json" == path.name:
                        yield head
