"""The event types: what each is called, means and carries, and the registration of an application's own.

Categories and types are the ones that the Elastic Common Schema allows (ECS, "Categorization fields"), in its
allowed pairs. Severities are the table of this library; ``severity_overrides`` changes them per type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from string import Formatter
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, create_model

from audit_logging.errors import EventError
from audit_logging.events import models
from audit_logging.forks import undivided

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

    from audit_logging.events.models import Outcome
    from audit_logging.settings import Severity

API_CALL = "api.call"
WEBSOCKET_CONNECTED = "websocket.connected"
WEBSOCKET_CLOSED = "websocket.closed"
WEBSOCKET_REFUSED = "websocket.refused"
_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_SERVER_ERROR, _CLIENT_ERROR = 500, 400


@dataclass(frozen=True)
class EventType:
    """One type of event.

    Attributes:
        name: Dotted ``noun.verb``.
        sentence: What is said of it, with ``{actor}``, ``{target}`` and any keyword in braces.
        fields: The pydantic model of its own keywords.
        category: ECS ``event.category``.
        ecs_type: ECS ``event.type``.
        severity: Unless it failed, or overridden.
        failure_severity: When its outcome is a failure; None: the same.
        outcome: When none is given.
        failure_sentence: What is said when it failed.
        internal: Emitted by this library alone; there is no typed call.
    """

    name: str
    sentence: str
    fields: type[BaseModel] = models.NoFields
    category: tuple[str, ...] = ()
    ecs_type: tuple[str, ...] = ()
    severity: Severity = "info"
    failure_severity: Severity | None = None
    outcome: Outcome = "success"
    failure_sentence: str | None = None
    internal: bool = False

    @property
    def call(self) -> str:
        """The name of the typed call: ``user.login`` is ``user_login``."""
        return self.name.replace(".", "_")

    @property
    def required(self) -> tuple[str, ...]:
        """The keywords that the typed call cannot do without."""
        return tuple(name for name, field in self.fields.model_fields.items() if field.is_required())

    @property  # cached below: until Python 3.12 cached_property has a lock, and a child may be forked while it is held
    def model(self) -> type[BaseModel]:
        """The model of all keywords of this type, own and common, built when first needed."""
        return _with_common(self.fields)

    @property  # cached below: until Python 3.12 cached_property has a lock, and a child may be forked while it is held
    def lenient_model(self) -> type[BaseModel]:
        """The same with nothing required, for an event whose wrong keywords were set aside."""
        return _lenient_with_common(self.fields)

    def judge(self, facts: Mapping[str, Any]) -> tuple[Outcome, Severity]:
        """Return outcome and severity of an event of this type with these validated *facts*."""
        outcome: Outcome = facts.get("outcome") or self.outcome
        if outcome == "failure" and self.failure_severity is not None:
            return outcome, self.failure_severity
        return outcome, self.severity


# By the fields and not by the type: all the types that nobody registered share one model, and building one takes a
# millisecond.
@cache
def _with_common(own: Any) -> type[BaseModel]:
    return _build(own, {})


@cache
def _lenient_with_common(own: Any) -> type[BaseModel]:
    fields = own.model_fields.items()
    return _build(
        own, {name: (field.rebuild_annotation() | None, None) for name, field in fields if field.is_required()}
    )


def _build(own: Any, changed: dict[str, Any]) -> type[BaseModel]:
    with undivided():  # pydantic has locks of its own, which a child would find held
        return _build_model(own, changed)


def _build_model(own: Any, changed: dict[str, Any]) -> type[BaseModel]:
    bases = (own, models.CommonFields) if own is not models.NoFields else (models.CommonFields,)
    model: type[BaseModel] = create_model(f"{own.__name__}WithCommon", __base__=bases, **changed)
    model.model_config |= ConfigDict(extra="allow", frozen=False, defer_build=False)
    model.model_rebuild(force=True)
    return model


class ApiCall(EventType):
    """``api.call`` and ``websocket.refused``: the status code says how it ended."""

    def judge(self, facts: Mapping[str, Any]) -> tuple[Outcome, Severity]:
        """Take 4xx as a warning and 5xx as critical, both as failures unless *facts* say otherwise."""
        status = facts.get("status_code")
        if status is None:
            return super().judge(facts)
        outcome: Outcome = facts.get("outcome") or ("failure" if status >= _CLIENT_ERROR else "success")
        if status >= _SERVER_ERROR:
            return outcome, "critical"
        return outcome, "warning" if status >= _CLIENT_ERROR else "info"


def _admin(verb: str, sentence: str, *ecs_types: str) -> EventType:
    return EventType(
        f"admin.{verb}",
        sentence,
        models.AdministeredUserFields,
        category=("iam",),
        ecs_type=ecs_types,
        severity="warning",
    )


def _internal(verb: str, sentence: str, category: str = "process", ecs_type: str = "info") -> EventType:
    return EventType(f"audit.{verb}", sentence, category=(category,), ecs_type=(ecs_type,), internal=True)


_CORE = (
    EventType(
        "user.login",
        "{actor} logged in",
        models.MethodFields,
        category=("authentication",),
        ecs_type=("start",),
        failure_severity="warning",
        failure_sentence="{actor} failed to log in",
    ),
    EventType("user.logout", "{actor} logged out", category=("authentication",), ecs_type=("end",)),
    EventType("user.register", "{actor} registered", category=("iam",), ecs_type=("user", "creation")),
    EventType("user.profile_update", "{actor} updated the profile", category=("iam",), ecs_type=("user", "change")),
    EventType(
        "user.password_change",
        "{actor} changed the password",
        models.MethodFields,
        category=("iam",),
        ecs_type=("user", "change"),
        failure_severity="warning",
        failure_sentence="{actor} failed to change the password",
    ),
    EventType(
        "purchase.initiated",
        "{actor} began a purchase of {product_id} for {amount} {currency}",
        models.PurchaseFields,
        category=("web",),
        ecs_type=("info",),
        outcome="unknown",
    ),
    EventType(
        "purchase.completed",
        "{actor} bought {product_id} for {amount} {currency}",
        models.PurchaseFields,
        category=("web",),
        ecs_type=("info",),
    ),
    EventType(
        "purchase.failed",
        "{actor} could not buy {product_id} for {amount} {currency}",
        models.PurchaseFields,
        category=("web",),
        ecs_type=("error",),
        severity="warning",
        outcome="failure",
    ),
    EventType(
        "subscription.created",
        "{actor} subscribed to {plan}",
        models.SubscriptionFields,
        category=("web",),
        ecs_type=("info",),
    ),
    EventType(
        "subscription.cancelled",
        "{actor} cancelled the subscription to {plan}",
        models.SubscriptionFields,
        category=("web",),
        ecs_type=("info",),
    ),
    ApiCall(
        API_CALL,
        "{method} {endpoint} answered {status_code}",
        failure_sentence="{method} {endpoint} answered {status_code}",
        fields=models.ApiCallFields,
        category=("api",),
        ecs_type=("access",),
    ),
    EventType(
        WEBSOCKET_CONNECTED,
        "WebSocket {endpoint} connected",
        models.WebSocketFields,
        category=("session",),
        ecs_type=("start",),
    ),
    EventType(
        WEBSOCKET_CLOSED,
        "WebSocket {endpoint} closed with code {close_code}",
        models.WebSocketClosedFields,
        category=("session",),
        ecs_type=("end",),
        failure_severity="critical",
        failure_sentence="WebSocket {endpoint} failed with code {close_code}",
    ),
    ApiCall(
        WEBSOCKET_REFUSED,
        "WebSocket {endpoint} refused with {status_code}",
        failure_sentence="WebSocket {endpoint} refused with {status_code}",
        fields=models.WebSocketRefusedFields,
        category=("api",),
        ecs_type=("denied",),
        severity="warning",
        outcome="failure",
    ),
    EventType(
        "api_key.created",
        "{actor} created API key {key_id}",
        models.KeyFields,
        category=("iam",),
        ecs_type=("creation",),
    ),
    EventType(
        "api_key.revoked",
        "{actor} revoked API key {key_id}",
        models.KeyFields,
        category=("iam",),
        ecs_type=("deletion",),
    ),
    EventType(
        "admin.config_change",
        "{actor} changed the configuration",
        models.ConfigFields,
        category=("configuration",),
        ecs_type=("change",),
        severity="warning",
    ),
    _admin("user_create", "{actor} created user {target}", "user", "creation"),
    _admin("user_update", "{actor} updated user {target}", "user", "change"),
    _admin("user_delete", "{actor} deleted user {target}", "user", "deletion"),
    _admin("role_change", "{actor} changed the role of {target}", "user", "change"),
    _admin("permission_change", "{actor} changed the permissions of {target}", "admin", "change"),
    EventType(
        "security.two_factor_enabled",
        "{actor} enabled two-factor authentication",
        models.MethodFields,
        category=("iam",),
        ecs_type=("user", "change"),
        severity="critical",
    ),
    EventType(
        "security.two_factor_disabled",
        "{actor} disabled two-factor authentication",
        models.MethodFields,
        category=("iam",),
        ecs_type=("user", "change"),
        severity="critical",
    ),
    EventType(
        "security.login_failed",
        "A log-in was refused before an account was known",
        models.MethodFields,
        category=("authentication",),
        ecs_type=("start",),
        severity="critical",
        outcome="failure",
    ),
    EventType(
        "security.suspicious_activity",
        "Suspicious: {description}",
        models.SuspicionFields,
        category=("intrusion_detection",),
        ecs_type=("info",),
        severity="critical",
        outcome="unknown",
    ),
    EventType(
        "security.data_export",
        "{actor} exported {resource}",
        models.DataExportFields,
        category=("database",),
        ecs_type=("access",),
        severity="critical",
    ),
    EventType(
        "data.accessed",
        "{actor} accessed {resource}",
        models.DataAccessFields,
        category=("database",),
        ecs_type=("access",),
    ),
    _internal("started", "The writer started", ecs_type="start"),
    _internal("stopped", "The writer stopped", ecs_type="end"),
    _internal("checkpoint", "The head of the chain was signed"),
    _internal("writer_closed", "The chain of a dead writer was closed"),
    _internal("index_sealed", "A backing index was sealed"),
    _internal("quarantined", "An event was refused and quarantined"),
    _internal("dead_lettered", "An event was kept as a dead letter"),
    _internal("searched", "{actor} searched the trail", "database", "access"),
    _internal("exported", "{actor} exported from the trail", "database", "access"),
    _internal("retention_applied", "Retention was applied", "configuration", "change"),
    _internal("hold_placed", "{actor} placed a legal hold", "configuration", "change"),
    _internal("hold_released", "{actor} released a legal hold", "configuration", "change"),
    _internal("erased", "{actor} erased a person's data", "database", "change"),
    _internal("verified", "The trail was verified"),
)

UNREGISTERED = EventType("", "{actor}: {event_type}", outcome="unknown")
"""What an event of a type that nobody registered is taken for."""


class Catalogue:
    """The event types that are known: the core and what the application registered.

    Example:
        >>> from pydantic import BaseModel
        >>> class Approval(BaseModel):
        ...     invoice_id: str
        >>> catalogue = Catalogue()
        >>> catalogue.register("invoice.approved", fields=Approval, severity="warning").required
        ('invoice_id',)
    """

    def __init__(self) -> None:
        self._by_name = {event_type.name: event_type for event_type in _CORE}
        self._by_call = {event_type.call: event_type for event_type in _CORE if not event_type.internal}
        self.revision = 0
        """Changes with every registration, for those who keep what they derived from a type."""

    def __iter__(self) -> Iterator[EventType]:
        return iter(self._by_name.values())

    def get(self, name: str) -> EventType:
        """Return the type called *name*; an unregistered one has no fields of its own and severity info."""
        return self._by_name.get(name) or replace(UNREGISTERED, name=name)

    def by_call(self, call: str) -> EventType | None:
        """Return the type whose typed call is *call*, or None."""
        return self._by_call.get(call)

    def register(
        self,
        name: str,
        *,
        fields: type[BaseModel] | None = None,
        message: str | None = None,
        severity: Severity = "info",
        failure_severity: Severity | None = None,
        outcome: Outcome = "success",
        category: tuple[str, ...] = (),
        ecs_type: tuple[str, ...] = (),
    ) -> EventType:
        """Register an application's own type, which then has its typed call like any other.

        Args:
            name: Dotted ``noun.verb``, lower case: ``invoice.approved`` is called as ``log.invoice_approved(…)``.
            fields: Pydantic model of its keywords; those without a default are required in the typed call.
            message: The sentence, with ``{actor}``, ``{target}`` and any keyword in braces.
            severity: Of an event that did not fail.
            failure_severity: Of one that failed; None: the same.
            outcome: When the call gives none.
            category: ECS ``event.category``.
            ecs_type: ECS ``event.type``.

        Raises:
            EventError: Name or message are malformed, the call is taken, or category and type are no pair of ECS's.
        """
        if not _NAME.fullmatch(name):
            raise EventError(f"{name!r} is no event type: write noun.verb in lower case, such as 'invoice.approved'.")
        _check_pairs(name, category, ecs_type)
        _check_sentence(name, message or "")
        event_type = EventType(
            name,
            message or "{actor}: {event_type}",
            fields or models.NoFields,
            category=category,
            ecs_type=ecs_type,
            severity=severity,
            failure_severity=failure_severity,
            outcome=outcome,
        )
        taken = self._by_call.get(event_type.call) or self._by_name.get(name)
        if taken is not None and taken != event_type:
            raise EventError(f"{name!r} cannot be registered: {taken.name!r} is there already and differs.")
        self._by_name[name] = self._by_call[event_type.call] = event_type
        self.revision += 1
        return event_type


_PAIRS = {
    "api": frozenset("access admin allowed change creation deletion denied end error info start user".split()),
    "authentication": frozenset("end info start".split()),
    "configuration": frozenset("access change creation deletion info".split()),
    "database": frozenset("access change error info".split()),
    "email": frozenset("info".split()),
    "file": frozenset("access change creation deletion info".split()),
    "host": frozenset("access change end info start".split()),
    "iam": frozenset("admin change creation deletion group info user".split()),
    "intrusion_detection": frozenset("allowed denied info".split()),
    "library": frozenset("start".split()),
    "malware": frozenset("info".split()),
    "network": frozenset("access allowed connection denied end info protocol start".split()),
    "package": frozenset("access change deletion info installation start".split()),
    "process": frozenset("access change end info start".split()),
    "session": frozenset("end info start".split()),
    "threat": frozenset("indicator".split()),
    "vulnerability": frozenset("info".split()),
    "web": frozenset("access error info".split()),
}
"""ECS, "Categorization fields": the event types expected in each category."""


def _check_sentence(name: str, sentence: str) -> None:
    """Hold a sentence to keywords in braces: anything more could fail with a value, when the event is emitted."""
    try:
        parts = list(Formatter().parse(sentence))
    except ValueError as error:
        raise EventError(f"{name!r}: its message has unbalanced braces; write {{{{ for one that is meant.") from error
    for _, keyword, form, conversion in parts:
        if keyword is not None and (form or conversion or not keyword.isidentifier()):
            raise EventError(f"{name!r}: its message may hold keywords in braces, such as {{actor}}, and nothing more.")


def _check_pairs(name: str, categories: tuple[str, ...], types: tuple[str, ...]) -> None:
    for category in categories:
        if category not in _PAIRS:
            raise EventError(f"{name!r}: {category!r} is no ECS category; choose from {', '.join(sorted(_PAIRS))}.")
    allowed = frozenset[str]().union(*(_PAIRS[category] for category in categories))
    wrong = sorted(set(types) - allowed)
    if wrong:
        raise EventError(
            f"{name!r}: ECS allows no type {wrong[0]!r} in category {', '.join(categories) or '(none)'};"
            f" choose from {', '.join(sorted(allowed)) or 'none without a category'}."
        )


CATALOGUE = Catalogue()
"""The catalogue of this process."""

register_event_type = CATALOGUE.register
