"""Turns records of other systems into events, as a mapping describes."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final

import orjson

from audit_logging.errors import EventFileError
from audit_logging.events.document import SEVERITY_NUMBERS
from audit_logging.integrations.incoming import IncomingEvent, content_id, snake_case, unwrapped, usable_id
from audit_logging.integrations.mapping import PLACEHOLDER, steps_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from audit_logging.integrations.event_times import EventTimes
    from audit_logging.integrations.mapping import Mapping

_ADDRESSES: Final = ("source_ip", "client_ip")
_LISTS: Final = ("user_roles", "tags")


class MappedFormat:
    """Makes events of the records of one format.

    Args:
        mapping: Describes the format.
    """

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._time_text = ""
        self._seen: dict[str, int] = {}

    def begin_file(self) -> None:
        """Count repeated lines anew: the same line in another file may be of a copy."""
        self._time_text, self._seen = "", {}

    def event_of(self, record: Any, times: EventTimes) -> IncomingEvent:
        """Return one *record*, an object or a line of text, as an event.

        Raises:
            EventFileError: It is not a record of the format, or its time is not understood.
        """
        mapping = self._mapping
        identity: list[Any] = [mapping.name, record]
        if mapping.lines:
            identity.append(self._occurrence(record))
            record = self._parts(record)
        else:
            record = unwrapped(record, mapping.unwrap, mapping.mark)
            identity[1] = record
        if not isinstance(record, dict):
            raise EventFileError("it is not a JSON object")
        if record.get(mapping.mark) is None:
            raise EventFileError(f"it is no record of {mapping.name}: it has no {mapping.mark}")
        named = next((path for path in mapping.time if _at(record, path) is not None), mapping.time[0])
        moment = times.moment(_at(record, named), named, may_lack_year=mapping.time_may_lack_year)
        set_by_rules = self._set_by_rules(record)
        event_type = set_by_rules.pop("event_type", None) or next(
            (filled for each in mapping.event_type if (filled := _filled(record, each, is_type=True))), None
        )
        if not event_type:
            raise EventFileError(f"it has none of the members of its event type: {', '.join(mapping.event_type)}")
        origin = self._origin(record, set_by_rules)
        facts: dict[str, Any] = {
            "event_id": (mapping.id and usable_id(_filled(record, mapping.id))) or content_id(*identity),
            "timestamp": moment,
            "outcome": "unknown",
            "tags": [mapping.name],
            **self._fields(record),
            **set_by_rules,
        }
        if facts["outcome"] == "failure" and ("log", "level") not in origin:
            origin |= _severity("warning")
        metadata = {name: value for name, value in record.items() if name not in mapping.omit and value is not None}
        metadata |= set_by_rules.get("metadata", {})
        if resource := _first(record, mapping.resource):
            metadata["resource"] = resource
        facts["metadata"] = metadata
        return IncomingEvent(event_type, facts, origin)

    def _parts(self, line: str) -> dict[str, Any]:
        for pattern in self._mapping.lines:
            if found := pattern.fullmatch(line):
                return {name: part for name, part in found.groupdict().items() if part is not None}
        raise EventFileError(f"it is no line of {self._mapping.name}")

    def _occurrence(self, line: str) -> int:
        """Return how often the same line came before within the same second: twice the same is two events.

        The place in the file does not count, since logs are rotated and cut.
        """
        parts = next((found for pattern in self._mapping.lines if (found := pattern.fullmatch(line))), None)
        time_text = parts.groupdict().get(self._mapping.time[0]) if parts else None
        if time_text != self._time_text:
            self._time_text, self._seen = time_text or "", {}
        count = self._seen.get(line, 0)
        self._seen[line] = count + 1
        return count

    def _fields(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return the keywords; an address that is none stays in the metadata alone."""
        found = {
            keyword: _first(record, paths, as_list=keyword in _LISTS) for keyword, paths in self._mapping.fields.items()
        }
        return {
            keyword: value
            for keyword, value in found.items()
            if value not in (None, "", []) and (keyword not in _ADDRESSES or _is_address(value))
        }

    def _set_by_rules(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return what the rules set; of two that set the same, the first."""
        given: dict[str, Any] = {}
        for rule in self._mapping.rules:
            view = dict(record)
            for path, condition in rule.when.items():
                holds = condition.holds(_at(view, path))
                if not holds:
                    break
                if not isinstance(holds, bool):
                    view |= {name: part for name, part in holds.groupdict().items() if part is not None}
            else:
                outcomes = rule.set
                if outcomes.event_type:
                    given.setdefault("event_type", _filled(view, outcomes.event_type, is_type=True))
                for name in ("outcome", "severity", "category", "type"):
                    if (value := getattr(outcomes, name)) is not None:
                        given.setdefault(name, value)
                for keyword, template in outcomes.fields.items():
                    value = _filled(view, template)
                    if value and (keyword not in _ADDRESSES or _is_address(value)):
                        given.setdefault(keyword, value)
                more = {
                    name: value for name, template in outcomes.metadata.items() if (value := _filled(view, template))
                }
                given["metadata"] = more | given.get("metadata", {})
        return given

    def _origin(self, record: dict[str, Any], given: dict[str, Any]) -> dict[tuple[str, ...], Any]:
        """Return what the recording system determined, and take it out of *given*."""
        mapping = self._mapping
        origin: dict[tuple[str, ...], Any] = {("service",): {"name": _first(record, mapping.service) or mapping.name}}
        for name in ("category", "type"):
            if (value := given.pop(name, None)) is not None:
                origin["event", name] = list(value)
        if (severity := given.pop("severity", None)) is not None:
            origin |= _severity(severity)
        if mapping.host and (host := _at(record, mapping.host)):
            origin["host",] = {"name": str(host)}
        if mapping.pid and str(pid := _at(record, mapping.pid)).isdecimal():
            origin["process",] = {"pid": int(pid)}
        return origin


def _severity(name: str) -> dict[tuple[str, ...], Any]:
    return {("event", "severity"): SEVERITY_NUMBERS[name], ("log", "level"): name}


def _at(record: Any, path: str) -> Any:
    node = record
    for step in steps_of(path):
        if isinstance(node, dict):
            node = node.get(step)
        elif isinstance(node, list) and step.lstrip("-").isdecimal() and -len(node) <= int(step) < len(node):
            node = node[int(step)]
        else:
            return None
    return node


def _first(record: Any, expressions: Iterable[str], *, as_list: bool = False) -> Any:
    for expression in expressions:
        value = _filled(record, expression) if "{" in expression else _at(record, expression)
        if value not in (None, "", []):
            return value if as_list and isinstance(value, list) else _text(value)
    return None


def _filled(record: Any, template: str, *, is_type: bool = False) -> str | None:
    """Return *template* with values in place of paths; None if one of them is missing."""
    parts: list[str] = []
    end = 0
    for placeholder in PLACEHOLDER.finditer(template):
        value = _at(record, placeholder[1])
        if value in (None, ""):
            return None
        text = _text(value)
        spelled = ".".join(filter(None, map(snake_case, text.split(".")))) if is_type else text
        parts += template[end : placeholder.start()], spelled
        end = placeholder.end()
    return "".join(parts) + template[end:]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def _is_address(value: Any) -> bool:
    try:
        return bool(ipaddress.ip_address(value))
    except ValueError:
        return False
