"""This library's own events as they come back from a file: exported documents, or plain objects of keywords."""

from __future__ import annotations

from typing import Any, Final

import orjson

from audit_logging.errors import EventFileError
from audit_logging.events.catalogue import CATALOGUE
from audit_logging.events.document import OWN_PATHS, PATHS, SCHEMA
from audit_logging.events.models import CommonFields
from audit_logging.integrations.event_times import EventTimes
from audit_logging.integrations.incoming import IncomingEvent, content_id, usable_id

Path = tuple[str, ...]

DETERMINED: Final[tuple[Path, ...]] = (
    ("host",),
    ("process",),
    ("service",),
    ("related",),
    ("event", "category"),
    ("event", "type"),
    ("event", "kind"),
    ("event", "severity"),
    ("event", "duration"),
    ("log", "level"),
    ("audit", "invalid"),
)
"""What the process that emitted an event determined: its own catalogue and settings, and where it ran."""

_METADATA: Final = ("audit", "metadata")
_HANDLED: Final = (_METADATA, ("audit", "integrity"), ("audit", "schema"), ("event", "action"))
_ROUTE: Final = ("http", "route")


TIME_NAMES: Final = (
    "timestamp",
    *("@timestamp time ts datetime date event_time eventTime occurred_at occurredAt created_at createdAt".split()),
)
"""What an object of keywords may call its time; the first that it has counts."""


def from_own_format(record: Any, place: tuple[object, ...] = (), times: EventTimes | None = None) -> IncomingEvent:
    """Return a line of our own format as an event.

    Args:
        record: A wire document, or an object of keywords with an ``event_type``.
        place: Where the record stands, for one that has no id: two equal lines are two events, unless it is the same
            line that comes again.
        times: Reads its time.

    Raises:
        EventFileError: It is neither.

    Example:
        >>> from_own_format({"event_type": "user.login", "event_id": "e-1", "user_id": "u-42"}).facts
        {'event_id': 'e-1', 'user_id': 'u-42'}
    """
    if not isinstance(record, dict):
        raise EventFileError("it is not a JSON object")
    if "event_type" in record:
        return _from_keywords(record, place, times or EventTimes())
    if isinstance(record.get("event"), dict) and "@timestamp" in record:
        return from_document(record)
    raise EventFileError("it is neither an exported event nor an object with an event_type")


def _from_keywords(record: dict[str, Any], place: tuple[object, ...], times: EventTimes) -> IncomingEvent:
    event_type = record["event_type"]
    if not isinstance(event_type, str) or not event_type.strip():
        raise EventFileError(f"its event_type is {event_type!r:.80}, not a dotted name such as 'user.login'")
    facts = {name: value for name, value in record.items() if name != "event_type"}
    facts["event_id"] = usable_id(record.get("event_id")) or content_id(record, *place)
    named = next((name for name in TIME_NAMES if record.get(name) is not None), None)
    if named is not None:
        value = record[named]
        # Under a name of its own a small number is more likely a duration than a second of 1970; a text is checked.
        is_number = isinstance(value, int) and not isinstance(value, bool)
        facts["timestamp"] = times.moment(str(value) if is_number and named != "timestamp" else value, named)
    return IncomingEvent(event_type, facts, {})


def from_document(document: dict[str, Any]) -> IncomingEvent:
    """Return an exported wire document as an event that becomes the same document, but for its seal.

    Every part of it that has no place of its own any more is kept in the metadata, under ``document``.

    Raises:
        EventFileError: It lacks an id, a type or a valid time, or is of a schema that this version does not know.
    """
    document = _refused_document(document) or document
    event_type, event_id = _at(document, ("event", "action")), usable_id(_at(document, PATHS["event_id"]))
    if not isinstance(event_type, str) or event_id is None:
        raise EventFileError("it has no event.action or no event.id")
    if (schema := _at(document, ("audit", "schema"))) != SCHEMA:
        raise EventFileError(f"its audit.schema is {schema!r:.40}, and this version reads {SCHEMA!r}")
    moment = EventTimes().moment(document["@timestamp"], "@timestamp")
    paths = _keyword_paths(event_type)
    facts = {keyword: value for keyword, path in paths.items() if (value := _at(document, path)) is not None}
    determined = {path: _at(document, path) for path in DETERMINED}
    if "endpoint" in paths and "endpoint" not in facts and "url_path" in facts:  # made before there was http.route
        facts["endpoint"] = facts["url_path"]
        determined[_ROUTE if "http" in document else _ROUTE[:1]] = None
    facts |= {"event_id": event_id, "timestamp": moment, **_metadata_facts(event_type, _at(document, _METADATA))}
    known = (*paths.values(), *DETERMINED, *_HANDLED)
    if rest := _without(document, known):
        facts["document"] = rest
    return IncomingEvent(event_type, facts, determined)


def _refused_document(document: dict[str, Any]) -> dict[str, Any] | None:
    """Return what stands in quarantine, so that another server may take it or refuse it in its turn."""
    text = _at(document, ("audit", "quarantine", "document"))
    try:
        refused = orjson.loads(text) if isinstance(text, str) else None
    except orjson.JSONDecodeError:
        return None
    return refused if isinstance(refused, dict) and "@timestamp" in refused else None


def _keyword_paths(event_type: str) -> dict[str, Path]:
    """Return which keyword stands where; of two for one place, the type's own."""
    own = {keyword: path for keyword, path in OWN_PATHS.get(event_type, {}).items() if path not in DETERMINED}
    return {keyword: path for keyword, path in PATHS.items() if path not in own.values()} | own


def _metadata_facts(event_type: str, metadata: Any) -> dict[str, Any]:
    """Return the metadata as the keywords they came from: the type's own, or unknown ones.

    Only what would be taken for another keyword stays in ``metadata``.
    """
    if not isinstance(metadata, dict):
        return {} if metadata is None else {"metadata": metadata}
    own = CATALOGUE.get(event_type).fields.model_fields.keys()
    taken = CommonFields.model_fields.keys() - own | (own if event_type in OWN_PATHS else set()) | {"document"}
    explicit = {name: value for name, value in metadata.items() if name in taken}
    facts = {name: value for name, value in metadata.items() if name not in taken}
    return facts | ({"metadata": explicit} if explicit else {})


def _at(document: dict[str, Any], path: Path) -> Any:
    node: Any = document
    for step in path:
        node = node.get(step) if isinstance(node, dict) else None
    return node


def _without(node: dict[str, Any], paths: tuple[Path, ...]) -> dict[str, Any]:
    """Return what is left of *node* when everything at *paths* is taken out."""
    ends = {path[0] for path in paths if len(path) == 1}
    rest: dict[str, Any] = {}
    for name, value in node.items():
        if name in ends:
            continue
        below = tuple(path[1:] for path in paths if path[0] == name)
        left = _without(value, below) if below and isinstance(value, dict) else value
        if not (isinstance(left, dict) and not left and below):
            rest[name] = left
    return rest
