"""From facts to the wire document: one ECS-shaped JSON object, serialised once, canonical.

Canonical means: keys unique and sorted by code point, no white space, and of numbers only 64-bit integers, so that
any language can recompute the hash over it. The seal is spliced into these bytes later; they are never re-serialised.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import orjson
from pydantic import ValidationError

from audit_logging.errors import InvalidEventError
from audit_logging.events.bounds import fit
from audit_logging.events.identity import clock_problem, new_identity
from audit_logging.events.imitations import escape, escape_facts, imitates, is_escaped
from audit_logging.events.models import CommonFields
from audit_logging.events.stamps import Stamps
from audit_logging.events.values import PlainValues, add_unique, text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from audit_logging.events.catalogue import Catalogue, EventType
    from audit_logging.settings import Settings

SCHEMA = "1"
"""Version of the wire document; ``audit.schema`` of every event."""

SEVERITY_NUMBERS = {"info": 20, "warning": 30, "critical": 50}
"""``event.severity`` per ``log.level``: the numbers that Python's logging gives these words."""

PATHS: Mapping[str, tuple[str, ...]] = {
    "event_id": ("event", "id"),
    "timestamp": ("@timestamp",),
    "user_id": ("user", "id"),
    "user_name": ("user", "name"),
    "user_email": ("user", "email"),
    "user_roles": ("user", "roles"),
    "effective_user_id": ("user", "effective", "id"),
    "target_user_id": ("user", "target", "id"),
    "target_user_name": ("user", "target", "name"),
    "organization_id": ("organization", "id"),
    "source_ip": ("source", "ip"),
    "source_port": ("source", "port"),
    "client_ip": ("client", "ip"),
    "user_agent": ("user_agent", "original"),
    "url_path": ("url", "path"),
    "url_domain": ("url", "domain"),
    "http_method": ("http", "request", "method"),
    "request_id": ("http", "request", "id"),
    "session_id": ("session", "id"),
    "trace_id": ("trace", "id"),
    "span_id": ("span", "id"),
    "outcome": ("event", "outcome"),
    "reason": ("event", "reason"),
    "message": ("message",),
    "tags": ("tags",),
    "labels": ("labels",),
    "changes": ("audit", "changes"),
}
"""Where each common keyword stands in the document (Elastic Common Schema, but for ``session``, ``audit``)."""

_URL_PATH = PATHS["url_path"]

API_CALL_PATHS: Mapping[str, tuple[str, ...]] = {
    "endpoint": ("http", "route"),
    "method": ("http", "request", "method"),
    "status_code": ("http", "response", "status_code"),
    "response_time_ms": ("event", "duration"),
}
"""Where the own keywords of ``api.call`` stand (``http.route`` is OpenTelemetry's: ECS has no field for it)."""

WEBSOCKET_PATHS: Mapping[str, tuple[str, ...]] = {
    "endpoint": ("http", "route"),
    "status_code": ("http", "response", "status_code"),
    "duration_ms": ("event", "duration"),
}
"""Where the own keywords of the WebSocket events stand; ``close_code`` is metadata."""

OWN_PATHS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "api.call": API_CALL_PATHS,
    "websocket.connected": WEBSOCKET_PATHS,
    "websocket.closed": WEBSOCKET_PATHS,
    "websocket.refused": WEBSOCKET_PATHS,
}
"""Where the own keywords of an event type stand that are not metadata."""

_USERS = ("user_id", "user_name", "effective_user_id", "target_user_id", "target_user_name")
_ADDRESSES = ("source_ip", "client_ip")
_SPLICE_OFFSET = len('{"@timestamp":"2026-01-01T00:00:00.000000Z","audit":{')

_log = logging.getLogger("audit_logging")

Keywords: TypeAlias = "tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]"
"""The valid keywords, what becomes metadata, and the names of what did not validate."""

Origin: TypeAlias = "Mapping[tuple[str, ...], Any]"
"""Paths in the document and what stands there instead of what this process would put; None: nothing."""


class Privacy(Protocol):
    """What protects personal data (see :class:`audit_logging.privacy.policy.PrivacyPolicy`)."""

    def concerns(self, event_type: str, names: Collection[str], /) -> bool:
        """Tell whether an event of that type with those keywords could be changed."""
        ...

    def apply(self, event_type: str, valid: dict[str, Any], extra: dict[str, Any], /) -> None:
        """Protect an event's keywords, in place."""
        ...


class Document(NamedTuple):
    """One event, ready to be sealed.

    Attributes:
        event_id: Id of the event.
        canonical: The canonical JSON, without the seal.
        splice: Offset in *canonical* at which ``"integrity":{…},`` keeps the keys sorted.
    """

    event_id: str
    canonical: bytes
    splice: int

    @property
    def fields(self) -> Any:
        """The same as an object, parsed anew each time."""
        return orjson.loads(self.canonical)


class DocumentBuilder:
    """Builds documents for one application.

    Args:
        settings: Service, environment, severity overrides and what to do with invalid values.
        catalogue: The known event types.
        plain: How values become plain JSON, and which keys are secret.
        privacy: What of an event is personal; None where nothing is.
    """

    def __init__(
        self, settings: Settings, catalogue: Catalogue, plain: PlainValues, privacy: Privacy | None = None
    ) -> None:
        self._privacy = privacy
        self._catalogue = catalogue
        self._plain = plain
        # What the library says of itself holds queries and names that look drawn by lot, and has no secrets in it.
        self._own = PlainValues(plain.secret_keys)
        self._overrides = settings.severity_overrides
        self._strict = settings.on_invalid == "raise"
        service = {
            "name": settings.service,
            "version": settings.service_version,
            "environment": settings.environment,
        }
        self._service = {name: text(value, 1024) for name, value in service.items() if value is not None}
        self._host = {"name": text(socket.gethostname(), 1024)}
        self._stamps = Stamps(catalogue, lambda *given: self._draw(*given)[0].canonical, plain.mask)
        self._warned: set[tuple[str, tuple[str, ...]]] = set()

    def build(self, event_type: str, facts: Mapping[str, Any], origin: Origin | None = None) -> Document:
        """Return the document of an event of *event_type* with these keywords.

        Args:
            event_type: Dotted name; a malformed or unknown one is recorded as it is.
            facts: The keywords of the call and its context, of any Python type.
            origin: For an event that another system recorded first: what it determined, over what this process would.

        Raises:
            InvalidEventError: A value did not validate and the settings ask to ``raise``.
        """
        event_id, moment = new_identity()
        is_quick = (
            origin is None
            and type(event_type) is str
            and not clock_problem
            and not self._is_personal(event_type, facts)
        )
        if is_quick:
            printed = self._stamps.print(event_type, facts, event_id, moment)
            if printed is not None:
                return Document(printed[0], printed[1], _SPLICE_OFFSET)
        name = event_type if type(event_type) is str else str(self._plain.of(event_type))
        document, invalid = self._draw(name, facts, event_id, moment, origin)
        if invalid:
            self._report(name, invalid)
        elif is_quick and not is_escaped(document.canonical):
            self._stamps.learn(name, facts, event_id, moment, document.canonical)
        return document

    def _is_personal(self, event_type: str, facts: Mapping[str, Any]) -> bool:
        return self._privacy is not None and self._privacy.concerns(event_type, facts.keys())

    def _draw(
        self, name: str, facts: Mapping[str, Any], event_id: str, moment: str, origin: Origin | None = None
    ) -> tuple[Document, tuple[str, ...]]:
        """Do what :meth:`build` does, the exact way; also return the names of what did not validate."""
        known = self._catalogue.get(name)
        plain = self._own if known.internal else self._plain
        given = plain.of_mapping(facts)
        if imitates(orjson.dumps(given)):
            given = escape_facts(given, internal=known.internal)
        valid, extra, invalid = _validate(known, given)
        if self._privacy is not None:
            self._privacy.apply(name, valid, extra)
        return self._assemble(known, (valid, extra, invalid), event_id, moment, origin), invalid

    def _assemble(
        self, event_type: EventType, keywords: Keywords, event_id: str, moment: str, origin: Origin | None
    ) -> Document:
        valid, extra, invalid = keywords
        if clock_problem and "timestamp" not in valid:
            extra = {**extra, "clock": clock_problem[0]}
            invalid = tuple(sorted({*invalid, "timestamp"}))
        outcome, severity = event_type.judge(valid)
        severity = self._overrides.get(event_type.name, severity)
        audit: dict[str, Any] = {"schema": SCHEMA}
        event: dict[str, Any] = {
            "action": text(event_type.name),
            "id": valid.get("event_id") or event_id,
            "kind": "event",
            "outcome": outcome,
            "severity": SEVERITY_NUMBERS[severity],
        }
        if event_type.category:
            event["category"], event["type"] = event_type.category, event_type.ecs_type
        document: dict[str, Any] = {
            "@timestamp": moment,
            "audit": audit,
            "event": event,
            "host": self._host,
            "log": {"level": severity},
            "process": {"pid": os.getpid()},
            "service": self._service,
        }
        metadata = self._place(event_type, valid, document)
        _add_metadata(metadata, valid.get("metadata"), extra)
        if metadata:
            audit["metadata"] = metadata
        if invalid:
            audit["invalid"] = invalid
        _add_derived(document, event_type, valid)
        if origin:
            self._take_over(origin, document)
        canonical = fit(document)
        return Document(event["id"], canonical, _splice(audit))

    def _place(self, event_type: EventType, valid: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
        """Put every validated keyword where it stands; return those that are metadata."""
        own_paths = OWN_PATHS.get(event_type.name, {})
        metadata: dict[str, Any] = {}
        taken = {own_paths[name]: value for name, value in valid.items() if name in own_paths} if own_paths else {}
        for name, value in valid.items():
            path = own_paths.get(name) or PATHS.get(name)
            if path is None:
                if name != "metadata":
                    metadata[name] = self._plain.of(value)
                continue
            if taken.get(path, value) != value:  # the event type's own keyword wins
                metadata[name] = value
                continue
            node = document
            for step in path[:-1]:
                node = node.setdefault(step, {})
            node[path[-1]] = value
        if "endpoint" in own_paths and "endpoint" in valid and "url_path" not in valid:
            # Outside of a request the endpoint is all that is known of the path.
            document.setdefault(_URL_PATH[0], {})[_URL_PATH[1]] = valid["endpoint"]
        return metadata

    def _take_over(self, origin: Origin, document: dict[str, Any]) -> None:
        for path, value in origin.items():
            node = document
            for step in path[:-1]:
                node = node.setdefault(step, {})
            if value is None:
                node.pop(path[-1], None)
            else:
                node[path[-1]] = escape(self._plain.of(value))

    def _report(self, event_type: str, invalid: tuple[str, ...]) -> None:
        if self._strict:
            raise InvalidEventError(event_type, invalid, "these keywords are missing or wrong: " + ", ".join(invalid))
        if (event_type, invalid) not in self._warned and len(self._warned) < 1000:  # noqa: PLR2004 - types are few
            self._warned.add((event_type, invalid))
            _log.warning(
                "Audit event %r: %s missing or not valid; recorded as given and named in audit.invalid."
                " Further ones like it are not reported.",
                event_type[:200],
                ", ".join(invalid),
            )


def _validate(event_type: EventType, given: dict[str, Any]) -> Keywords:
    """Return the valid keywords, what becomes metadata, and the names of what did not validate."""
    try:
        return *_run(event_type.model, given), ()
    except ValidationError as error:
        wrong = _names(error, event_type)
    kept = {name: value for name, value in given.items() if name not in wrong}
    try:
        valid, extra = _run(event_type.lenient_model, kept)
    except ValidationError:  # a validator of the application's own that looks at several fields
        wrong |= event_type.fields.model_fields.keys() & given.keys()
        valid, extra = _run(CommonFields, {name: value for name, value in kept.items() if name not in wrong})
    for name in given.keys() & wrong:
        add_unique(extra, name, given[name])
    return valid, extra, tuple(sorted(wrong))


def _run(model: Any, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    instance = model.__pydantic_validator__.validate_python(given)
    values = instance.__dict__
    valid = {}
    for name in instance.__pydantic_fields_set__:
        value = values.get(name)  # what is not among the fields is extra
        if value is not None:
            valid[name] = value
    return valid, instance.__pydantic_extra__ or {}


def _names(error: ValidationError, event_type: EventType) -> set[str]:
    """Return the names of the keywords that *error* is about; all own ones where it names none."""
    names: set[str] = set()
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        names.update([str(detail["loc"][0])] if detail["loc"] else event_type.fields.model_fields)
    return names


def _add_metadata(metadata: dict[str, Any], explicit: Any, extra: dict[str, Any]) -> None:
    for more in (explicit, extra):
        for name, value in (more or {}).items():
            add_unique(metadata, name, value)


def _add_derived(document: dict[str, Any], event_type: EventType, valid: dict[str, Any]) -> None:
    """Add what follows from the rest: the sentence, and the fields that analysts pivot on."""
    if "message" not in valid:
        document["message"] = text(_sentence(event_type, valid, document["event"]["outcome"]))
    users = {valid[name] for name in _USERS if name in valid}
    addresses = {valid[name] for name in _ADDRESSES if name in valid}
    if users or addresses:
        document["related"] = related = {}
        if users:
            related["user"] = sorted(users)
        if addresses:
            related["ip"] = sorted(addresses)


class _Words(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


def _sentence(event_type: EventType, valid: dict[str, Any], outcome: str) -> str:
    words = _Words(valid)
    words["actor"] = valid.get("user_name") or valid.get("user_id") or "Somebody"
    words["target"] = valid.get("target_user_name") or valid.get("target_user_id") or "?"
    words["event_type"] = event_type.name
    if outcome != "failure" or event_type.outcome == "failure":
        return event_type.sentence.format_map(words)
    return (event_type.failure_sentence or f"Failed: {event_type.sentence}").format_map(words)


def _splice(audit: dict[str, Any]) -> int:
    changes = audit.get("changes")
    if changes is None:
        return _SPLICE_OFFSET
    return _SPLICE_OFFSET + len(b'"changes":,') + len(orjson.dumps(changes, option=orjson.OPT_SORT_KEYS))
