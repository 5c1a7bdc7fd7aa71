"""What to look for: one typed filter, from which the query DSL and the command line's options both follow."""

# Annotations are evaluated as they are read: pydantic would have to compile each of them again if they were texts.

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from typing_extensions import Self

from audit_logging.errors import FilterError, Keyword
from audit_logging.query.times import normalise_time, resolve_time
from audit_logging.query.values import metadata_terms, networks, one_of, patterns, several

NEGATION: Final = "not_"
SEVERITIES: Final = ("info", "warning", "critical")
"""From the least to the most severe."""

Kind = Literal["term", "user", "pattern", "address", "metadata", "text", "severity", "time"]
SINGLE: Final[frozenset[Kind]] = frozenset({"text", "severity", "time"})
"""Kinds that take one value; the others take several, of which any will do."""


@dataclass(frozen=True)
class Condition:
    """How one keyword of a filter is asked for, and of which stored field.

    Attributes:
        field: Path of the field in the document.
        option: Its option on the command line, without the leading dashes.
        metavar: What the option's value is called in help texts.
        help: One sentence for help texts.
        kind: How values are compared with the field.
    """

    field: str
    option: str
    metavar: str
    help: str
    kind: Kind = "term"


Words = Annotated[tuple[str, ...], BeforeValidator(several)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(several), AfterValidator(patterns)]
Outcomes = Annotated[tuple[str, ...], BeforeValidator(several), AfterValidator(one_of("success", "failure", "unknown"))]
Networks = Annotated[tuple[str, ...], BeforeValidator(networks)]
MetadataTerms = Annotated[dict[str, tuple[str, ...]], BeforeValidator(metadata_terms)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]


def _time(value: Any) -> dt.datetime | str:
    try:
        return normalise_time(value)
    except FilterError as error:  # pydantic adds the name of the condition to a ValueError alone
        raise ValueError(str(error)) from None


Time = Annotated[dt.datetime | str, BeforeValidator(_time)]


class Conditions(BaseModel):
    """The conditions, before each gets its negative. Where several values are given, any of them will do."""

    # Only the class below is ever made; building the validators of its bases too would triple the cost of importing.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    user: Annotated[Words | None, Condition("user.id", "user", "ID|NAME", "Who did it, by id or name.", "user")] = None
    user_id: Annotated[Words | None, Condition("user.id", "user-id", "ID", "Who did it, by id alone.")] = None
    effective_user_id: Annotated[
        Words | None,
        Condition("user.effective.id", "effective-user", "ID", "The user as whom it was done (impersonation)."),
    ] = None
    target_user_id: Annotated[
        Words | None, Condition("user.target.id", "target", "ID", "The user to whom it was done.")
    ] = None
    event_type: Annotated[
        Patterns | None,
        Condition("event.action", "type", "TYPE", "Event type; * stands for anything: 'user.*'.", "pattern"),
    ] = None
    category: Annotated[
        Words | None, Condition("event.category", "category", "NAME", "ECS category, such as authentication.")
    ] = None
    outcome: Annotated[
        Outcomes | None, Condition("event.outcome", "outcome", "OUTCOME", "success, failure or unknown.")
    ] = None
    source_ip: Annotated[
        Networks | None, Condition("source.ip", "ip", "ADDRESS", "Address or network (CIDR) it came from.", "address")
    ] = None
    organization_id: Annotated[Words | None, Condition("organization.id", "tenant", "ID", "Tenant (organization).")] = (
        None
    )
    service: Annotated[Words | None, Condition("service.name", "service", "NAME", "Application that emitted it.")] = (
        None
    )
    request_id: Annotated[Words | None, Condition("http.request.id", "request", "ID", "HTTP request.")] = None
    session_id: Annotated[Words | None, Condition("session.id", "session", "ID", "Session.")] = None
    trace_id: Annotated[Words | None, Condition("trace.id", "trace", "ID", "Distributed trace.")] = None
    resource: Annotated[
        Words | None, Condition("audit.metadata.resource", "resource", "NAME", "Resource that was accessed.")
    ] = None
    text: Annotated[
        Text | None, Condition("message", "text", "WORDS", "All these words, in the message or the reason.", "text")
    ] = None
    metadata: Annotated[
        MetadataTerms | None,
        Condition("audit.metadata", "metadata", "PATH=VALUE", "A value in the event's metadata.", "metadata"),
    ] = None
    changed_field: Annotated[
        Words | None, Condition("audit.changes.field", "changed", "FIELD", "A field that was changed.")
    ] = None
    min_severity: Annotated[
        Literal["info", "warning", "critical"] | None,
        Condition("log.level", "severity", "LEVEL", "At least this severe: info, warning or critical.", "severity"),
    ] = None
    since: Annotated[
        Time | None, Condition("@timestamp", "since", "TIME", "From this time on: -24h, -30d, 2026-03-01, …", "time")
    ] = None
    until: Annotated[
        Time | None, Condition("@timestamp", "until", "TIME", "Before this time (the time itself is out).", "time")
    ] = None


def _with_negatives(positive: type[BaseModel]) -> Any:
    """Return a model with a ``not_<name>`` beside every field of *positive*."""
    negatives: Any = {NEGATION + name: (field.annotation, field) for name, field in positive.model_fields.items()}
    return create_model("ConditionsAndNegatives", __base__=positive, **negatives)


class Filter(_with_negatives(Conditions)):  # type: ignore[misc] # the negatives are made, not written
    """What to look for. All conditions must hold; of several values for one condition, any will do.

    A ``not_<condition>`` holds for events of which the condition does not; ``not_metadata`` where none of its pairs
    does. ``since`` is inclusive, ``until`` exclusive, so that ``not_since`` is another ``until``; what can be given is
    in :mod:`audit_logging.query.times`. Build it with :meth:`of`, which turns mistakes into one clear sentence.

    Example:
        >>> Filter.of(category="authentication", outcome="failure", since="-24h", not_source_ip="10.0.0.0/8").outcome
        ('failure',)
    """

    model_config = ConfigDict(defer_build=False)

    @classmethod
    def of(cls, **conditions: Any) -> Self:
        """Return the filter with these *conditions*; None means not given.

        Raises:
            FilterError: A condition is unknown or its value malformed; the message says which and what would do.
        """
        try:
            made = cls(**conditions)
        except ValidationError as error:
            raise FilterError(*(part for detail in error.errors() for part in _explain(detail))) from None
        return made

    def at(self, now: dt.datetime) -> Self:
        """Return this filter with its relative times made absolute, so that one query has one "now".

        The negatives of times are gone in it: what is not since a time is until then, and the reverse.

        Raises:
            FilterError: It begins after it ends.
        """
        since = self._times(now, "since", "not_until")
        until = self._times(now, "until", "not_since")
        bounds = {"since": max(since, default=None), "until": min(until, default=None)}
        if since and until and max(since) > min(until):
            raise FilterError(
                Keyword("since"),
                f" ({max(since).isoformat()}) lies after ",
                Keyword("until"),
                f" ({min(until).isoformat()}): swap them.",
            )
        there: Self = self.model_copy(update={**bounds, "not_since": None, "not_until": None})
        return there

    def given(self) -> dict[str, Any]:
        """Return the conditions that were given, as plain JSON values."""
        given: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return given

    def _times(self, now: dt.datetime, *names: str) -> list[dt.datetime]:
        values = (getattr(self, name) for name in names)
        return [resolve_time(value, now=now) for value in values if value is not None]

    def digest(self, *more: str) -> str:
        """Return 32 hexadecimal digits that differ when the conditions, as they were given, or *more* differ."""
        return hashlib.sha256(orjson.dumps([self.given(), *more], option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]

    @classmethod
    def conditions(cls) -> dict[str, Condition]:
        """Return every keyword, negatives included, with its condition, in the order of the class."""
        return {
            name: condition
            for name, field in cls.model_fields.items()
            for condition in field.metadata
            if isinstance(condition, Condition)
        }


def _explain(detail: Any) -> tuple[str, ...]:
    name = str(detail["loc"][0]) if detail["loc"] else "filter"
    if detail["type"] == "extra_forbidden":
        from difflib import get_close_matches

        close = get_close_matches(name, Filter.model_fields, n=1, cutoff=0.5)
        names = ", ".join(field for field in Filter.model_fields if not field.startswith(NEGATION))
        hint = f"did you mean {close[0]!r}?" if close else f"there are {names}, and not_<each>."
        return (f"There is no filter {name!r}; {hint}",)
    reason = detail["msg"].removeprefix("Value error, ").rstrip(".")
    return Keyword(name, f"Filter {name!r}"), f" is wrong: {reason}."
