"""What the keywords of an event may hold: one pydantic model for the common ones, one for each group of types.

The models see plain values (see :mod:`audit_logging.events.values`), so a number with a fraction arrives as text.
They are built when the first event of their type is emitted, not at import.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from audit_logging.events.identity import FIRST_MOMENT, LAST_MOMENT
from audit_logging.events.values import iso_utc

_FIRST_TEXT, _LAST_TEXT = iso_utc(FIRST_MOMENT), iso_utc(LAST_MOMENT)
_AS_STORED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")


def _as_list(value: Any) -> Any:
    """Take one value where a list is expected."""
    return value if isinstance(value, list) else [value]


@lru_cache(maxsize=4096)
def address(value: str) -> str:
    """Return the canonical form of an IP address; an IPv4 one inside IPv6 as IPv4."""
    parsed = ipaddress.ip_address(value.strip())
    mapped = getattr(parsed, "ipv4_mapped", None)
    if getattr(parsed, "scope_id", None):
        raise ValueError("an address with a zone index has no meaning outside its host")
    return str(mapped or parsed)


def money(value: str) -> str:
    """Return a decimal number without an exponent."""
    try:
        amount = Decimal(value)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise ValueError("an amount is a decimal number")
    return format(amount, "f") if len(value) <= 64 else value  # noqa: PLR2004 - 1E+999999 must not become a megabyte


def moment(value: Any) -> str:
    """Return a time with a zone in UTC, as the document has it."""
    if isinstance(value, str) and _AS_STORED.fullmatch(value) and _FIRST_TEXT <= value < _LAST_TEXT:
        dt.datetime.fromisoformat(value[:-1])
        return value
    if isinstance(value, str):
        text = value.strip()
        # Python 3.10 knows neither Z nor fractions of other than three or six digits.
        text = re.sub(r"[zZ]$", "+00:00", text)
        text = re.sub(r"\.(\d{1,9})\d*", lambda match: "." + match[1][:6].ljust(6, "0"), text)
        time = dt.datetime.fromisoformat(text)
    elif isinstance(value, int) and not isinstance(value, bool):
        try:
            time = dt.datetime.fromtimestamp(value, tz=dt.timezone.utc)
        except (OverflowError, OSError) as error:
            raise ValueError("a time lies between 1970 and 2262") from error
    else:
        raise ValueError("a time is ISO 8601 text with a zone")  # noqa: TRY004 - pydantic turns ValueErrors into findings
    if time.tzinfo is None:
        raise ValueError("a time needs a zone, such as Z or +02:00")
    if not FIRST_MOMENT <= time < LAST_MOMENT:
        raise ValueError("a time lies between 1970 and 2262, which is what OpenSearch's date_nanos holds")
    return iso_utc(time)


def nanoseconds(milliseconds: float) -> int:
    """Return a duration in the unit of ``event.duration``."""
    return round(milliseconds * 1_000_000)


def _changes(value: Any) -> list[dict[str, Any]]:
    """Bring the three ways of giving changes to the one that is stored."""
    if isinstance(value, dict):
        return [
            {"field": field, **change} if isinstance(change, dict) and change and change.keys() <= {"before", "after"}
            else {"field": field, "after": change}
            for field, change in value.items()
        ]  # fmt: skip
    if isinstance(value, list) and all(_is_change(change) for change in value):
        return value
    raise ValueError("changes are {field: after}, {field: {before, after}} or a list of {field, before, after}")


def _is_change(change: Any) -> bool:
    return (
        isinstance(change, dict)
        and isinstance(change.get("field"), str)
        and change.keys() <= {"field", "before", "after"}
    )


Text = str
"""An id is an id, whatever the application keeps it as: numbers are taken as text (see ``Fields.model_config``)."""
Texts = Annotated[list[str], BeforeValidator(_as_list)]
IPAddress = Annotated[Text, AfterValidator(address)]
Moment = Annotated[str, BeforeValidator(moment)]
Money = Annotated[Text, AfterValidator(money)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=0)]
Milliseconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False), AfterValidator(nanoseconds)]
Outcome = Literal["success", "failure", "unknown"]


class Fields(BaseModel):
    """Base of every model of keywords. Unknown ones are kept: they become metadata."""

    model_config = ConfigDict(
        extra="allow",
        coerce_numbers_to_str=True,
        defer_build=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )


class CommonFields(Fields):
    """The keywords that every event may carry."""

    event_id: Text | None = Field(
        None, min_length=1, max_length=256, description="Id of an event that has one already."
    )
    timestamp: Moment | None = Field(None, description="When it happened, if that was not now.")
    user_id: Text | None = Field(None, description="Who did it.")
    user_name: Text | None = Field(None, description="The actor's name.")
    user_email: Text | None = Field(None, description="The actor's address.")
    user_roles: Texts | None = Field(None, description="The actor's roles.")
    effective_user_id: Text | None = Field(None, description="Whom the actor acts as.")
    target_user_id: Text | None = Field(None, description="The user it was done to.")
    target_user_name: Text | None = Field(None, description="That user's name.")
    organization_id: Text | None = Field(None, description="The tenant.")
    source_ip: IPAddress | None = Field(None, description="Where it came from.")
    source_port: Port | None = Field(None, description="The port it came from.")
    client_ip: IPAddress | None = Field(None, description="The client behind a trusted proxy.")
    user_agent: Text | None = Field(None, description="The User-Agent header.")
    url_path: Text | None = Field(None, description="Path of the request.")
    url_domain: Text | None = Field(None, description="Host of the request.")
    http_method: Text | None = Field(None, description="Method of the request.")
    request_id: Text | None = Field(None, description="Id of the request.")
    session_id: Text | None = Field(None, description="Id of the session.")
    trace_id: Text | None = Field(None, description="W3C trace id.")
    span_id: Text | None = Field(None, description="W3C span id.")
    outcome: Outcome | None = Field(None, description="How it ended.")
    reason: Text | None = Field(None, description="Why it ended so.")
    message: Text | None = Field(None, description="One human sentence; otherwise derived.")
    tags: Texts | None = Field(None, description="Words to find it by.")
    labels: dict[str, Text] | None = Field(None, description="Short key-value pairs.")
    changes: Annotated[list[dict[str, Any]], BeforeValidator(_changes)] | None = Field(
        None, description="What changed: field, before, after."
    )
    metadata: dict[str, Any] | None = Field(None, description="The application's own data.")


class NoFields(Fields):
    """For types that have no keywords of their own."""


class MethodFields(Fields):
    """By which means: password, totp, passkey."""

    method: Text | None = None


class PurchaseFields(Fields):
    """A purchase that is under way or done."""

    amount: Money
    currency: Currency
    product_id: Text
    transaction_id: Text | None = None


class SubscriptionFields(Fields):
    """A subscription."""

    plan: Text
    amount: Money | None = None
    currency: Currency | None = None


class ApiCallFields(Fields):
    """A call of the application's own API."""

    endpoint: Text
    method: Text
    status_code: Annotated[int, Field(ge=100, le=599)]
    response_time_ms: Milliseconds | None = None


class WebSocketFields(Fields):
    """A WebSocket connection that was accepted."""

    endpoint: Text


class WebSocketClosedFields(Fields):
    """A WebSocket connection that ended."""

    endpoint: Text
    close_code: Annotated[int, Field(ge=0, le=65535)] | None = None
    duration_ms: Milliseconds | None = None


class WebSocketRefusedFields(Fields):
    """A WebSocket connection that was not accepted."""

    endpoint: Text
    status_code: Annotated[int, Field(ge=100, le=599)]
    duration_ms: Milliseconds | None = None


class KeyFields(Fields):
    """An API key, by its id and never by its value."""

    key_id: Text


class ConfigFields(Fields):
    """A change of configuration."""

    description: Text | None = None
    setting: Text | None = None


class AdministeredUserFields(Fields):
    """An administrator's act on another user."""

    target_user_id: Text
    description: Text | None = None


class SuspicionFields(Fields):
    """Something that looks wrong."""

    description: Text
    indicators: Any = None


class DataExportFields(Fields):
    """Data that left the application."""

    resource: Text
    record_count: Count | None = None
    format: Text | None = None


class DataAccessFields(Fields):
    """Data that was looked at."""

    resource: Text
    record_count: Count | None = None
