"""A file of JSON records, read one at a time in constant memory.

It holds a record a line, or all of them in CloudTrail's own form: ``{"Records": […]}``.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
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
"""A larger record is no audit event (which take 1 MiB); it would only fill the memory."""

_CHUNK_BYTES: Final = 1 << 20
_GZIP_MAGIC: Final = b"\x1f\x8b"
_BEGINS_RECORDS: Final = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"Records"\s*:\s*\[')
_BETWEEN_RECORDS: Final = re.compile(r"[\s,]*")

# A number keeps the digits that it has in the file: "19.90" must not come out as 19.9.
_DECODER: Final = json.JSONDecoder(parse_float=str, parse_constant=str)


class Entry(NamedTuple):
    """One record of the file.

    Attributes:
        number: Its number, from 1: of the line, or of the record in ``Records``.
        value: The decoded JSON.
        size: How much text it took.
        problem: What is wrong with it; *value* is None then.
    """

    number: int
    value: Any
    size: int
    problem: str | None = None


class EventFile:
    """Reads a file, plain or gzip, ``"-"`` for standard input. Use it in a ``with`` block.

    Args:
        path: The file.

    Attributes:
        noun: What its records are called in messages: ``line`` or ``record``.
        size: Bytes in all; None where that is not known.

    Raises:
        EventFileError: It cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = "standard input" if str(path) == STANDARD_INPUT else str(path)
        self.noun = "line"
        self.size: int | None = None
        self._number = 0
        with self._our_errors():
            if str(path) == STANDARD_INPUT:
                self._raw: io.BufferedReader = cast("io.BufferedReader", sys.stdin.buffer)
            else:
                self._raw = Path(path).open("rb")  # noqa: SIM115 - closed by __exit__
                self.size = Path(path).stat().st_size
            self._opened = self._raw.peek(2)[:2] if self.size != 0 else b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.name != "standard input":
            self._raw.close()

    @property
    def position(self) -> int:
        """How many bytes of the file are read."""
        return self._raw.tell() if self.size is not None else 0

    def __iter__(self) -> Iterator[Entry]:
        """Yield the records in order; once.

        Raises:
            EventFileError: What follows the records so far cannot be read at all.
        """
        with self._our_errors():
            text: io.BufferedReader = self._raw
            if self._opened == _GZIP_MAGIC:
                unpacked = cast("io.RawIOBase", gzip.GzipFile(fileobj=cast("IO[bytes]", self._raw)))
                text = io.BufferedReader(unpacked, _CHUNK_BYTES)
            begins = _BEGINS_RECORDS.match(text.peek(1))
            if begins is None:
                yield from self._lines(text)
                return
            self.noun = "record"
            text.read(begins.end())
            yield from self._records(text)

    def _lines(self, file: io.BufferedReader) -> Iterator[Entry]:
        while line := file.readline(MAX_RECORD_BYTES):
            self._number += 1
            if len(line) == MAX_RECORD_BYTES and not line.endswith(b"\n"):
                _skip_line(file)
                yield Entry(self._number, None, 0, f"it is longer than {MAX_RECORD_BYTES} bytes")
                continue
            line = line.removeprefix(codecs.BOM_UTF8) if self._number == 1 else line
            if line.strip():
                yield _decode(line, self._number)

    def _records(self, file: io.BufferedReader) -> Iterator[Entry]:
        """Yield the members of an array whose beginning was read; what is not there yet is read in chunks."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        buffer, offset = "", 0
        while True:
            offset = _end_of(_BETWEEN_RECORDS, buffer, offset)
            if buffer.startswith("]", offset):
                return
            try:
                value, end = _DECODER.raw_decode(buffer, offset)
            except (ValueError, RecursionError) as error:
                chunk = file.read(_CHUNK_BYTES)
                if not chunk or len(buffer) - offset > MAX_RECORD_BYTES:
                    raise EventFileError(
                        f"{self.name}: record {self._number + 1} is not JSON ({_explain(error)})",
                        line=self._number + 1,
                    ) from error
                buffer, offset = buffer[offset:] + decoder.decode(chunk), 0
                continue
            self._number += 1
            yield Entry(self._number, value, end - offset)
            offset = end

    @contextmanager
    def _our_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            after = f" after {self.noun} {self._number}" if self._number else ""
            raise EventFileError(
                f"{self.name} cannot be read{after} ({reason}): is it the right file, and whole?", line=self._number
            ) from error


def _decode(line: bytes, number: int) -> Entry:
    try:
        return Entry(number, _DECODER.decode(line.decode()), len(line))
    except (ValueError, RecursionError) as error:
        return Entry(number, None, len(line), f"it is not JSON ({_explain(error)})")


def _explain(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}: character {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _end_of(pattern: re.Pattern[str], text: str, offset: int) -> int:
    found = pattern.match(text, offset)
    assert found is not None  # it matches the empty text as well
    return found.end()


def _skip_line(file: io.BufferedReader) -> None:
    while (part := file.readline(_CHUNK_BYTES)) and not part.endswith(b"\n"):
        pass
