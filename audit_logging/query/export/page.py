"""A page of an export: the answer's bytes, cut into the stored documents without being parsed.

The stored bytes of a document pass through untouched, which costs a tenth of parsing and writing it anew. Where one
document ends and the next begins must not be guessed: whoever may write to the trail may have written anything,
pieces that look like an answer of OpenSearch included. So every request sorts, last of all, by a field that does not
exist and whose value for "missing" is a random number; OpenSearch repeats it behind each document, and no document
that was stored before the number was drawn can hold it.
"""

from __future__ import annotations

import datetime as dt
import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

import orjson

from audit_logging.errors import IncompleteResultError
from audit_logging.query.exchange import checked

Stored = tuple[bytes, bytes, int, bytes]
"""A stored event as it sorts: moment, writer, sequence, and the document on one line.

The moment is UTC text with six digits of a second, or with up to nine where the document has them.
"""

UNSEALED: Final = (b"\xff", 1 << 63)
"""Writer and sequence of what bears no seal: behind every other, as OpenSearch sorts it."""

_ABSENT: Final = "no_such_field"
_CANONICAL: Final = (
    rb'\{"@timestamp":"([-0-9T:.]{26})Z","audit":\{"integrity":\{"hash":"[^"]{64}","previous":"[^"]{64}",'
    rb'"sequence":([0-9]{1,18}),"writer":"([^"\\]+)"\}'
)
_PLACE: Final = re.compile(_CANONICAL)
_HIT: Final = re.compile(
    # A quote inside a name is escaped, so that what has to stand behind the name cannot follow it. The last "sort" is
    # the real one: behind it stand only numbers.
    rb',?\{"_index":"[^"]*","_id":"[^"]*","_score":null,"_source":(?=%b)(.*),"sort":\[[-0-9,]*' % _CANONICAL,
    re.DOTALL,
)
_OTHER_HIT: Final = re.compile(rb',?\{(?:"_[a-z]+":(?:"(?:[^"\\]|\\.)*"|null|\[[^\[\]{}]*\]),)+"_source":')
_IDENTIFIED: Final = re.compile(rb',?\{"_index":"[^"\\]*","_id":"([^"\\]*)","_score":null,"_source":(?=\{)')
_SORT: Final = b',"sort":['
_HITS: Final = b'"hits":['
_END: Final = b"]}}"
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,9})\d*)?)?(Z|[+-]\d\d:?\d\d)?")


class Separator:
    """What stands between the documents of one reader's pages.

    Example:
        >>> Separator(7).sort
        {'no_such_field': {'order': 'asc', 'missing': 7, 'unmapped_type': 'long'}}
    """

    def __init__(self, number: int | None = None) -> None:
        # Nineteen digits, of OpenSearch's 64-bit integers.
        self.number = secrets.randbelow(8 * 10**18) + 10**18 if number is None else number
        self.sort = {_ABSENT: {"order": "asc", "missing": self.number, "unmapped_type": "long"}}
        self.mark = b",%d]}" % self.number


@dataclass(frozen=True)
class Page:
    """One answer to a search that was sorted by numbers, the last of them a :class:`Separator`.

    Attributes:
        head: All of the answer but its hits, parsed.
        hits: How many hits have to be in it; :meth:`events` makes sure that they are.
        size_bytes: Size of the answer.
    """

    head: dict[str, Any]
    hits: int
    size_bytes: int
    _raw: bytes
    _begin: int
    _separator: Separator

    @classmethod
    def of(cls, raw: bytes, separator: Separator, size: int, left: int | None = None) -> Page:
        """Take an answer, and look at no more of it than the next request needs: until then the server idles.

        Args:
            raw: The answer.
            separator: What was sorted by.
            size: How many hits were asked for.
            left: How many there are from this page on; None: as many as the answer says that there are in all.

        Raises:
            IncompleteResultError: Time ran out on the server or a shard failed, also on a page without hits; or the
                answer does not look like one.
        """
        # Before the hits stands nothing but what OpenSearch says; quotes inside its texts are escaped.
        begin = raw.find(_HITS) + len(_HITS)
        try:
            head = checked(orjson.loads(raw[:begin] + _END))
        except orjson.JSONDecodeError:
            raise _not_understood() from None
        hits = min(size, head["hits"]["total"]["value"] if left is None else left)
        if raw[begin:] == _END:
            require_all(0, hits)
        elif not raw.endswith(separator.mark + _END):
            raise _not_understood()
        return cls(head, hits, len(raw), raw, begin, separator)

    @property
    def last(self) -> list[int]:
        """Sort values of the last hit."""
        begin = self._raw.rfind(_SORT) + len(_SORT)
        return [int(value) for value in self._raw[begin : -len(b"]}" + _END)].split(b",")]

    def events(self) -> list[Stored]:
        """Return the stored events in the order of the page.

        Raises:
            IncompleteResultError: They are fewer than there were to come.
        """
        *pieces, _ = self._raw.split(self._separator.mark)
        require_all(len(pieces), self.hits)
        if pieces:
            pieces[0] = pieces[0][self._begin :]
        if b"\n" in self._raw or b"\r" in self._raw:
            return [self._unusual(piece) for piece in pieces]
        hit = _HIT.fullmatch
        events: list[Stored] = []
        for piece in pieces:
            if found := hit(piece):
                moment, sequence, writer, line = found.groups()
                events.append((moment, writer, int(sequence), line))
            else:
                events.append(self._unusual(piece))
        return events

    def documents(self) -> list[tuple[str, bytes]]:
        """Return the id and the bytes of each stored document in the order of the page.

        Raises:
            IncompleteResultError: They are fewer than there were to come.
        """
        *pieces, _ = self._raw[self._begin :].split(self._separator.mark)
        require_all(len(pieces), self.hits)
        begin = _IDENTIFIED.match
        return [
            (found[1].decode(), piece[found.end() : piece.rfind(_SORT)])
            if (found := begin(piece))
            else self._identified(piece)
            for piece in pieces
        ]

    def _identified(self, piece: bytes) -> tuple[str, bytes]:
        try:
            hit = orjson.loads(piece.lstrip(b",") + self._separator.mark)
            return str(hit["_id"]), orjson.dumps(hit["_source"])
        except (orjson.JSONDecodeError, KeyError):
            raise _not_understood() from None

    def _unusual(self, piece: bytes) -> Stored:
        """Return an event that the shipper did not write, or that OpenSearch says more of than usual."""
        found = _OTHER_HIT.match(piece)
        line = piece[found.end() : piece.rfind(_SORT)] if found else _source(piece, self._separator)
        line = _one_line(line)
        return (*place_of(line), line)


def place_of(line: bytes) -> tuple[bytes, bytes, int]:
    """Return moment, writer and sequence of any document.

    Example:
        >>> place_of(b'{"@timestamp":"2026-03-01T13:00:00.5+01:00","audit":{"schema":"1"}}')[0]
        b'2026-03-01T12:00:00.500000'
    """
    if found := _PLACE.match(line):
        return found[1], found[3], int(found[2])
    document = orjson.loads(line)
    audit = document.get("audit") if isinstance(document, dict) else None
    seal = audit.get("integrity") if isinstance(audit, dict) else None
    writer, sequence = (seal.get("writer"), seal.get("sequence")) if isinstance(seal, dict) else (None, None)
    place = UNSEALED
    if isinstance(writer, str) and isinstance(sequence, int):
        place = (writer.encode("utf-8", "surrogatepass"), sequence)
    return (_moment(document.get("@timestamp") if isinstance(document, dict) else None), *place)


def _moment(value: Any) -> bytes:
    """Return a time that OpenSearch took, however it was written."""
    if isinstance(value, int):  # milliseconds since 1970
        seconds, rest = divmod(value, 1000)
        return _text(dt.datetime.fromtimestamp(seconds, dt.timezone.utc), f"{rest:03}")
    found = _TIME.fullmatch(str(value))
    if found is None:
        return b"9999"  # behind every time that can be read
    day, clock, fraction, zone = found.groups()
    zone = "+00:00" if zone in {None, "Z"} else zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    return _text(dt.datetime.fromisoformat(f"{day}T{clock or '00:00'}{zone}"), fraction or "")


def _text(second: dt.datetime, fraction: str) -> bytes:
    digits = fraction.rstrip("0").ljust(6, "0")
    return f"{second.astimezone(dt.timezone.utc).isoformat()[:19]}.{digits}".encode()


def _one_line(line: bytes) -> bytes:
    """Return the same JSON without line ends, which can only stand between its tokens."""
    return line.replace(b"\r", b" ").replace(b"\n", b" ")


def _source(piece: bytes, separator: Separator) -> bytes:
    """Return the document of a hit that has more to it than this version knows."""
    try:
        return orjson.dumps(orjson.loads(piece.lstrip(b",") + separator.mark)["_source"])
    except (orjson.JSONDecodeError, KeyError):
        raise _not_understood() from None


def require_all(came: int, promised: int) -> None:
    """Return when all came.

    Raises:
        IncompleteResultError: Fewer did, or more.
    """
    if came != promised:
        raise IncompleteResultError(
            f"OpenSearch gave {came:,} stored events where it had {promised:,}: export again, which goes on with what"
            " is complete."
        )


def _not_understood() -> IncompleteResultError:
    return IncompleteResultError(
        "OpenSearch's answer is not one that this version understands, so that events might be missed: is there a"
        " proxy in between that rewrites answers?"
    )
