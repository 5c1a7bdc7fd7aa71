"""Any Python value as plain JSON, with a defined outcome for every awkward one.

The result holds strings, booleans, null, arrays, objects and integers of 64 bits, and nothing else, so that its
canonical form needs no number rules. Nothing raises, nothing disappears unmarked:

=============================  ============================================================================
given                          becomes
=============================  ============================================================================
float, Decimal, larger int     its shortest text; ``NaN``, ``Infinity`` and ``-Infinity`` by name
bytes                          ``base64:`` and the bytes in base64
lone surrogate                 its escape as text (``\\ud800``), since UTF-8 cannot hold it
datetime                       ISO 8601, in UTC where it has a zone
enum member                    its value
set                            a list in the order of its JSON
dataclass, pydantic model      an object of its fields
keys that are no strings       their JSON text; a clash gets ``~2``, ``~3`` …
key in the redacted set        the value ``[redacted]``
secret in a text               ``[redacted]`` in its place, the rest stays
value within itself            ``[cycle]``
deeper than 16 levels          its JSON text from there on, cut like any text
longer than the index takes    its beginning and ``…[cut, N bytes]`` with its original size
an object that cannot print    ``[unprintable ClassName: ErrorName]``
=============================  ============================================================================
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import enum
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final

import orjson

from audit_logging.interrupts import is_interrupt

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Mask: TypeAlias = Callable[[str, str], str]

MAX_DEPTH: Final = 16
"""Levels of objects and arrays. OpenSearch 3.8 dies of a stack overflow on a flat_object some hundred levels deep."""

MAX_TEXT_BYTES: Final = 32_700
"""Lucene takes terms of 32,766 bytes; a flat_object term holds the field's own name twice beside path and value."""

MAX_KEY_BYTES: Final = 512

_ALWAYS_ROOM: Final = MAX_TEXT_BYTES - (MAX_DEPTH + 1) * (MAX_KEY_BYTES + 4)
"""Text this short needs no look at how long the path to it is."""

_DEPTH_OF_TEXT: Final = 64
"""Levels that are still told as JSON text below the deepest level that stays JSON."""

REDACTED: Final = "[redacted]"
STRUCTURED: Final = frozenset(
    "client_ip currency effective_user_id event_id http_method method organization_id outcome product_id request_id"
    " session_id source_ip span_id target_user_id target_user_name timestamp trace_id transaction_id url_domain"
    " user_agent user_email user_id user_name user_roles".split()
)
"""Keywords whose values are no free text, so that no secret is looked for in them."""

FEWEST_CARD_DIGITS: Final = 13
"""Digits from which on a number may be a payment card's (ISO/IEC 7812-1)."""

CYCLE: Final = "[cycle]"


class PlainValues:
    """Turns values into plain JSON.

    Args:
        secret_keys: ``secret_keys[key]`` says whether the value under that key must not enter the trail.
        mask: Returns a text without the secrets in it, given the text and the key that it stands under.

    Example:
        >>> PlainValues().of({"amount": 19.99, "tags": {"b", "a"}, 1: b"\\x00"})
        {'amount': '19.99', 'tags': ['a', 'b'], '1': 'base64:AA=='}
    """

    __slots__ = ("_mask", "_secret")

    def __init__(self, secret_keys: Mapping[str, bool] | None = None, mask: Mask | None = None) -> None:
        self._secret = secret_keys
        self._mask = mask

    @property
    def secret_keys(self) -> Mapping[str, bool] | None:
        """Which keys hold secrets."""
        return self._secret

    @property
    def mask(self) -> Mask | None:
        """What finds the secrets in a text."""
        return self._mask

    def of(self, value: Any) -> Any:
        """Return *value* as plain JSON. Never raises."""
        return self._plain(value, MAX_TEXT_BYTES, MAX_DEPTH, ())

    def of_mapping(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return *facts*, whose own level does not count as depth, as plain JSON. Never raises."""
        return self._object(facts, MAX_TEXT_BYTES, MAX_DEPTH + 1, ())

    def _plain(self, value: Any, room: int, depth: int, inside: tuple[int, ...], name: str = "") -> Any:
        kind = type(value)
        if kind is str:
            value = self._masked(value, name)
            return value if len(value) <= room and value.isascii() else text(value, room)
        if value is None or kind is bool:
            return value
        if kind is int:
            return self._number(value, room, name)
        if kind is float:
            return float_text(value)
        try:
            return self._container_or_other(value, room, depth, inside, name)
        except Exception as error:  # whatever an application's object does, the event must not be lost
            if is_interrupt(error):
                raise
            return text(f"[unprintable {kind.__name__}: {type(error).__name__}]", room)

    def _masked(self, value: str, name: str) -> str:
        # What is cut later needs no look; a secret that lies across the cut is looked for before it.
        return (
            value
            if self._mask is None or name in STRUCTURED
            else self._mask(value[: MAX_TEXT_BYTES + 1], name) + value[MAX_TEXT_BYTES + 1 :]
        )

    def _number(self, value: int, room: int, name: str) -> Any:
        if -_FIRST_CARD_NUMBER < value < _FIRST_CARD_NUMBER:
            return value
        digits = _digits(value)
        masked = self._masked(digits, name)
        return value if masked == digits and value in INT64 else text(masked, room)

    def _container_or_other(self, value: Any, room: int, depth: int, inside: tuple[int, ...], name: str) -> Any:
        members = _members(value)
        if members is None:
            simpler = _simpler(value)
            if isinstance(simpler, str):
                return text(self._masked(simpler, name), room)
            return self._plain(simpler, room, depth, inside, name)
        if id(value) in inside:
            return CYCLE
        if depth <= -_DEPTH_OF_TEXT:
            return f"[{len(members)} more inside]"
        inside = (*inside, id(value))
        plain: Any
        if isinstance(members, Mapping):
            plain = self._object(members, room, depth, inside)
        else:
            members = self._without_secret_positions(members) if self._secret is not None else members
            plain = [self._plain(member, room, depth - 1, inside, name) for member in members]
            if isinstance(value, AbstractSet):
                plain.sort(key=_json)
        return plain if depth else text(_json(plain).decode(), room)

    def _without_secret_positions(self, members: Sequence[Any]) -> Sequence[Any]:
        """Return *members* with secrets replaced that their place gives away: of pairs, and behind an option."""
        assert self._secret is not None
        if members and all(
            isinstance(each, list | tuple) and len(each) == _PAIR and _name(each[0]) for each in members
        ):
            return [[_name(each[0]), _hide(each[1])] if self._secret[_name(each[0])] else each for each in members]
        if not any(type(each) is str and each[:1] == "-" for each in members):
            return members
        command = str(members[0]).rpartition("/")[2]
        kept, hide = list(members), False
        for place, each in enumerate(members):
            if type(each) is not str:
                hide = False
                continue
            if hide and each[:1] != "-":
                kept[place] = REDACTED
            option = each.lstrip("-")
            hide = each[:1] == "-" and "=" not in each and (self._secret[option] or (command, each) in _SECRET_OPTIONS)
            if each[:2] == "-p" and each[2:3].strip("=") and command.startswith(("mysql", "mariadb")):
                kept[place] = f"-p{REDACTED}"
        return kept

    def _object(self, members: Mapping[Any, Any], room: int, depth: int, inside: tuple[int, ...]) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        secret, mask = self._secret, self._mask
        awkward = []
        if secret is not None and depth <= MAX_DEPTH and not _NAMING.isdisjoint(members):
            members = _without_named_secret(members, secret)
        for key, value in members.items():
            if mask is not None and type(key) is str and len(key) >= _LONG_KEY and (masked := mask(key, "")) != key:
                awkward.append((text(masked, MAX_KEY_BYTES), value))
                continue
            if type(key) is not str or len(key) > MAX_KEY_BYTES or not key.isascii():
                name = text(self._key(key), MAX_KEY_BYTES)
                if name != key:
                    awkward.append((name, value))
                    continue
            if secret is not None and secret[key]:
                plain[key] = _hide(value)
            elif type(value) is str and len(value) <= _ALWAYS_ROOM and value.isascii():
                plain[key] = value if mask is None or key in STRUCTURED else mask(value, key)
            else:
                plain[key] = self._plain(value, room - len(key.encode()) - 1, depth - 1, inside, key)
        for name, value in awkward:  # a key that had to be changed gives way to one that had not
            hidden = secret is not None and secret[name]
            add_unique(
                plain,
                name,
                REDACTED if hidden else self._plain(value, room - len(name.encode()) - 4, depth - 1, inside, name),
            )
        return plain

    def _key(self, key: Any) -> str:
        if isinstance(key, str):
            return str.__str__(key)
        plain = self._plain(key, MAX_KEY_BYTES, 1, ())
        return plain if isinstance(plain, str) else _json(plain).decode()


_PAIR: Final = 2
_LONG_KEY: Final = 16
_NAMING: Final = frozenset({"name", "key", "field", "header", "option", "param", "parameter", "property", "attribute"})
_VALUES: Final = frozenset(
    {"value", "before", "after", "old", "new", "old_value", "new_value", "from", "to", "content"}
)
_SECRET_OPTIONS: Final = frozenset(
    {
        ("curl", "-u"),
        ("curl", "--user"),
        ("curl", "--proxy-user"),
        ("wget", "--user"),
        ("sshpass", "-p"),
        ("http", "-a"),
    }
)


def _name(value: Any) -> str:
    """Return what may be the name of a pair; an empty text for anything else."""
    if isinstance(value, bytes):
        return value[:MAX_KEY_BYTES].decode("latin-1")
    return value if type(value) is str else ""


def _hide(value: Any) -> Any:
    """Return what is told of a secret value: that there is one, and of a change which side had one."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping) and value and value.keys() <= {"before", "after"}:
        return {name: _hide(side) for name, side in value.items()}
    return REDACTED


def _without_named_secret(members: Mapping[Any, Any], secret: Mapping[str, bool]) -> Mapping[Any, Any]:
    """Return *members* without a secret that one of them names: ``{"name": "password", "value": …}``."""
    names = [members[key] for key in _NAMING if key in members]
    if not any(type(name) is str and secret[name] for name in names):
        return members
    return {key: _hide(value) if key in _VALUES else value for key, value in members.items()}


_FIRST_CARD_NUMBER: Final = 10 ** (FEWEST_CARD_DIGITS - 1)
INT64: Final = range(-(1 << 63), 1 << 63)
"""The integers that stay integers."""


def text(value: str, room: int = MAX_TEXT_BYTES) -> str:
    """Return *value* as text that UTF-8 can hold and that takes at most *room* bytes (or says that it was cut).

    Example:
        >>> text("\\ud800"), text("x" * 40, room=30)
        ('\\\\ud800', 'xxxxxxxxxxxx…[cut, 40 bytes]')
    """
    value = str.__str__(value)
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        encoded = value.encode("utf-8", "backslashreplace")
        value = encoded.decode()
    if len(encoded) <= room:
        return value
    mark = f"…[cut, {len(encoded)} bytes]"
    kept = encoded[: max(room - len(mark.encode()), 0)]
    return kept.decode("utf-8", "ignore") + mark


def each_text(value: Any, change: Callable[[str], str], but: AbstractSet[str] = frozenset()) -> Any:
    """Return plain JSON with every text in it changed; keys are no texts.

    Args:
        value: Plain JSON.
        change: Returns what a text becomes.
        but: Keys whose values stay as they are.

    Example:
        >>> each_text({"name": "ann", "tags": ["a", 1]}, str.upper)
        {'name': 'ANN', 'tags': ['A', 1]}
    """
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: member if key in but else each_text(member, change, but) for key, member in value.items()}
    if isinstance(value, list):
        return [each_text(member, change, but) for member in value]
    return value


def add_unique(target: dict[str, Any], key: str, value: Any) -> None:
    """Put *value* under *key*, or under ``key~2``, ``key~3`` … where the name is taken."""
    name, count = key, 1
    while name in target:
        count += 1
        name = f"{key}~{count}"
    target[name] = value


def _members(value: Any) -> Mapping[Any, Any] | Sequence[Any] | None:
    """Return what *value* contains, or None when it is not a container."""
    if isinstance(value, (str, bytes, bytearray, memoryview, enum.Enum)):
        return None
    if isinstance(value, Mapping):
        return value
    if isinstance(value, (Sequence, AbstractSet)):
        return list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "__pydantic_fields_set__") and not isinstance(value, type):
        fields: dict[str, Any] = {**value.__dict__, **(value.__pydantic_extra__ or {})}
        return fields
    return None


def _simpler(value: Any) -> Any:
    """Return an awkward scalar as something simpler: an exact built-in, or text."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "base64:" + base64.b64encode(value).decode()
    if isinstance(value, dt.datetime):
        return time_text(value)
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return str(value)


def time_text(value: dt.datetime) -> str:
    """Return a time in ISO 8601, in UTC where it has a zone."""
    return iso_utc(value) if value.tzinfo is not None else value.isoformat()


def iso_utc(moment: dt.datetime) -> str:
    """Return an aware *moment* in UTC, ISO 8601 with microseconds and ``Z``.

    Example:
        >>> iso_utc(dt.datetime(2026, 3, 1, 12, tzinfo=dt.timezone.utc))
        '2026-03-01T12:00:00.000000Z'
    """
    try:
        moment = moment.astimezone(dt.timezone.utc)
    except OverflowError:  # the first or last hours of the calendar
        return moment.isoformat()
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python refuses to print integers of thousands of digits in decimal
        return hex(value)


def float_text(value: float) -> str:
    """Return a float as its shortest text; what is not finite by name."""
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
