"""When each backing index may leave, and what is to be done about it. Pure: facts and a time in, a plan out.

An index may leave once the retention period has passed since the later of two moments: its rollover, until which
events came in, and the time of its newest event, which an application may have dated later. So every event is kept
at least that long, by whichever clock one counts, and the last of an index's events at most one rollover longer.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from audit_logging.opensearch.templates import rollover_bytes, rollover_days

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from audit_logging.opensearch.holds import Hold
    from audit_logging.opensearch.ism import ManagedIndex

Action = Literal["roll over", "seal", "seal again", "archive", "lock", "unlock", "detach", "attach", "delete"]

SETTLED_AFTER: Final = dt.timedelta(minutes=10)
"""After a rollover, requests that were on their way may still reach the old index: until then it is not sealed."""

LEEWAY: Final = dt.timedelta(minutes=5)
"""How far an event may be dated after the rollover of its index before that counts: clocks are never quite the same,
and Index State Management, which counts from the rollover alone, takes longer than this to delete."""

NEAR_ROLLOVERS: Final = 2
"""So many rollover periods before an index leaves, what it says of holds and seals that go on is said again."""


@dataclass(frozen=True)
class BackingIndex:
    """What is known of one backing index.

    Attributes:
        name: Its name.
        uuid: What tells it from a later index of the same name.
        created: When it was made.
        rolled_over: When it stopped taking events; None while it is written to.
        events: How many it holds.
        primary_bytes: Size of its primary shards.
        oldest: Time of its oldest event, or None.
        newest: Time of its newest event, or None.
        locked: Whether OpenSearch refuses to delete it (``index.blocks.read_only``).
        closed: Whether it is closed: what it holds cannot be seen.
        blocked: Whether it cannot be deleted or managed (``index.blocks.metadata``).
        sealed_events: How many events its seal speaks of; None while it is not sealed.
        seal_in: The backing indices that hold its seal, for each event of the seal.
        archived: Whether the archive that was named holds it.
        holds: Ids of the holds that it is under.
        released: Whether a hold that has been released covered it.
        managed: How Index State Management sees it; None where the server has none.
    """

    name: str
    uuid: str
    created: dt.datetime
    rolled_over: dt.datetime | None
    events: int = 0
    primary_bytes: int = 0
    oldest: dt.datetime | None = None
    newest: dt.datetime | None = None
    locked: bool = False
    closed: bool = False
    blocked: bool = False
    sealed_events: int | None = None
    seal_in: tuple[frozenset[str], ...] = ()
    archived: bool = False
    holds: tuple[str, ...] = ()
    released: bool = False
    managed: ManagedIndex | None = None

    @property
    def changed_since_sealed(self) -> bool:
        """Whether it holds another number of events than its seal says."""
        return not self.closed and self.sealed_events is not None and self.sealed_events != self.events

    @property
    def dated_ahead(self) -> bool:
        """Whether an event is dated after the time at which the last one came in."""
        return self.rolled_over is not None and self.newest is not None and self.newest > self.rolled_over + LEEWAY

    def leaves(self, days: int) -> dt.datetime | None:
        """Return from when on it may leave, holds aside; None while it is written to."""
        if self.rolled_over is None:
            return None
        try:
            return max(self.rolled_over, self.newest or self.rolled_over) + dt.timedelta(days=days)
        except OverflowError:
            return dt.datetime.max.replace(tzinfo=dt.timezone.utc)


@dataclass(frozen=True)
class Outlook:
    """What is to become of one backing index.

    Attributes:
        index: What is known of it.
        leaves: From when on it may leave; None while it is written to.
        kept: Why it stays all the same, in short sentences; empty when nothing keeps it.
        actions: What `retention apply` does about it, in this order.
    """

    index: BackingIndex
    leaves: dt.datetime | None
    kept: tuple[str, ...]
    actions: tuple[Action, ...]

    @property
    def protected(self) -> bool:
        """Whether it must be kept from deletion, whoever tries."""
        return bool(self.kept)

    @property
    def stays(self) -> str:
        """Why it does not leave by itself, in words; empty when it does, at :attr:`leaves`."""
        if self.kept:
            return f"stays: {'; '.join(self.kept)}"
        if self.index.holds:
            return f"stays once it is rolled over: on hold {', '.join(self.index.holds)}"
        if self.leaves is not None and self.index.locked and "unlock" not in self.actions:
            return "stays: it is locked, and no hold says why"
        return ""


@dataclass(frozen=True)
class RetentionPlan:
    """What will leave when, and what is to be done now.

    Attributes:
        stream: The data stream.
        days: The retention period.
        rollover_days: Greatest age of the write index.
        at: The time that the plan is made for.
        ism: Whether Index State Management carries it out; otherwise `retention apply` does.
        lock: Whether the server can lock what must stay.
        outlooks: Every backing index, oldest first.
        holds: Every hold that the trail knows, released ones included.
        restate: The holds that have to be recorded again, before what records them leaves.
    """

    stream: str
    days: int
    rollover_days: int
    at: dt.datetime
    ism: bool
    lock: bool
    outlooks: tuple[Outlook, ...]
    holds: tuple[Hold, ...]
    restate: tuple[Hold, ...]

    @property
    def promise(self) -> str:
        """How long every event is kept, and by whom, in one sentence."""
        by = "Index State Management" if self.ism else "`audit-logging retention apply`, which should run daily"
        rollover = f"{self.rollover_days} day{'' if self.rollover_days == 1 else 's'}"
        return (
            f"{self.stream}: every event is kept at least {self.days} days and at most {rollover} longer; backing"
            f" indices are rolled over and deleted by {by}."
        )

    @property
    def holds_in_force(self) -> tuple[Hold, ...]:
        """The holds that keep something now."""
        return tuple(hold for hold in self.holds if hold.active)

    def leaving(self, outlook: Outlook) -> str:
        """Return when or why not a backing index leaves, in words."""
        if outlook.stays:
            return outlook.stays
        return f"{self.days} days after its rollover" if outlook.leaves is None else f"{outlook.leaves:%Y-%m-%d %H:%M}"

    def to_do(self, action: Action) -> tuple[BackingIndex, ...]:
        """Return the indices that *action* is planned for."""
        return tuple(outlook.index for outlook in self.outlooks if action in outlook.actions)


def plan_retention(
    stream: str,
    indices: Iterable[BackingIndex],
    holds: Iterable[Hold],
    *,
    days: int,
    at: dt.datetime,
    ism: bool,
    lock: bool = True,
    archiving: bool = False,
) -> RetentionPlan:
    """Return what is to become of a stream's backing indices.

    Args:
        stream: The data stream.
        indices: Its backing indices, oldest first.
        holds: Every hold that the trail knows.
        days: The retention period.
        at: The time to plan for.
        ism: Whether Index State Management rolls over and deletes.
        lock: Whether the server can lock what must stay.
        archiving: Whether an index must be in an archive before it leaves.
    """
    soon = at + NEAR_ROLLOVERS * dt.timedelta(days=rollover_days(days))
    everything = tuple(indices)
    leaving = frozenset(index.name for index in everything if (leaves := index.leaves(days)) and leaves <= soon)
    outlooks = tuple(
        _sealed_again(_outlook(index, days=days, at=at, ism=ism, lock=lock, archiving=archiving), leaving)
        for index in everything
    )
    if any(index.closed for index in everything):
        outlooks = tuple(_while_one_is_closed(outlook, lock=lock) for outlook in outlooks)
    known = tuple(holds)
    return RetentionPlan(
        stream=stream,
        days=days,
        rollover_days=rollover_days(days),
        at=at,
        ism=ism,
        lock=lock,
        outlooks=outlooks,
        holds=known,
        restate=tuple(_to_restate(known, outlooks, leaving)),
    )


def _outlook(index: BackingIndex, *, days: int, at: dt.datetime, ism: bool, lock: bool, archiving: bool) -> Outlook:
    leaves = index.leaves(days)
    kept = tuple(_reasons_to_keep(index, leaves, at)) if leaves else ()
    outlook = Outlook(index, leaves, kept, ())
    actions = (*_write_index_actions(index, days, at, ism=ism), *_managing(outlook, ism=ism, lock=lock))
    if leaves is not None:
        actions += tuple(_leaving(outlook, leaves, at, ism=ism, archiving=archiving, unlocked="unlock" in actions))
    return Outlook(index, leaves, kept, actions)


def _reasons_to_keep(index: BackingIndex, leaves: dt.datetime, at: dt.datetime) -> Iterator[str]:
    if index.closed:
        yield f"it is closed, so that nobody can see what it holds (POST /{index.name}/_open opens it)"
    if index.holds:
        yield f"on hold {', '.join(index.holds)}"
    if index.dated_ahead and at < leaves:
        yield f"an event is dated {index.newest:%Y-%m-%d}, after it came in"
    if index.changed_since_sealed:
        yield f"it holds {index.events:,} events and its seal says {index.sealed_events:,}"


def _write_index_actions(index: BackingIndex, days: int, at: dt.datetime, *, ism: bool) -> Iterator[Action]:
    if index.rolled_over is not None or ism or not index.events:
        return  # an empty one holds nothing that could be kept too long
    if at - index.created >= dt.timedelta(days=rollover_days(days)) or index.primary_bytes >= rollover_bytes():
        yield "roll over"


def _managing(outlook: Outlook, *, ism: bool, lock: bool) -> Iterator[Action]:
    index, policy = outlook.index, outlook.index.managed.policy if outlook.index.managed else None
    # A lock that nothing here explains is somebody's own, and is left alone.
    ours = index.released or index.dated_ahead
    unlock = index.locked and not outlook.protected and ours
    if outlook.protected and ism and policy is not None:
        yield "detach"
    if outlook.protected and lock and not index.locked and not index.closed:
        yield "lock"
    if unlock:
        yield "unlock"
    if ism and policy is None and not outlook.protected and (unlock or not index.locked):
        yield "attach"


def _leaving(
    outlook: Outlook, leaves: dt.datetime, at: dt.datetime, *, ism: bool, archiving: bool, unlocked: bool
) -> Iterator[Action]:
    index = outlook.index
    if index.closed:
        return
    sealed = index.sealed_events is not None
    if not sealed:
        if index.rolled_over is None or at < index.rolled_over + SETTLED_AFTER:
            return
        yield "seal"
    if archiving and not index.archived:
        yield "archive"
    if not ism and at >= leaves and not outlook.protected and (unlocked or not index.locked):
        yield "delete"


def _while_one_is_closed(outlook: Outlook, *, lock: bool) -> Outlook:
    """Leave out what a hold forbids that only a closed index may record; where there are locks, it has locked."""
    unsafe = {"unlock"} if lock else {"unlock", "delete"}
    return replace(outlook, actions=tuple(action for action in outlook.actions if action not in unsafe))


def _sealed_again(outlook: Outlook, leaving: frozenset[str]) -> Outlook:
    """Let an index that stays not outlive its seal: it could be sealed anew, whatever it then holds."""
    stays = outlook.protected or outlook.index.name not in leaving
    if stays and any(places <= leaving for places in outlook.index.seal_in):
        return replace(outlook, actions=("seal again", *outlook.actions))
    return outlook


def _to_restate(holds: Iterable[Hold], outlooks: Iterable[Outlook], leaving: frozenset[str]) -> Iterator[Hold]:
    """Yield the holds whose last word stands in indices that leave soon.

    A release has to outlive what it releases: with an earlier record of the hold alone, it would be in force again.
    """
    staying = {outlook.index.name for outlook in outlooks if outlook.index.name not in leaving or outlook.protected}
    for hold in holds:
        if not hold.said_in <= leaving:
            continue
        if hold.active or hold.placed_in & staying:
            yield hold
