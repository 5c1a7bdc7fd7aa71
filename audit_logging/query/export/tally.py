"""What an export counts as it goes: events an hour, and the stretch of every writer."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from audit_logging.query.export.page import UNSEALED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from audit_logging.query.export.page import Stored

_HOUR = len("2026-03-01T12")
_UNSEALED_WRITER = UNSEALED[0]


class Tally:
    """Counts events.

    Attributes:
        events: How many.
        hours: How many in each hour, by its begin in UTC.
        first, last: The first and the last moment; empty while there is no event.
        unsealed: How many bear no seal.
    """

    def __init__(self, facts: dict[str, Any] | None = None) -> None:
        facts = facts or {}
        self.events: int = facts.get("events", 0)
        self.hours: Counter[str] = Counter(facts.get("hours", {}))
        self.first: str = facts.get("first", "")
        self.last: str = facts.get("last", "")
        self.unsealed: int = facts.get("unsealed", 0)
        # writer -> first and last sequence, events, sum of the sequences
        self._writers: dict[str, list[int]] = {
            name: [each["first"], each["last"], each["events"], each["sum"]]
            for name, each in facts.get("writers", {}).items()
        }

    def add(self, events: list[Stored]) -> None:
        """Count *events*."""
        if not events:
            return
        self.events += len(events)
        for hour, count in Counter([event[0][:_HOUR] for event in events]).items():
            self.hours[f"{hour.decode()}:00Z"] += count
        first, last = (f"{pick(events)[0].decode()}Z" for pick in (min, max))
        self.first = min(self.first, first) if self.first else first
        self.last = max(self.last, last)
        by_writer: dict[bytes, list[int]] = {}
        for _, writer, sequence, _ in events:
            if writer in by_writer:
                by_writer[writer].append(sequence)
            else:
                by_writer[writer] = [sequence]
        for name, sequences in by_writer.items():
            self._add(name, sequences)

    def _add(self, writer: bytes, sequences: list[int]) -> None:
        if writer == _UNSEALED_WRITER:
            self.unsealed += len(sequences)
            return
        name = writer.decode("utf-8", "replace")
        low, high, count, total = self._writers.get(name, (sequences[0], sequences[0], 0, 0))
        low, high = min(low, *sequences), max(high, *sequences)
        self._writers[name] = [low, high, count + len(sequences), total + sum(sequences)]

    def facts(self) -> dict[str, Any]:
        """Return the counts as JSON values, sorted; :class:`Tally` takes them again."""
        return {
            "events": self.events,
            "first": self.first,
            "last": self.last,
            "hours": dict(sorted(self.hours.items())),
            "unsealed": self.unsealed,
            "writers": {name: _stretch(*facts) for name, facts in sorted(self._writers.items())},
        }


def _stretch(first: int, last: int, events: int, total: int) -> dict[str, Any]:
    """Return one writer's; contiguous where the number and the sum of its sequences are those of a stretch."""
    whole = events == last - first + 1 and 2 * total == (first + last) * events
    return {"first": first, "last": last, "events": events, "sum": total, "contiguous": whole}


def differences(claimed: dict[str, Any], found: dict[str, Any], place: str = "") -> Iterable[str]:
    """Yield a sentence for every fact that is not as claimed."""
    for name in sorted(claimed.keys() | found.keys()):
        left, right = claimed.get(name), found.get(name)
        if isinstance(left, dict) and isinstance(right, dict):
            yield from differences(left, right, f"{place}{name} ")
        elif left != right:
            yield f"{place}{name}: the manifest says {_said(left)}, the file has {_said(right)}"


def _said(value: Any) -> str:
    return "nothing" if value is None else str(value)[:200]
