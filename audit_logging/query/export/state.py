"""How far an export came: what is needed to go on after whatever ended it, in a file beside the unfinished one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from audit_logging.errors import QueryError
from audit_logging.files import MAX_FILE_BYTES, write_durably
from audit_logging.private import read_private

if TYPE_CHECKING:
    from pathlib import Path

VERSION: Final = 1


@dataclass
class State:
    """An export up to its last complete part.

    Attributes:
        query: What is exported: stream, server, the filter as it was given, format, order and compression. Another
            query cannot go on with this state.
        filter: The filter with absolute times.
        begun: When it began, ISO-8601 in UTC.
        next: Milliseconds since 1970 from which on events are still to be read; None: all of them.
        read: Whether all was read, and only the end is missing.
        bytes: Size of the file so far.
        content_bytes, content_sha256: Of the content so far, before compression.
        copies: Identical second copies that were left out.
        tally: Counts of the events so far (see :class:`~audit_logging.query.export.tally.Tally`).
        resumed: When it went on, each time.
        method: By which method the last part was read.
        event_id: The ``audit.exported`` that tells of it, once it was emitted.
    """

    query: dict[str, Any]
    filter: dict[str, Any]
    begun: str
    next: int | None = None
    read: bool = False
    bytes: int = 0
    content_bytes: int = 0
    content_sha256: str = ""
    copies: int = 0
    tally: dict[str, Any] = field(default_factory=dict)
    resumed: list[str] = field(default_factory=list)
    method: str = ""
    event_id: str | None = None
    version: int = VERSION

    def save(self, path: Path) -> None:
        """Put it in place of the file before, so that at any moment one of the two is there, whole."""
        write_durably(path, orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2))

    @classmethod
    def load(cls, path: Path) -> State | None:
        """Return the state in *path*; None when there is none.

        Raises:
            QueryError: It is no state, or of another version.
        """
        try:
            data = read_private(path, MAX_FILE_BYTES)
        except FileNotFoundError:
            return None
        try:
            state = cls(**orjson.loads(data))
        except (orjson.JSONDecodeError, TypeError):
            state = None
        if state is None or state.version != VERSION:
            raise QueryError(f"{path} is not the state of an export that this version began: begin anew with --fresh.")
        return state
