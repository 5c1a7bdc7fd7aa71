"""AWS CloudTrail records as audit events.

``iam.amazonaws.com`` / ``CreateUser`` becomes the event type ``aws.iam.create_user``: the prefix keeps AWS's names
apart from the application's own, and ``aws.*`` finds them all. A log-in to the console is ``user.login`` like any
other. The names as AWS wrote them stay in the metadata (``eventName``, ``eventSource``) and in the message. Whatever of
a record has no field of its own in the document stays in the metadata under its own name, at any depth.

Source: AWS CloudTrail User Guide, "CloudTrail record contents", "CloudTrail userIdentity element" and "AWS Management
Console sign-in events".
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from audit_logging.errors import EventFileError
from audit_logging.events.document import SEVERITY_NUMBERS
from audit_logging.integrations.event_times import EventTimes
from audit_logging.integrations.incoming import IncomingEvent, content_id, snake_case, usable_id

if TYPE_CHECKING:
    from collections.abc import Iterator

TAG: Final = "cloudtrail"
"""Every imported record carries it."""

CONSOLE_LOGIN: Final = "ConsoleLogin"

_STORED_ELSEWHERE: Final = frozenset("eventID eventTime requestID userAgent errorMessage".split())
"""What is not repeated in the metadata, because a field of the document holds it as it is."""

_API_VERSION: Final = re.compile(r"(?<=[a-z])20\d{6}(v\d+)?$")
"""Lambda and CloudFront put a version behind a name: ``CreateFunction20150331``."""

_VERBS: Final = {
    "creation": "add allocate create generate import register request run".split(),
    "deletion": "delete deregister release remove revoke schedule terminate".split(),
    "access": "batch check decrypt describe get head list lookup query scan search select".split(),
}
_ISSUED_KEYS: Final = (("credentials", "accessKeyId"), ("accessKey", "accessKeyId"))


def from_cloudtrail(record: Any, times: EventTimes | None = None) -> IncomingEvent:
    """Return one CloudTrail *record* as an event, with its own id and time.

    Args:
        record: The record.
        times: Reads its time.

    Raises:
        EventFileError: It is none: it lacks ``eventSource``, ``eventName`` or a valid ``eventTime``.

    Example:
        >>> event = from_cloudtrail(
        ...     {
        ...         "eventID": "e-1",
        ...         "eventTime": "2026-03-01T10:00:00Z",
        ...         "eventSource": "iam.amazonaws.com",
        ...         "eventName": "CreateUser",
        ...         "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::1:user/anna", "userName": "anna"},
        ...     }
        ... )
        >>> event.event_type, event.facts["user_id"], event.facts["message"]
        ('aws.iam.create_user', 'arn:aws:iam::1:user/anna', 'anna: CreateUser (iam.amazonaws.com)')
    """
    source, name = _require_names(record)
    event_type = "user.login" if name == CONSOLE_LOGIN else type_of(source, name)
    failed = _failure(record, name)
    identity = _mapping(record.get("userIdentity"))
    address = _address(record.get("sourceIPAddress"))
    facts: dict[str, Any] = {
        "event_id": usable_id(record.get("eventID")) or content_id(record),
        "timestamp": (times or EventTimes()).moment(record.get("eventTime"), "eventTime"),
        "organization_id": record.get("recipientAccountId") or identity.get("accountId"),
        "source_ip": address,
        "user_agent": record.get("userAgent"),
        "request_id": record.get("requestID"),
        "outcome": "failure" if failed is not None else "success",
        "reason": failed,
        "tags": [TAG],
        **_actor(identity),
        **_target(record, source),
    }
    facts["message"] = _sentence(facts, record, source, name)
    facts["metadata"] = _metadata(record, dropped={"sourceIPAddress"} if address else set())
    given = {keyword: value for keyword, value in facts.items() if value not in (None, "")}
    return IncomingEvent(event_type, given, _origin(event_type, record, source, failed=failed is not None))


@lru_cache(maxsize=4096)
def type_of(source: str, name: str) -> str:
    """Return the event type of the action *name* of the service *source*.

    Example:
        >>> type_of("rds.amazonaws.com", "DescribeDBInstances"), type_of("lambda.amazonaws.com", "Invoke20150331v2")
        ('aws.rds.describe_db_instances', 'aws.lambda.invoke')
    """
    service = re.sub(r"\.(amazonaws\.com(\.cn)?|aws\.internal)$", "", source)
    return f"aws.{snake_case(service)}.{snake_case(_API_VERSION.sub('', name))}"


def _require_names(record: Any) -> tuple[str, str]:
    if not isinstance(record, dict):
        raise EventFileError("it is not a JSON object")
    names = record.get("eventSource"), record.get("eventName")
    for key, value in zip(("eventSource", "eventName"), names, strict=True):
        if not isinstance(value, str) or not snake_case(value):
            raise EventFileError(f"it is no CloudTrail record: it has no {key}")
    return names[0], names[1]  # type: ignore[return-value] # both were looked at


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _failure(record: dict[str, Any], name: str) -> str | None:
    """Return why the request failed; None when it did not."""
    parts = [str(record[key]) for key in ("errorCode", "errorMessage") if record.get(key)]
    if parts:
        return ": ".join(parts)
    # Sign-in events tell it as {"ConsoleLogin": "Failure"}.
    return f"{name}: Failure" if _mapping(record.get("responseElements")).get(name) == "Failure" else None


def _actor(identity: dict[str, Any]) -> dict[str, Any]:
    """Return who did it: the user, or the session in which a role was taken on, with the role as whom it acts."""
    issuer = _mapping(_mapping(identity.get("sessionContext")).get("sessionIssuer"))
    on_behalf = _mapping(identity.get("onBehalfOf"))
    candidates = (identity.get("arn"), identity.get("principalId"), on_behalf.get("userId"), identity.get("invokedBy"))
    facts = {
        "user_id": next((value for value in candidates if value), None),
        "user_name": identity.get("userName") or _session_name(identity) or identity.get("invokedBy"),
    }
    if issuer.get("arn"):
        facts["effective_user_id"] = issuer["arn"]
        if issuer.get("type") == "Role" and issuer.get("userName"):
            facts["user_roles"] = [issuer["userName"]]
    return facts


def _session_name(identity: dict[str, Any]) -> str | None:
    """Return what stands for a name where ``userName`` does not: the name of the session, or root."""
    if identity.get("type") == "Root":
        return "root"
    _, _, name = str(identity.get("principalId") or "").partition(":")
    return name or None


def _target(record: dict[str, Any], source: str) -> dict[str, Any]:
    """Return the user to whom it was done, where it was a user."""
    name = _mapping(record.get("requestParameters")).get("userName")
    if source != "iam.amazonaws.com" or not isinstance(name, str):
        return {}
    user = _mapping(_mapping(record.get("responseElements")).get("user"))
    return {"target_user_name": name, "target_user_id": user.get("arn")}


def _address(value: Any) -> str | None:
    """Return *value* when it is an address: for calls of AWS's own it is a service's name, or ``AWS Internal``."""
    return _parsed_address(value) if isinstance(value, str) else None


@lru_cache(maxsize=4096)
def _parsed_address(value: str) -> str | None:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        return None


def _sentence(facts: dict[str, Any], record: dict[str, Any], source: str, name: str) -> str:
    actor = facts["user_name"] or facts["user_id"] or "Somebody"
    failed = f" failed: {record.get('errorCode') or 'Failure'}" if facts["reason"] else ""
    return f"{actor}: {name} ({source}){failed}"


def _metadata(record: dict[str, Any], dropped: set[str]) -> dict[str, Any]:
    gone = _STORED_ELSEWHERE | dropped
    metadata = {key: value for key, value in record.items() if key not in gone and value is not None}
    resources = list(dict.fromkeys(_resources(record)))
    if resources:
        metadata["resource"] = resources
    # A response that issues credentials is redacted as a whole; which key it issued leads to what was done with it.
    issued = _mapping(record.get("responseElements"))
    for outer, inner in _ISSUED_KEYS:
        if isinstance(key := _mapping(issued.get(outer)).get(inner), str):
            metadata["issued_access_key_id"] = key
    return metadata


def _resources(record: dict[str, Any]) -> Iterator[str]:
    """Yield what it was done to: the record's own list, and what the request names by ARN or as a secret's id."""
    resources = record.get("resources")
    for resource in resources if isinstance(resources, list) else ():
        if isinstance(arn := _mapping(resource).get("ARN"), str):
            yield arn
    for key, value in _mapping(record.get("requestParameters")).items():
        if isinstance(value, str) and (value.startswith("arn:") or key == "secretId"):
            yield value


def _origin(event_type: str, record: dict[str, Any], source: str, *, failed: bool) -> dict[tuple[str, ...], Any]:
    """Return what CloudTrail knows better: the service that recorded it, and what sort of act it was."""
    origin: dict[tuple[str, ...], Any] = {("service",): {"name": source}}
    if not event_type.startswith("aws."):
        return origin
    category, kind = _classify(event_type, source, read_only=record.get("readOnly") is True)
    severity = "warning" if failed else "info"
    return origin | {
        ("event", "category"): [category],
        ("event", "type"): [kind],
        ("event", "severity"): SEVERITY_NUMBERS[severity],
        ("log", "level"): severity,
    }


def _classify(event_type: str, source: str, *, read_only: bool) -> tuple[str, str]:
    """Return the ECS category and type: ``iam`` knows no type for reading, so that is ``info`` there."""
    verb = event_type.rpartition(".")[2].partition("_")[0]
    kind = "access" if read_only else next((kind for kind, verbs in _VERBS.items() if verb in verbs), "change")
    if source == "iam.amazonaws.com":
        return "iam", "info" if kind == "access" else kind
    return "api", kind
