"""The retention period in force, told by what applies it and by what the trail records of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from audit_logging.integrity.claims import RETENTION_APPLIED
from audit_logging.integrity.keys import TrustedKeys
from audit_logging.integrity.sealed_event import read_sealed_event
from audit_logging.integrity.signature import is_signed
from audit_logging.opensearch.backing_indices import find_stream, names_of_backing_indices
from audit_logging.opensearch.holds import MAX_RECORDS, search
from audit_logging.opensearch.ism import explain, kept_days, read_policy
from audit_logging.opensearch.templates import policy_name

if TYPE_CHECKING:
    from audit_logging.opensearch.client import Client
    from audit_logging.settings import Settings


class Applied(NamedTuple):
    """A period that the trail says was applied.

    Attributes:
        days: The period.
        signed: Whether the event is genuine and signed by a key that is trusted here.
    """

    days: int
    signed: bool


def days_in_force(client: Client, settings: Settings, *, ism: bool) -> int:
    """Return the retention period: the one that was asked for, else the one in force, else the default.

    A policy of ours is what is in force. Without Index State Management it is what a trusted key last signed as
    applied, and never less than the default. Where the policy is gone, and where no signature can be checked, it is the
    longest period that anything tells of: neither a deleted policy nor an event that anybody may have written must make
    others leave early.
    """
    if "retention_days" in settings.model_fields_set:
        return settings.retention_days
    copied: list[int] = []
    if ism:
        policy = read_policy(client, policy_name(settings.stream))
        if policy is not None:
            return kept_days(policy) or settings.retention_days
        copied = _days_in_copies(client, settings.stream)
    applied = read_applied(client, settings.stream, keys_here(settings))
    signed = [each.days for each in applied if each.signed]
    if signed and not ism:
        return max(settings.retention_days, signed[0])
    return max([settings.retention_days, *copied, *(each.days for each in applied)])


def keys_here(settings: Settings) -> TrustedKeys:
    """Return the public keys beside the signing key; none where nothing is signed."""
    return TrustedKeys.beside(settings.signing_key_path) if settings.signs else TrustedKeys({})


def read_applied(client: Client, stream: str, keys: TrustedKeys) -> list[Applied]:
    """Return the periods that the trail says were applied, the latest first; none where there is no trail yet."""
    if find_stream(client, stream) is None:
        return []
    body = {
        "query": {"bool": {"filter": [{"term": {"event.action": RETENTION_APPLIED}}]}},
        "sort": [{"@timestamp": "desc"}],
        "size": MAX_RECORDS,
    }
    hits = search(client, stream, body)["hits"]["hits"]
    return [found for hit in hits if (found := _applied(hit["_source"], keys)) is not None]


def _applied(document: dict[str, Any], keys: TrustedKeys) -> Applied | None:
    try:
        days = int(document["audit"]["metadata"]["retention_days"])
    except (KeyError, TypeError, ValueError):
        return None  # not one of ours
    event = read_sealed_event(orjson.dumps(document))
    return Applied(days, event is not None and is_signed(event, keys))


def _days_in_copies(client: Client, stream: str) -> list[int]:
    """Return the periods of the policies that backing indices have copies of."""
    found = find_stream(client, stream)
    names = names_of_backing_indices(found) if found is not None else ()
    days = [kept_days({"policy": index.copy}) for index in explain(client, names) if index.copy is not None]
    return [each for each in days if each is not None]
