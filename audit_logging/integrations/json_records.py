"""Reads JSON records from a text, however they are joined, in constant memory.

Values may follow one another with or without white space, newlines or commas between them. A record is a value of its
own, a member of a list, or a member of a list in an envelope such as CloudTrail's ``{"Records": […]}``.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from audit_logging.integrations import event_file
from audit_logging.integrations.event_file import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.integrations.event_file import Text

_SPACE: Final = re.compile("[ \t\r\n\x1e\ufeff]*")
"""White space of JSON, the record separator of RFC 7464, and byte order marks of files that were joined."""


def decode(text: str) -> Any:
    """Return the JSON value in *text*; numbers with a fraction are text, so that 19.90 does not become 19.9.

    Raises:
        ValueError: It is not JSON, or a member of an object occurs twice.
    """
    repeated: list[str] = []
    value = _decoder(repeated).decode(text)
    if repeated:
        raise ValueError(_said_of(repeated))
    return value


def _decoder(repeated: list[str]) -> json.JSONDecoder:
    """Return a decoder that notes members that occur twice in *repeated*: one of the values would be lost."""

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            names = [name for name, _ in pairs]
            repeated.extend(name for name in value if names.count(name) > 1)
        return value

    return json.JSONDecoder(parse_float=str, parse_constant=str, object_pairs_hook=object_of)


def _said_of(repeated: list[str]) -> str:
    return f"the member {repeated[0]!r:.80} occurs twice"


_LONGEST_TOKEN: Final = 12
"""An error within so many characters of the end of the buffer may be due to the end: ``-Infinity``, ``\\uD83D``."""

_HEADER_LISTS: Final = frozenset({"searchedLogStreams"})
"""Lists of objects in an envelope that are known not to hold records."""


class _Value(NamedTuple):
    """A value that was parsed.

    Attributes:
        value: The decoded value.
        size: Number of characters up to its end, or up to the error.
        problem: Why it is no JSON.
        is_whole: Whether its end was found in spite of a problem.
    """

    value: Any
    size: int
    problem: str | None = None
    is_whole: bool = False


class JsonRecords:
    """Yields the records of one text.

    Args:
        text: The text, at its beginning.
        lists: Names of the lists in an envelope that hold records.
        mark: A member that only a record has, so that an object with it is no envelope.
    """

    def __init__(self, text: Text, lists: tuple[str, ...], mark: str) -> None:
        self._text = text
        self._lists = lists
        self._list_names = frozenset(lists)
        self._mark = mark
        string = r'"(?:[^"\\]|\\.)*+"'
        header = rf"{string}\s*:\s*(?:{string}|[\w.+-]++|\{{(?:{string}|[^{{}}\[\]\"])*+\}})\s*,\s*"
        names = "|".join(map(re.escape, lists)) or "(?!)"
        self._opening = re.compile(rf'\{{\s*"(?:{names})"\s*:\s*\[')
        self._envelope = re.compile(rf'\{{\s*(?:{header})*?"(?:{names})"\s*:\s*\[', re.DOTALL)
        self._repeated: list[str] = []
        self._decoder = _decoder(self._repeated)
        self._members = 0
        self._begins_with_list: bool | None = None
        self._line = self._nth = 0

    def entries(self) -> Iterator[Entry]:
        """Yield the records in order.

        Raises:
            EventFileError: The rest of the text cannot be read.
        """
        text = self._text
        may_separate = False
        while character := text.skip(_SPACE):
            if character == "," and may_separate:
                text.consume(text.at + 1)
                may_separate = False
                if text.skip(_SPACE) == "":
                    yield self._broken("it is not JSON (a value is missing after the comma)")
                continue
            may_separate = True
            if character == "{" and (entry := self._plain_record()) is not None:
                yield entry
            elif character == "[":
                yield from self._list(text.at + 1)
            else:
                yield from self._value()

    def _plain_record(self) -> Entry | None:
        """Return the record that begins here if there is nothing special about it: the quick way for lines."""
        text = self._text
        if self._opening.match(text.buffer, text.at):
            return None
        self._repeated.clear()
        try:
            value, end = self._decoder.raw_decode(text.buffer, text.at)
        except (ValueError, RecursionError):
            return None
        if self._repeated or not text.is_exact(text.at, end) or not self._list_names.isdisjoint(value):
            return None
        entry = self._own_entry(value, end - text.at)
        text.consume(end)
        return entry

    def _value(self) -> Iterator[Entry]:
        """Yield the records of the value at which the text is: itself, or the members of an envelope."""
        text = self._text
        opening = self._opening.match(text.buffer, text.at)
        found = self._parse(self._envelope) if opening is None else _Value(None, 0)
        members = self._unpacked(found.value)
        if opening is None and (found.problem is not None or members is not None):
            # Member by member, an envelope of any size fits into memory, and what is before the damage is read.
            opening = self._envelope.match(text.buffer, text.at)
        if opening is not None:
            if (yield from self._list(opening.end())):
                yield from self._end_of_envelope()
            return
        if found.problem is not None:
            yield self._broken(found.problem)
            self._skip_broken(found)
            return
        if members is not None:
            self._note_first(is_list=True)
            yield from self._numbered(members, found.size)
        else:
            yield self._own_entry(found.value, found.size)
        text.consume(text.at + found.size)

    def _own_entry(self, value: Any, size: int) -> Entry:
        """Return a record that is a value of its own."""
        text = self._text
        self._note_first(is_list=False)
        line = text.line
        self._line, self._nth = line, self._nth + 1 if line == self._line else 1
        # The first value of a line is identified by the number of the line alone, so that ids stay what they were.
        by_line = text.fresh and not self._begins_with_list
        place: tuple[object, ...] = (line,) if by_line else ("line", line, self._nth)
        return Entry("line", line, line, None if text.fresh else text.byte, place, value, size)

    def _list(self, begin: int) -> Any:
        """Yield the members of the list whose first member begins at *begin*; return whether its end was found."""
        text = self._text
        self._note_first(is_list=True)
        text.consume(begin)
        may_be_value, may_close, may_be_comma = True, True, False
        while True:
            character = text.skip(_SPACE)
            if character == "]" and may_close:
                text.consume(text.at + 1)
                return True
            if character == "," and may_be_comma:
                text.consume(text.at + 1)
                may_be_value, may_close, may_be_comma = True, False, False
                continue
            if character == "":
                yield self._broken_member("it is not JSON (the file ends before the list does)")
                return False
            found = self._parse() if may_be_value else _Value(None, 0, "it is not JSON (no comma before it)")
            if found.problem is None:
                members = self._unpacked(found.value)
                if members is None:
                    yield self._member(found.value, found.size)
                else:
                    yield from self._numbered(members, found.size)
                text.consume(text.at + found.size)
                may_be_value, may_close, may_be_comma = False, True, True
                continue
            indent = text.indent
            broken = self._broken_member(found.problem)
            if found.is_whole:
                yield broken
                text.consume(text.at + found.size)
                may_be_value, may_close, may_be_comma = False, True, True
                continue
            if not text.fresh:
                self._skip_broken(found)
            elif text.skip_to(_line_at_most(indent), len(indent) + 2) and (
                text.skip(_SPACE) == "]" or text.indent == indent
            ):
                yield broken
                may_be_value, may_close, may_be_comma = True, True, False
                continue
            yield broken._replace(problem=f"{found.problem}; the rest of its list cannot be read")
            return False

    def _end_of_envelope(self) -> Iterator[Entry]:
        """Read what follows the list in an envelope: more lists, and members that are no records."""
        text = self._text
        while True:
            character = text.skip(_SPACE)
            if character == "}":
                text.consume(text.at + 1)
                return
            key = colon = None
            if character == ",":
                text.consume(text.at + 1)
                text.skip(_SPACE)
                key = self._parse()
            if key is not None and isinstance(key.value, str):
                text.consume(text.at + key.size)
                colon = text.skip(_SPACE)
            if key is None or colon != ":":
                problem = (
                    f"the envelope of the records is not closed ({'the file ends' if not character else 'no JSON'})"
                )
                yield self._broken(f"it is not JSON: {problem}")
                self._skip_broken(_Value(None, 0))
                return
            text.consume(text.at + 1)
            if text.skip(_SPACE) == "[" and key.value in self._lists:
                if not (yield from self._list(text.at + 1)):
                    return
                continue
            value = self._parse()
            problem_of_value = value.problem or _unread(key.value, value.value)
            if problem_of_value is not None:
                yield self._broken(problem_of_value)
            if value.problem is not None:
                self._skip_broken(value)
                return
            text.consume(text.at + value.size)

    def _parse(self, unless: re.Pattern[str] | None = None) -> _Value:
        """Return the value that begins here; with a problem if it is not complete, but begins as *unless* says."""
        text, limit = self._text, event_file.MAX_RECORD_BYTES
        while True:
            self._repeated.clear()
            try:
                value, end = self._decoder.raw_decode(text.buffer, text.at)
            except (ValueError, RecursionError) as error:
                if not _may_be_cut(error, text.buffer):
                    return self._not_json(error)
                if unless is not None and unless.match(text.buffer, text.at):
                    return _Value(None, 0, "it is read member by member")
                if len(text.buffer) - text.at > limit:
                    return _Value(None, 0, f"it is longer than {limit} bytes")
                if not text.more():
                    return self._not_json(error)
                continue
            # A number may continue in the next chunk.
            is_cut = len(text.buffer) - end < _LONGEST_TOKEN and text.buffer[end - 1] not in '}]"'
            if is_cut and text.more():
                continue
            if not text.is_exact(text.at, end):
                return _Value(None, end - text.at, "it is not JSON (bytes that are not UTF-8)", is_whole=True)
            if self._repeated:
                return _Value(None, end - text.at, f"it is ambiguous: {_said_of(self._repeated)}", is_whole=True)
            return _Value(value, end - text.at)

    def _not_json(self, error: Exception) -> _Value:
        text = self._text
        if not isinstance(error, json.JSONDecodeError):
            why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            return _Value(None, 0, f"it is not JSON ({why})")
        size = error.pos - text.at
        if not text.is_exact(text.at, error.pos + 1):
            return _Value(None, size, "it is not JSON (bytes that are not UTF-8)")
        is_cut = error.pos >= len(text.buffer) or error.msg.startswith("Unterminated string")
        end = ", and the file ends" if is_cut else ""
        return _Value(None, size, f"it is not JSON ({error.msg}: character {size + 1}{end})")

    def _unpacked(self, value: Any) -> list[Any] | None:
        """Return the records in *value* if it is a list or an envelope."""
        if isinstance(value, list):
            return value
        if not isinstance(value, dict) or self._mark in value or self._list_names.isdisjoint(value):
            return None
        names = [name for name in self._lists if isinstance(value.get(name), list)]
        if not names:
            return None
        records = [record for name in names for record in value[name]]
        unread = (_unread(name, member) for name, member in value.items() if name not in names)
        return records + [_Problem(why) for why in unread if why is not None]

    def _numbered(self, values: list[Any], size: int) -> Iterator[Entry]:
        """Yield records of a list, with their numbers; *size* is that of all of them."""
        for value in values:
            if isinstance(value, _Problem):
                yield self._broken_member(value.why)
            else:
                yield self._member(value, size // len(values))

    def _member(self, value: Any, size: int) -> Entry:
        text = self._text
        self._members = number = self._members + 1
        place = (number,) if self._begins_with_list else ("record", number)
        return Entry("record", number, text.line, text.byte, place, value, size)

    def _broken_member(self, problem: str) -> Entry:
        return self._member(None, 0)._replace(problem=problem)

    def _broken(self, problem: str) -> Entry:
        line, byte = self._text.line, None if self._text.fresh else self._text.byte
        return Entry("line", line, line, byte, (), None, 0, problem)

    def _note_first(self, *, is_list: bool) -> None:
        if self._begins_with_list is None:
            self._begins_with_list = is_list

    def _skip_broken(self, found: _Value) -> None:
        """Consume what cannot be read: the line, or several where the error is in a later one."""
        text = self._text
        if found.is_whole:
            text.consume(text.at + found.size)
        elif "\n" not in text.buffer[text.at : text.at + found.size]:
            text.skip_line()
        else:
            text.skip_to(_line_of_value(text.indent), len(text.indent) + 2)


class _Problem(NamedTuple):
    why: str


def _may_be_cut(error: Exception, text: str) -> bool:
    """Return whether *error* may be due to the end of the buffer."""
    return isinstance(error, json.JSONDecodeError) and (
        error.msg.startswith("Unterminated string") or error.pos >= len(text) - _LONGEST_TOKEN
    )


def _unread(name: str, value: Any) -> str | None:
    """Return why a member of an envelope must not be left out silently."""
    if isinstance(value, list) and name not in _HEADER_LISTS and any(isinstance(each, dict) for each in value):
        return f"its list {name!r:.80} is not read: it is not known to hold records"
    return None


def _line_of_value(indent: str) -> re.Pattern[str]:
    """Find the next line that begins a value, as far to the right as the one before."""
    return re.compile(rf"\n{re.escape(indent)}[{{\[]")


def _line_at_most(indent: str) -> re.Pattern[str]:
    """Find the next line that begins a value, or ends a list, and is not further to the right."""
    return re.compile(rf"\n[ \t]{{0,{len(indent)}}}[{{\[\]]")
