"""The reckoning after a fault: every event whose call returned is in the stream once, no writer has a gap,
verification finds nothing, and the spool's accounts agree with the stream.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from audit_logging.opensearch.client import Client
from audit_logging.query.reader import AuditReader
from audit_logging.shipping.accounts import take_accounts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from audit_logging.query.event import Event
    from audit_logging.settings import Settings
    from audit_logging.shipping.accounts import Accounts


def reckon(
    settings: Settings,
    emitted: Iterable[str],
    *,
    poison: Collection[str] = (),
    damaged: Collection[str] = (),
    named: Collection[str] = (),
) -> list[Event]:
    """Assert that a reader sees every one of *emitted* exactly once and every writer's sequence from 1 without a gap.

    Events beyond *emitted* may be there: a process may die after an event is safe and before its call returns.

    Args:
        settings: The stream, and a way to the server itself, past any proxy.
        emitted: Ids of the events whose emit calls returned.
        poison: Those of them that may be in quarantine; no other event may be.
        named: Kinds of findings that `verify` must name, and no others.
        damaged: Writers whose spools were damaged, so that their accounts must not be balanced.

    Returns:
        All events of the stream.
    """
    client = Client(settings)
    client.request("POST", f"/{settings.stream}/_refresh")
    client.close()
    with AuditReader(settings=settings) as reader:
        events = list(reader.scan())
        findings = () if damaged else reader.verify().findings
    seen = Counter(event.id for event in events)
    expected = set(emitted)
    assert not (missing := expected - seen.keys()), f"{len(missing)} events lost, such as {sorted(missing)[:3]}"
    assert not (double := [event_id for event_id, count in seen.items() if count > 1]), f"seen twice: {double[:3]}"
    quarantined = {event.id for event in events if event.event_type == "audit.quarantined"}
    assert quarantined <= set(poison), f"quarantined without a cause: {sorted(quarantined - set(poison))[:3]}"
    by_writer = _by_writer(events)
    for writer, sequences in by_writer.items():
        assert sequences == list(range(1, len(sequences) + 1)), f"writer {writer} has a gap or a double"
    assert {finding.kind for finding in findings} == set(named), findings[:3]
    _compare(take_accounts(settings.spool_path), settings.stream, by_writer, damaged)
    return events


def _compare(accounts: Accounts, stream: str, stored: Mapping[str, list[int]], damaged: Collection[str]) -> None:
    """Assert that the accounts are balanced, and that what they call indexed or quarantined is there."""
    for account in (*accounts.writers, *accounts.closed):
        assert account.balanced == (account.writer not in damaged), account
        if account.stream == stream:
            known = account.balance.indexed + account.balance.quarantined
            found = len(stored.get(account.writer, []))
            assert known <= found <= known + account.balance.in_spool, f"{found} found of {account}"


def _by_writer(events: Iterable[Event]) -> dict[str, list[int]]:
    sequences: dict[str, list[int]] = {}
    for event in events:
        sequences.setdefault(event.get("audit.integrity.writer"), []).append(event.get("audit.integrity.sequence"))
    return {writer: sorted(found) for writer, found in sequences.items()}
