"""What in the accounts of a spool needs a hand."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.shipping.accounts import Accounts, WriterAccount

Kind = Literal["lost", "unreadable", "full", "clock", "stuck", "abandoned", "dead letters", "damage"]

LONG_SECONDS: Final = 60.0
"""How long an event may wait while nothing is acknowledged before somebody should look."""

NEARLY_FULL: Final = 0.8
"""From what part of its limit on a spool counts as nearly full."""


@dataclass(frozen=True)
class Concern:
    """Something that somebody should look after.

    Attributes:
        kind: ``lost``, ``unreadable``, ``full``, ``clock`` (it was set back, so nobody knows how long events wait),
            ``stuck`` (nothing moves), ``abandoned`` (its process died, and nobody ships what it left), ``dead
            letters``, ``damage`` (bytes in a segment that are no whole event).
        sentence: What it is.
        remedy: What to do about it.
        writer: Whose events they are; None when it is about the whole spool.
    """

    kind: Kind
    sentence: str
    remedy: str
    writer: str | None = None


def concerns(accounts: Accounts, limit_bytes: int, now: dt.datetime | None = None) -> Iterator[Concern]:
    """Yield what needs a hand, the worst first.

    Args:
        accounts: The accounts.
        limit_bytes: ``spool_max_bytes`` of the processes that write there.
        now: The present, for tests.
    """
    moment = now or dt.datetime.now(dt.timezone.utc)
    for account in (*accounts.writers, *accounts.closed):
        if account.balance.lost and not account.trouble:
            yield _lost(account)
    for account in (*accounts.writers, *accounts.closed):
        if account.trouble:
            remedy = "Everything else is shipped; `audit-logging spool dead list` has what was damaged."
            yield Concern("unreadable", account.trouble, remedy, account.writer)
    for account in accounts.writers:
        if account.balance.in_spool and account.kept_bytes >= NEARLY_FULL * limit_bytes:
            yield Concern(
                "full",
                f"The spool of writer {account.writer} is {account.kept_bytes / limit_bytes:.0%} full.",
                "At its limit emit calls wait and then raise: make OpenSearch reachable, or raise spool_max_bytes.",
                account.writer,
            )
    yield from _waits(accounts, moment)
    yield from _set_aside(accounts)


def _waits(accounts: Accounts, now: dt.datetime) -> Iterator[Concern]:
    for account in accounts.writers:
        waited = _waited_seconds(account, now)
        if waited <= -LONG_SECONDS:
            yield _ahead(account, -waited)
        elif waited >= LONG_SECONDS:
            yield _standstill(account, accounts)


def _set_aside(accounts: Accounts) -> Iterator[Concern]:
    if dead := accounts.total.dead:
        yield Concern(
            "dead letters",
            f"OpenSearch refused {count_of(dead, 'event')} even in quarantine; the disk keeps"
            f" {'it' if dead == 1 else 'them'}.",
            f"`audit-logging spool dead list --spool-dir {accounts.spool_dir}` says why; mend that, then"
            f" `audit-logging spool dead replay --all --spool-dir {accounts.spool_dir}`.",
        )
    if accounts.damaged:
        yield _damage(accounts)


def _lost(account: WriterAccount) -> Concern:
    lost = account.balance.lost
    return Concern(
        "lost",
        f"{count_of(lost, 'event')} of writer {account.writer} {'is' if lost == 1 else 'are'} in no place where an"
        " event can be: the disk was damaged, or somebody deleted them.",
        "`audit-logging spool dead list` has the bytes that were damaged. What cannot be restored from a copy of the"
        " spool stays a gap in the writer's chain.",
        account.writer or None,
    )


def _damage(accounts: Accounts) -> Concern:
    last = max(accounts.damaged, key=lambda damage: damage.found)
    return Concern(
        "damage",
        f"The spool was damaged in {count_of(len(accounts.damaged), 'place')}, the last found {last.found[:10]} in"
        f" {last.segment} of writer {last.writer}: {last.missing}. What was there is kept.",
        f"Look after the disk; `audit-logging spool dead list --spool-dir {accounts.spool_dir}` has all of it.",
    )


def _waited_seconds(account: WriterAccount, now: dt.datetime) -> float:
    """Return for how long, by the files' times, an event waits and nothing was acknowledged; 0 when nothing waits."""
    if account.waiting_since is None:
        return 0
    moved = max(account.waiting_since, account.acknowledged_at or account.waiting_since)
    return (now - moved).total_seconds()


def _ahead(account: WriterAccount, seconds: float) -> Concern:
    return Concern(
        "clock",
        f"The spool of writer {account.writer} was written to {seconds:,.0f} s from now: the clock was set back, and"
        f" how long its {count_of(account.balance.in_spool, 'event')} {_verb(account, 'wait')} cannot be told.",
        "Look again in a minute: if something is acknowledged meanwhile, all is well.",
        account.writer,
    )


def _standstill(account: WriterAccount, accounts: Accounts) -> Concern:
    waiting, since = count_of(account.balance.in_spool, "event"), account.waiting_since
    assert since is not None
    when = f"since {since:%Y-%m-%d %H:%M:%S} UTC"
    if account.state == "dead":
        return Concern(
            "abandoned",
            f"{waiting} of writer {account.writer}, whose process is gone, {_verb(account, 'wait')} {when}, and nobody"
            " ships them.",
            f"Start the application again, or run `audit-logging ship --once --spool-dir {accounts.spool_dir}`.",
            account.writer,
        )
    return Concern(
        "stuck",
        f"{waiting} of writer {account.writer} {_verb(account, 'wait')} {when}, and OpenSearch acknowledges nothing.",
        "`audit-logging doctor` tells what is wrong on the way there. If the application does not ship itself"
        " (AUDIT_SHIP=false), is its `audit-logging ship` running?",
        account.writer,
    )


def _verb(account: WriterAccount, verb: str) -> str:
    return f"{verb}s" if account.balance.in_spool == 1 else verb


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> count_of(1, "event"), count_of(1204, "event")
        ('1 event', '1,204 events')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
