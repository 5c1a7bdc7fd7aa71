"""The quick way to a document: a stamp for each shape of event, cut from a document that was drawn the exact way.

The events of an application look alike: the same type, the same keywords, other values. Their documents differ only in
the values that are copied into them. So the first event of a shape is drawn again with marks in place of those values;
what stands between the marks is the stamp, and it prints the documents of all later events of that shape.

The exact way stays the authority, and a stamp does nothing else than it:

- A value is copied only where the exact way copies every value of its Python type, or refuses it by the very functions
  that are called here (:mod:`audit_logging.events.slots`). Any other value belongs to what chooses the stamp.
- So does the order of values that are sorted or compared, as in ``related.user``.
- A stamp is kept only if it prints, byte for byte, the document that the exact way drew for the event at hand.
- What is awkward (empty, large, not UTF-8, refused) is left to the exact way; so are containers and what is invalid.
"""

from __future__ import annotations

import re
import secrets
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import orjson

from audit_logging.events.imitations import imitates
from audit_logging.events.slots import Role, Slot, UnfitError, is_transparent, moment_mark, role_of
from audit_logging.interrupts import is_interrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from audit_logging.events.catalogue import Catalogue, EventType
    from audit_logging.events.values import Mask

    Draw: TypeAlias = Callable[[str, Mapping[str, Any], str, str], bytes]

_MOST_BYTES: Final = 20_000
"""A document up to this size holds nothing that any bound would cut."""

_MOST_SHAPES: Final = 1000
_MOST_STAMPS_OF_A_SHAPE: Final = 200
"""An application that makes up keywords or values must not fill the memory."""

_ATTEMPTS: Final = 3
"""A mark may happen to be found where it does not belong; the next ones will not."""

_COMPARED: Final = (
    frozenset({"user_id", "user_name", "effective_user_id", "target_user_id", "target_user_name"}),
    frozenset({"source_ip", "client_ip"}),
    frozenset({"method", "http_method"}),
)
"""Keywords whose values the exact way sorts among each other, or compares."""


class Stamps:
    """Prints the documents of events whose shape is known, and learns the shapes.

    Args:
        catalogue: The known event types; what was learnt is forgotten when another is registered.
        draw: The exact way: event type, facts, id and time for an event that has none, to the canonical document.
        mask: Finds the secrets in a text, as the exact way does.
    """

    def __init__(self, catalogue: Catalogue, draw: Draw, mask: Mask | None = None) -> None:
        self._catalogue = catalogue
        self._draw = draw
        self._mask = mask
        self._revision = catalogue.revision
        self._shapes: dict[tuple[Any, ...], _Shape | None] = {}

    def print(self, event_type: str, facts: Mapping[str, Any], event_id: str, moment: str) -> tuple[str, bytes] | None:
        """Return an event's id and its canonical document, or None when it is one for the exact way.

        Args:
            event_type: Its name.
            facts: Its keywords.
            event_id: Its id, unless *facts* have one.
            moment: Its time, unless *facts* have one.
        """
        try:
            shape = self._shapes.get((event_type, *facts, *map(type, facts.values())))
            if shape is None or self._revision != self._catalogue.revision:
                return None
            values = shape.values(facts, event_id, moment)
            stamp = shape.stamps.get(shape.choose(values))
            canonical = stamp.print(values) if stamp is not None else None
        except Exception as error:  # whatever is the matter with a value, the exact way knows what to do
            if is_interrupt(error):
                raise
            return None
        return None if canonical is None else (values[shape.event_id], canonical)

    def learn(self, event_type: str, facts: Mapping[str, Any], event_id: str, moment: str, canonical: bytes) -> None:
        """Cut a stamp after a valid event that the exact way has drawn as *canonical*."""
        if len(canonical) > _MOST_BYTES:
            return
        try:
            shape = self._shape(event_type, facts)
            if shape is None or len(shape.stamps) >= _MOST_STAMPS_OF_A_SHAPE:
                return
            values = shape.values(facts, event_id, moment)
            choice = shape.choose(values)
            if choice not in shape.stamps and not shape.is_awkward(values):
                shape.stamps[choice] = None  # whatever happens now, it is not tried again
                shape.stamps[choice] = self._cut(event_type, facts, shape, values, canonical)
        except Exception as error:  # what only saves time must not cost an event
            if is_interrupt(error):
                raise

    def _shape(self, event_type: str, facts: Mapping[str, Any]) -> _Shape | None:
        if self._revision != self._catalogue.revision:
            self._revision, self._shapes = self._catalogue.revision, {}
        key = (event_type, *facts, *map(type, facts.values()))
        if key not in self._shapes and len(self._shapes) < _MOST_SHAPES:
            try:
                self._shapes[key] = _Shape(self._catalogue.get(event_type), facts, self._mask)
            except UnfitError:
                self._shapes[key] = None
        return self._shapes.get(key)

    def _cut(
        self, event_type: str, facts: Mapping[str, Any], shape: _Shape, values: list[Any], canonical: bytes
    ) -> _Stamp | None:
        for _ in range(_ATTEMPTS):
            marked, *own = shape.mark(facts, values)
            stamp = _Stamp.cut(self._draw(event_type, marked, *own), shape.copied, shape.values(marked, *own))
            if stamp.print(values) == canonical:
                return stamp
        return None


class _Shape:
    """The events of one type with the same keywords, and values of the same types.

    Values are counted by their place among the facts; the event's own id and time follow.

    Attributes:
        choose: Returns, of the values, what decides between documents that differ in more than what is copied.
        copied: The places of what is copied.
        event_id: The place of the event's id.
        stamps: What was learnt, by choice; None where the exact way is the only one.
    """

    __slots__ = ("_chosen", "_compared", "_slots", "_steps", "choose", "copied", "event_id", "stamps")

    def __init__(self, event_type: EventType, facts: Mapping[str, Any], mask: Mask | None) -> None:
        names = list(facts)
        if not is_transparent(event_type.fields) or not all(type(name) is str for name in names):
            raise UnfitError
        fields = event_type.model.model_fields
        roles = [role_of(name, type(value), fields.get(name), mask) for name, value in facts.items()]
        self._slots = {place: role for place, role in enumerate(roles) if isinstance(role, Slot)}
        self._steps = [(place, step) for place, slot in self._slots.items() for step in slot.steps]
        chosen = [place for place, role in enumerate(roles) if role is Role.CHOICE]
        self._chosen: Callable[[Sequence[Any]], Any] = itemgetter(*chosen) if chosen else _nothing
        groups = [[place for place in self._slots if names[place] in group] for group in _COMPARED]
        self._compared = [group for group in groups if len(group) > 1]
        self.choose = self._choice if self._compared else self._chosen
        self.copied = [*self._slots, len(names), len(names) + 1]
        self.event_id = names.index("event_id") if facts.get("event_id") is not None else len(names)
        self.stamps: dict[Any, _Stamp | None] = {}

    def values(self, facts: Mapping[str, Any], event_id: str, moment: str) -> list[Any]:
        """Return the values, those that are copied as the text that they are copied as."""
        values = [*facts.values(), event_id, moment]
        for place, step in self._steps:
            values[place] = step(values[place])
        return values

    def _choice(self, values: Sequence[Any]) -> tuple[Any, ...]:
        return (self._chosen(values), *[_ranks([values[place] for place in group]) for group in self._compared])

    def is_awkward(self, values: Sequence[Any]) -> bool:
        """Tell whether no stamp could print these values."""
        texts = [values[place] for place in self.copied]
        return "" in texts or not all(_is_utf8(text) for text in texts)

    def mark(self, facts: Mapping[str, Any], values: Sequence[Any]) -> tuple[dict[str, Any], str, str]:
        """Return *facts*, an id and a time with marks for all that is copied, in the order of what they stand for."""
        ordered = sorted({values[place] for place in self.copied})
        groups = {place: number for number, group in enumerate(self._compared) for place in group}
        digits: dict[tuple[int, str], str] = {}
        marks = []
        for place in self.copied:
            value = values[place]
            fresh = f"8{ordered.index(value):03}{secrets.randbelow(10**15):015}"
            marks.append(digits.setdefault((groups.get(place, -1 - place), value), fresh))
        names, marked = list(facts), dict(facts)
        for (place, slot), mark in zip(self._slots.items(), marks, strict=False):
            marked[names[place]] = slot.mark(mark)
        return marked, marks[-2], moment_mark(marks[-1])


def _nothing(_: Sequence[Any]) -> None:
    return None


def _ranks(values: list[str]) -> tuple[int, ...]:
    ordered = sorted(set(values))
    return tuple(map(ordered.index, values))


def _is_utf8(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


class _Stamp(NamedTuple):
    """The canonical document with gaps; which values it takes; and which of those goes into which gap."""

    text: bytes
    taken: itemgetter[Any]
    gaps: itemgetter[Any]

    @classmethod
    def cut(cls, drawn: bytes, places: Sequence[int], values: Sequence[Any]) -> _Stamp:
        """Return the stamp that is left of a document when the marks in it become gaps."""
        place_of = {values[place].encode(): place for place in reversed(places)}
        marks = re.compile(b"(%b)" % b"|".join(map(re.escape, sorted(place_of, key=len, reverse=True))))
        text, *rest = marks.split(drawn)
        gaps = [place_of[mark] for mark in rest[::2]]
        taken = sorted(set(gaps))
        text = b"%b".join(piece.replace(b"%", b"%%") for piece in (text, *rest[1::2]))
        return cls(text, itemgetter(*taken), itemgetter(*map(taken.index, gaps)))

    def print(self, values: Sequence[Any]) -> bytes | None:
        """Return the document with these values, or None where one is empty or looks protected, or it is large."""
        # One call escapes all the texts. Within them every quote is escaped, so that this surely separates them.
        joined = orjson.dumps(self.taken(values))
        texts = joined[2:-2].split(b'","')
        # The last test, written out: a call for each event costs as much as both searches.
        if b"" in texts or b"enc:1:" in joined or (b'"p-' in joined and imitates(joined)):
            return None
        canonical: bytes = self.text % self.gaps(texts)
        return canonical if len(canonical) <= _MOST_BYTES else None
