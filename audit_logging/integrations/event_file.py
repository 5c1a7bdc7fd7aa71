"""Opens a file of records and reads it as text, in constant memory.

Takes plain and gzip files (with any number of members), UTF-8, UTF-16 and UTF-32, with and without a byte order mark.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import os
import re
import stat
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, cast

from typing_extensions import Self

from audit_logging.errors import EventFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

STANDARD_INPUT: Final = "-"

MAX_RECORD_BYTES: Final = 64 << 20
"""Limit of one record, to bound the memory. An audit event may have 1 MiB."""

_CHUNK_BYTES: Final = 1 << 20
_GZIP_MAGIC: Final = b"\x1f\x8b"
_OTHER_COMPRESSIONS: Final = {
    b"BZh": ("bzip2", "bzip2 -dc"),
    b"\xfd7zXZ": ("xz", "xz -dc"),
    b"\x28\xb5\x2f\xfd": ("Zstandard", "zstd -dc"),
    b"PK\x03\x04": ("zip", "unzip -p"),
}
_NOT_UTF_8: Final = re.compile("[\udc80-\udcff]")
"""What the error handler ``surrogateescape`` makes of bytes that are not UTF-8."""


_HEAD_BYTES: Final = 4


def _encoding_of(head: bytes) -> str:
    """Return the encoding of a text that begins with *head*; UTF-8 keeps its byte order mark."""
    encoding = json.detect_encoding(head).removesuffix("-sig")
    if encoding.endswith("e"):  # told from NULs, which a damaged file may hold as well
        text = head.decode(encoding, "replace")
        return encoding if text.isascii() and "\0" not in text else "utf-8"
    return encoding


class Entry(NamedTuple):
    """One record of the file.

    Attributes:
        noun: ``record`` for the member of a list, ``line`` for a value of its own.
        number: Number of the record, or of the line, from 1.
        line: Number of the line in which it begins, from 1.
        byte: Offset of its beginning in the uncompressed content; None for the first value of a line.
        place: Its place as part of the identity of a record that has no id of its own.
        value: The decoded JSON, or the text of a line.
        size: Number of characters it takes.
        problem: Why it could not be decoded; *value* is None then.
    """

    noun: str
    number: int
    line: int
    byte: int | None
    place: tuple[object, ...]
    value: Any
    size: int
    problem: str | None = None

    @property
    def where(self) -> str:
        """Its place, for messages: ``line 3``, or ``record 7 (line 1, byte 20731)``."""
        position = f"line {self.line}" if self.byte is None else f"line {self.line}, byte {self.byte}"
        return position if self.noun == "line" else f"{self.noun} {self.number} ({position})"


class EventFile:
    """Reads a file, plain or gzip, or standard input (``"-"``). Use it in a ``with`` block.

    Args:
        path: The file.

    Attributes:
        name: Its name, for messages.
        size: Size in bytes; None if unknown.
        modified: Time of the last change, in seconds since 1970; None if unknown.

    Raises:
        EventFileError: It cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = "standard input" if str(path) == STANDARD_INPUT else str(path)
        self.size: int | None = None
        self.modified: float | None = None
        with self.readable():
            if str(path) == STANDARD_INPUT:
                self._raw: io.BufferedReader = cast("io.BufferedReader", sys.stdin.buffer)
            else:
                self._raw = Path(path).open("rb")  # noqa: SIM115 - closed by __exit__
                status = os.fstat(self._raw.fileno())
                if stat.S_ISREG(status.st_mode):  # not a pipe, such as <(…) of a shell
                    self.size, self.modified = status.st_size, status.st_mtime

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.name != "standard input":
            self._raw.close()

    @property
    def position(self) -> int:
        """Number of bytes of the file that were read."""
        if self.size is None:
            return 0
        return self.size if self._raw.closed else self._raw.tell()

    def __iter__(self) -> Iterator[Entry]:
        """Yield the JSON records (see :meth:`records`)."""
        return self.records()

    def records(self, lists: tuple[str, ...] = ("Records",), mark: str = "") -> Iterator[Entry]:
        """Yield the JSON records in order; once.

        Args:
            lists: Names of lists in an object that hold the records, such as ``Records`` of CloudTrail.
            mark: A member that only a record has, so that an object with it is no envelope of such a list.

        Raises:
            EventFileError: The rest of the file cannot be read.
        """
        from audit_logging.integrations.json_records import JsonRecords

        return JsonRecords(Text(self), lists, mark).entries()

    def lines(self) -> Iterator[Entry]:
        """Yield the lines that are not empty, without their ends; once.

        Raises:
            EventFileError: The rest of the file cannot be read.
        """
        text = Text(self)
        while True:
            end = text.find_newline()
            number = text.line
            if end is None:
                text.skip_line()
                yield Entry("line", number, number, None, (), None, 0, f"it is longer than {MAX_RECORD_BYTES} bytes")
                continue
            if end == text.at:
                return
            line = text.exact(text.buffer[text.at : end].strip("\r\n\ufeff"))
            text.at = end
            if line.strip():
                yield Entry("line", number, number, None, (), line, len(line))

    def rows(self, column: str) -> Iterator[Entry]:
        """Yield the JSON in *column* of a table (CSV with a header); once.

        Raises:
            EventFileError: There is no such column, or the rest of the file cannot be read.
        """
        from audit_logging.integrations.json_records import decode

        csv.field_size_limit(MAX_RECORD_BYTES)
        with self.readable():
            text = io.TextIOWrapper(self.content(), "utf-8-sig", newline="")
        try:
            rows = csv.DictReader(text, strict=True)
            before = 0
            while (row := self._row(rows)) is not None:
                line, before = max(before, 1) + 1, rows.line_num
                try:
                    value = decode(row[column] or "")
                    yield Entry("line", line, line, None, (line,), value, len(row[column]))
                except KeyError:
                    raise EventFileError(
                        f"{self.name} has no column {column!r}, which holds the whole event: export it with that column"
                    ) from None
                except (ValueError, RecursionError) as error:
                    yield Entry("line", line, line, None, (), None, 0, f"its {column} is not JSON ({error})")
        finally:
            text.detach()

    def _row(self, rows: csv.DictReader[str]) -> dict[str, str] | None:
        with self.readable(f" after line {rows.line_num}"):
            try:
                return next(rows, None)
            except csv.Error as error:
                raise EventFileError(f"{self.name}, after line {rows.line_num}: it is not CSV ({error})") from None

    def content(self) -> io.BufferedReader:
        """Return the uncompressed content.

        Raises:
            EventFileError: It is compressed in a way that is not supported.
        """
        content = self._raw
        while (magic := content.peek(6)).startswith(_GZIP_MAGIC):
            unpacked = cast("io.RawIOBase", gzip.GzipFile(fileobj=cast("IO[bytes]", content), mode="rb"))
            content = io.BufferedReader(unpacked)
        for opening, (kind, command) in _OTHER_COMPRESSIONS.items():
            if magic.startswith(opening):
                raise EventFileError(
                    f"{self.name} is compressed with {kind}, which import does not read: pipe it through"
                    f" `{command}` and import standard input (-)."
                )
        return content

    @contextmanager
    def readable(self, after: str = "") -> Iterator[None]:
        """Turn errors of reading into :class:`EventFileError`; *after* names the place."""
        try:
            yield
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise EventFileError(
                f"{self.name} cannot be read{after} ({reason}): check that it is the right file, and complete"
            ) from error


class Text:
    """The text of a file: a buffer over the part that is being looked at.

    Args:
        file: The file, at its beginning.

    Attributes:
        buffer: The text in memory.
        at: Offset in the buffer up to which the text is consumed.
        fresh: Whether the line has only white space before *at*.
        indent: That white space.
    """

    def __init__(self, file: EventFile) -> None:
        self.file = file
        self.buffer = ""
        self.at = 0
        self.fresh = True
        self.indent = ""
        self._exact = self._is_ascii = True
        self._line, self._byte, self._counted = 1, 0, 0
        with file.readable():
            self._content = file.content()
            self._head = self._content.read(_HEAD_BYTES)
            encoding = _encoding_of(self._head)
        self._byte = {"utf-16": 2, "utf-32": 4}.get(encoding, 0)  # the byte order mark; that of UTF-8 is in the text
        self._is_utf_8 = encoding == "utf-8"
        self._sized = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(encoding, encoding)
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape" if self._is_utf_8 else "strict")

    def more(self) -> bool:
        """Read the next chunk into the buffer; return False at the end of the file."""
        rest = len(self.buffer) - self.at
        chunk, data = "", b"-"
        with self.file.readable(f" after line {self.line}" if self.buffer else ""):
            while data and not chunk:
                if self._head:
                    data, self._head = self._head, b""
                elif rest < _CHUNK_BYTES:
                    data = self._content.read1(_CHUNK_BYTES)  # what a pipe has now, which may be complete records
                else:
                    # In growing steps, since a record that is not complete is parsed again each time.
                    data = self._content.read(min(rest, MAX_RECORD_BYTES))
                chunk = self._decoder.decode(data, final=not data)
        if not chunk:
            return False
        self._exact = self._exact and (chunk.isascii() or _NOT_UTF_8.search(chunk) is None)
        self._count()
        self.buffer, self.at, self._counted = self.buffer[self.at :] + chunk, 0, 0
        self._is_ascii = self._is_utf_8 and self.buffer.isascii()
        return True

    @property
    def line(self) -> int:
        """Number of the current line, from 1."""
        self._count()
        return self._line

    @property
    def byte(self) -> int:
        """Offset of the current place in the uncompressed content."""
        self._count()
        return self._byte

    def consume(self, end: int) -> None:
        """Go to *end*, which is behind something else than white space."""
        self.at, self.fresh, self.indent = end, False, ""

    def skip(self, space: re.Pattern[str]) -> str:
        """Consume white space; return the character behind it, empty at the end of the file."""
        while True:
            found = space.match(self.buffer, self.at)
            assert found is not None  # it matches the empty text as well
            end = found.end()
            newline = self.buffer.rfind("\n", self.at, end)
            if newline >= 0:
                self.fresh, self.indent = True, self.buffer[newline + 1 : end]
            elif self.fresh and end > self.at:
                self.indent = (self.indent + self.buffer[self.at : end])[:_CHUNK_BYTES]
            self.at = end
            if end < len(self.buffer):
                return self.buffer[end]
            if not self.more():
                return ""

    def find_newline(self) -> int | None:
        """Return the offset behind the end of the line; None if the line is longer than a record may be."""
        begin = self.at
        while (newline := self.buffer.find("\n", begin)) < 0:
            begin = len(self.buffer) - self.at
            if begin > MAX_RECORD_BYTES:
                return None
            if not self.more():
                return len(self.buffer)
        return newline + 1

    def skip_line(self) -> None:
        """Consume the rest of the line, whatever its length."""
        while (newline := self.buffer.find("\n", self.at)) < 0:
            self.at = len(self.buffer)
            if not self.more():
                return
        self.at, self.fresh, self.indent = newline + 1, True, ""

    def skip_to(self, opening: re.Pattern[str], overlap: int) -> bool:
        r"""Consume text up to the line that *opening* (``\n…``) finds; return False if there is none.

        Args:
            opening: Finds a newline and the beginning of a line.
            overlap: The longest text that it finds.
        """
        while (found := opening.search(self.buffer, self.at)) is None:
            self.at = max(self.at, len(self.buffer) - overlap)
            if not self.more():
                self.at = len(self.buffer)
                return False
        self.at, self.fresh, self.indent = found.start() + 1, True, ""
        return True

    def is_exact(self, begin: int, end: int) -> bool:
        """Return whether every byte of that part of the buffer could be decoded."""
        return self._exact or _NOT_UTF_8.search(self.buffer, begin, end) is None

    def exact(self, text: str) -> str:
        r"""Return *text* with bytes that are not UTF-8 as ``\xff``."""
        return text if self._exact else text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

    def _count(self) -> None:
        """Bring line and byte up to date."""
        if self.at > self._counted:
            self._line += self.buffer.count("\n", self._counted, self.at)
            if self._is_ascii:
                self._byte += self.at - self._counted
            else:
                errors = "surrogateescape" if self._is_utf_8 else "surrogatepass"
                self._byte += len(self.buffer[self._counted : self.at].encode(self._sized, errors))
            self._counted = self.at
