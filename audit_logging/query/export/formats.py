"""What an export's content looks like: a document a line, one JSON array, or a table for spreadsheets."""

from __future__ import annotations

import codecs
import csv
import io
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from audit_logging.errors import FilterError
from audit_logging.files import MAX_LINE_BYTES, TooLargeError, bounded_lines
from audit_logging.printable import printable
from audit_logging.query.event import Event

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Format(Protocol):
    """Turns documents, each on one line, into content and back."""

    begin: bytes
    end: bytes
    is_exact: bool
    """Whether the documents can be had back."""

    def encode(self, lines: Sequence[bytes], *, first: bool) -> bytes:
        """Return the content that *lines* are; *first* when none was before them."""
        ...

    def documents(self, content: io.BufferedReader) -> Iterator[bytes]:
        """Yield the documents of a whole content again."""
        ...


class Ndjson:
    """One stored document a line, byte for byte."""

    begin = b""
    end = b""
    is_exact = True

    def encode(self, lines: Sequence[bytes], *, first: bool) -> bytes:  # noqa: ARG002 - each line is like any other
        """Return the lines, each ended."""
        return b"\n".join([*lines, b""])

    def documents(self, content: io.BufferedReader) -> Iterator[bytes]:
        """Yield the lines."""
        for line in bounded_lines(content, "the export"):
            yield line.rstrip(b"\n")


class JsonArray:
    """One JSON array, with a stored document, byte for byte, on each of its lines."""

    begin = b"[\n"
    end = b"\n]\n"
    is_exact = True

    def encode(self, lines: Sequence[bytes], *, first: bool) -> bytes:
        """Return the lines, commas between them."""
        return (b"" if first else b",\n") + b",\n".join(lines)

    def documents(self, content: io.BufferedReader) -> Iterator[bytes]:
        """Yield what stands between the brackets."""
        for line in bounded_lines(content, "the export"):
            document = line.rstrip(b"\n").removesuffix(b",")
            if document not in {b"[", b"]", b""}:
                yield document


class Csv:
    """A table for spreadsheets: the columns that people look for, and the whole document in the last one.

    A cell that a spreadsheet would take for a formula begins with an apostrophe, which spreadsheets do not show: what
    an attacker typed as a user name must not run on the computer of whoever investigates it. Control characters and
    marks of writing direction are shown as escapes. The last column is exact.

    Source: OWASP, "CSV Injection"; RFC 4180 for the rest.

    Args:
        chosen: Which columns, in this order; none: all, the document last.
        bom: Whether to begin with a byte order mark, by which Excel knows UTF-8.

    Raises:
        FilterError: There is no such column, or one is chosen twice.
    """

    columns: Final = {
        "timestamp": "@timestamp",
        "event_id": "event.id",
        "event_type": "event.action",
        "severity": "log.level",
        "outcome": "event.outcome",
        "category": "event.category",
        "user_id": "user.id",
        "user_name": "user.name",
        "effective_user_id": "user.effective.id",
        "target_user_id": "user.target.id",
        "organization_id": "organization.id",
        "source_ip": "source.ip",
        "service": "service.name",
        "request_id": "http.request.id",
        "session_id": "session.id",
        "trace_id": "trace.id",
        "message": "message",
        "reason": "event.reason",
        "writer": "audit.integrity.writer",
        "sequence": "audit.integrity.sequence",
        "hash": "audit.integrity.hash",
    }
    """Each column and the field in it."""

    document: Final = "document"
    """The column with everything, as JSON."""

    begin = (",".join((*columns, document)) + "\r\n").encode()
    end = b""
    is_exact = True

    def __init__(self, chosen: Sequence[str] = (), *, bom: bool = False) -> None:
        known = (*self.columns, self.document)
        for number, name in enumerate(chosen):
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}."
                raise FilterError(f"There is no CSV column {name[:60]!r}: {hint}")
            if name in chosen[:number]:
                raise FilterError(f"The CSV column {name!r} is chosen twice.")
        self._chosen = tuple(chosen) or known
        self.is_exact = self.document in self._chosen
        mark = codecs.BOM_UTF8 if bom else b""
        self.begin = mark + (",".join(self._chosen) + "\r\n").encode()

    def encode(self, lines: Sequence[bytes], *, first: bool) -> bytes:  # noqa: ARG002 - each row is like any other
        """Return a row for each of *lines*."""
        table = io.StringIO()
        writer = csv.writer(table)
        for line in lines:
            event = Event(_object(line))
            writer.writerow(
                line.decode("utf-8", "replace")
                if name == self.document
                else harmless(printable(_cell(event.get(self.columns[name]))))
                for name in self._chosen
            )
        return table.getvalue().encode("utf-8", "replace")

    def documents(self, content: io.BufferedReader) -> Iterator[bytes]:
        """Yield the documents; nothing where their column was not chosen."""
        if not self.is_exact:
            return
        place = self._chosen.index(self.document)
        csv.field_size_limit(MAX_LINE_BYTES)
        size = 0

        def lines() -> Iterator[str]:
            nonlocal size
            for line in bounded_lines(content, "the export"):
                size += len(line)
                if size > MAX_LINE_BYTES:  # a quoted cell may go over any number of lines
                    raise TooLargeError("the export", f"a row is longer than {MAX_LINE_BYTES:,} bytes")
                yield line.decode()

        rows = csv.reader(lines())
        next(rows, None)
        size = 0
        for row in rows:
            yield row[place].encode() if len(row) > place else b""
            size = 0


FORMATS: Final[dict[str, Format]] = {"ndjson": Ndjson(), "json": JsonArray(), "csv": Csv()}


def format_of(query: Mapping[str, Any]) -> Format:
    """Return the format that *query* asks for: its name, and for a table columns and byte order mark.

    Raises:
        FilterError: There is no such format or column, or it has no columns.
    """
    name, columns, bom = query.get("format"), query.get("columns") or (), bool(query.get("bom"))
    if name not in FORMATS:
        raise FilterError(f"There is no export format {str(name)[:60]!r}; there is {', '.join(FORMATS)}.")
    if name == "csv":
        return Csv(columns, bom=bom)
    if columns or bom:
        raise FilterError(f"Columns and the byte order mark are those of csv, and the format is {name}.")
    return FORMATS[name]


_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - as Excel takes them


def harmless(cell: str) -> str:
    """Return a cell's text so that no spreadsheet takes it for a formula.

    Example:
        >>> harmless("=1+1"), harmless("u-42"), harmless(" @SUM(A1)")
        ("'=1+1", 'u-42', "' @SUM(A1)")
    """
    return f"'{cell}" if cell.startswith(_FORMULA) or cell.lstrip().startswith(_FORMULA) else cell


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return " ".join(value)
    return orjson.dumps(value).decode()


def _object(line: bytes) -> dict[str, Any]:
    document = orjson.loads(line)
    return document if isinstance(document, dict) else {}
