"""Carries a retention plan out, step by step; run as often and on as many hosts at once as one likes.

Nothing is locked against a second run. Each step looks for itself whether it is still to be done, and doing it twice is
harmless: an index is deleted by its exact name, and one that is gone already is as it should be. What must not happen
twice or too early is left to the server to refuse: a write index, and an index under a lock, cannot be deleted.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from audit_logging.errors import NotFoundError, OpenSearchError, RefusedError
from audit_logging.integrity.claims import INDEX_SEALED, RETENTION_APPLIED
from audit_logging.integrity.keys import TrustedKeys
from audit_logging.opensearch.holds import lock, restating, unlock
from audit_logging.opensearch.ism import (
    attachment_step,
    explain,
    follows,
    policy_step,
    read_policy,
    read_rivals,
    remove_requests,
)
from audit_logging.opensearch.retention import RetentionPlan, plan_retention
from audit_logging.opensearch.retention_facts import read_backing_indices
from audit_logging.opensearch.retention_period import read_applied
from audit_logging.opensearch.retention_seal import seal_again, seal_facts
from audit_logging.opensearch.templates import blueprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit_logging.opensearch.archive import Archive
    from audit_logging.opensearch.client import Client
    from audit_logging.opensearch.holds import Hold
    from audit_logging.opensearch.retention import BackingIndex, Outlook

Record = Callable[[str, Mapping[str, Any]], str]
"""Puts an event, type and facts, into the trail and returns its id once OpenSearch has acknowledged it."""

DEFAULT_WAIT_SECONDS: Final = 30.0
"""How long Index State Management may take to tell that it took over what it was given."""

_POLL_SECONDS: Final = 0.5
_CONFLICT: Final = 409


@dataclass
class RetentionReport:
    """What a run of `retention apply` did. Lists hold names of backing indices.

    Attributes:
        stream: The data stream.
        days: The retention period.
        policy: What became of the ISM policy; ``"left out"`` where the server has no Index State Management.
        attached: How backing indices were given the policy, in words; empty when nothing had to be done.
        rolled_over: Closed to new events.
        sealed: Sealed by an event.
        archived: Written to the archive.
        deleted: Gone.
        locked: Protected from deletion, and taken out of Index State Management.
        unlocked: No longer protected.
        restated: Ids of holds, and names of sealed indices, of which was recorded again what would leave.
        notes: Sentences for the operator.
        plan: What is to come, as seen at the end.
    """

    stream: str
    days: int
    policy: str = "left out"
    attached: str = ""
    rolled_over: list[str] = field(default_factory=list)
    sealed: list[str] = field(default_factory=list)
    archived: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)
    unlocked: list[str] = field(default_factory=list)
    restated: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    plan: RetentionPlan | None = None

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        lists = (self.rolled_over, self.sealed, self.archived, self.deleted, self.locked, self.unlocked, self.restated)
        return bool(self.attached) or self.policy in {"created", "updated"} or any(lists)


class Retention:
    """The retention of one stream: looks, plans, and carries out.

    Args:
        client: The server.
        stream: The data stream.
        days: The retention period.
        ism: Whether the server has Index State Management.
        lock: Whether the server can lock a backing index.
        clock: Tells the time; everything is planned by it.
        archive: Where indices are kept before they leave; None: they are not.
        keys: The keys whose signatures are believed; none: no signature is asked for.
    """

    def __init__(
        self,
        client: Client,
        stream: str,
        *,
        days: int,
        ism: bool,
        lock: bool = True,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.timezone.utc),
        archive: Archive | None = None,
        keys: TrustedKeys | None = None,
    ) -> None:
        self._client = client
        self.stream = stream
        self.days = days
        self.ism = ism
        self._lock = lock
        self._clock = clock
        self._archive = archive
        self._keys = keys or TrustedKeys({})
        self._blueprint = blueprint(stream, retention_days=days)

    def plan(self) -> RetentionPlan:
        """Look at the stream and return what is to be done. Changes nothing."""
        indices, holds = self._look()
        return plan_retention(
            self.stream,
            indices,
            holds,
            days=self.days,
            at=self._clock(),
            ism=self.ism,
            lock=self._lock,
            archiving=self._archive is not None,
        )

    def _look(self) -> tuple[list[BackingIndex], tuple[Hold, ...]]:
        archived = None if self._archive is None else self._archive.holds
        return read_backing_indices(self._client, self.stream, ism=self.ism, archived=archived)

    def apply(self, record: Record, wait_seconds: float = DEFAULT_WAIT_SECONDS) -> RetentionReport:
        """Do what is to be done, and return what that was.

        Args:
            record: Puts events into the trail.
            wait_seconds: How long Index State Management may take to take over what it was given.

        Raises:
            DurabilityError: What must be recorded first could not be. What it would have been first to was not done.
            OpenSearchError: OpenSearch refused or did not answer. What was done stays done; run it again.
            ArchiveError: An index could not be archived, or holds what its seals deny. It stays.
        """
        report = RetentionReport(self.stream, self.days)
        plan = self.plan()
        if self.ism:
            self._put_policy(report)
        self._protect(plan, record, report)
        if self.ism:
            self._attach(plan, report, wait_seconds)
        for index in plan.to_do("roll over"):
            self._roll_over(index, report)
        plan = self.plan() if report.rolled_over else plan
        for index in plan.to_do("seal"):
            for facts in seal_facts(self._client, self.stream, index, self._keys):
                record(INDEX_SEALED, facts)
            report.sealed.append(index.name)
        for index in plan.to_do("archive"):
            self._write_archive(index, report)
        closed = [outlook for outlook in plan.outlooks if outlook.index.closed]
        report.notes += [f"{outlook.index.name} was left alone: {'; '.join(outlook.kept)}." for outlook in closed]
        self._delete_what_may_leave(record, report)
        report.plan = self.plan()
        return report

    def protect(self, record: Record, new_hold: str | None = None) -> RetentionReport:
        """Bring locks in line with the holds that are in force now; the part of :meth:`apply` that a hold needs.

        Args:
            record: Puts events into the trail.
            new_hold: Id of a hold just placed. Under Index State Management a write index under it is rolled over
                first, so that what it holds at this moment does not depend on whether anybody applies retention later.
        """
        report = RetentionReport(self.stream, self.days)
        plan = self.plan()
        write_index = plan.outlooks[-1].index
        if self.ism and new_hold in write_index.holds:
            self._roll_over(write_index, report)
            plan = self.plan()
        self._protect(plan, record, report)
        if self.ism:
            self._attach(plan, report, DEFAULT_WAIT_SECONDS)
        report.plan = self.plan()
        return report

    def _put_policy(self, report: RetentionReport) -> None:
        for last_try in (False, True):
            priority = max(read_rivals(self._client, self.stream).values(), default=-1) + 1
            step = policy_step(self._blueprint, read_policy(self._client, self._blueprint.policy_name), priority)
            try:
                step.apply(self._client)
            except RefusedError as error:
                if error.status != _CONFLICT or last_try:
                    raise
                continue  # another host was faster: compare with what it put there
            report.policy = step.outcome
            return

    def _protect(self, plan: RetentionPlan, record: Record, report: RetentionReport) -> None:
        """Say again of holds and seals what would leave; then protect what must stay, and only then let go."""
        for hold in plan.restate:
            record(*restating(hold))
            report.restated.append(hold.id)
        for index in plan.to_do("seal again"):
            for facts in seal_again(self._client, self.stream, index):
                record(INDEX_SEALED, facts)
            report.restated.append(index.name)
        if self.ism:
            # Whatever it explains: an index that another host attached a moment ago is not told of yet.
            self._detach([each.index.name for each in plan.outlooks if _must_be_out(each)])
        for index in plan.to_do("lock"):
            if lock(self._client, index.name):
                report.locked.append(index.name)
        for index in plan.to_do("unlock"):
            if unlock(self._client, index.name):
                report.unlocked.append(index.name)

    def _detach(self, names: Sequence[str]) -> None:
        """Take indices out of Index State Management. Its answer is what counts.

        What it explains comes from a search, and is a second or more behind.

        Raises:
            OpenSearchError: An index could not be taken out.
        """
        try:
            for request in remove_requests(names):
                request.send(self._client)
        except OpenSearchError as error:
            raise OpenSearchError(
                f"Index State Management did not let go of an index that must not leave ({error}): run `audit-logging"
                " retention apply` again."
            ) from error

    def _attach(self, plan: RetentionPlan, report: RetentionReport, wait_seconds: float) -> None:
        """Give the policy, as it is now, to every backing index that nothing keeps; wait until that is seen."""
        names = [
            outlook.index.name
            for outlook in plan.outlooks
            if not outlook.protected and (not outlook.index.locked or "unlock" in outlook.actions)
        ]
        released = [outlook.index.name for outlook in plan.outlooks if "unlock" in outlook.actions]
        now = self._clock()
        due = {each.index.name for each in plan.outlooks if each.leaves is not None and each.leaves <= now}
        explained = explain(self._client, names)
        step = attachment_step(self._blueprint, explained, released=released, due=due)
        step.apply(self._client)
        report.attached = step.detail if step.requests else ""
        deadline = time.monotonic() + wait_seconds
        while step.requests and (
            behind := [name for name, done in follows(self._client, self._blueprint, names) if not done]
        ):
            if time.monotonic() >= deadline:
                report.notes.append(
                    f"{len(behind)} backing indices take the policy over at their next run, in some minutes:"
                    " `audit-logging retention verify` shows when."
                )
                return
            time.sleep(_POLL_SECONDS)

    def _roll_over(self, index: BackingIndex, report: RetentionReport) -> None:
        """Roll exactly this write index over: where another host just did, the new one is too young for that."""
        age = dt.datetime.now(dt.timezone.utc) - index.created
        conditions = {"max_age": f"{max(int(age.total_seconds() * 500), 0)}ms"}
        try:
            answer = self._client.request("POST", f"/{self.stream}/_rollover", body={"conditions": conditions})
        except RefusedError as error:
            if error.error_type != "cluster_block_exception":
                raise
            report.notes.append(f"{index.name} was not rolled over, for the stream has a block: {error.reason}")
            return
        if answer["rolled_over"]:
            report.rolled_over.append(answer["old_index"])

    def _write_archive(self, index: BackingIndex, report: RetentionReport) -> None:
        assert self._archive is not None
        self._archive.write(index)
        report.archived.append(index.name)

    def _delete_what_may_leave(self, record: Record, report: RetentionReport) -> None:
        """Record what is going to leave, look once more, and delete it."""
        plan = self.plan()
        leaving = _ready(plan)
        if self._archive is not None:
            for index in leaving:
                self._archive.verify(index)
        if report.changed or leaving or not self._period_is_known(plan):
            record(RETENTION_APPLIED, _applied(plan, report, [index.name for index in leaving]))
        for index in leaving:
            # A hold may have been placed since. One placed from here on finds the index gone, or locks it first.
            if index.name in {ready.name for ready in _ready(self.plan())}:
                self._delete(index, report)

    def _period_is_known(self, plan: RetentionPlan) -> bool:
        """Whether the trail says that this period is in force, by which `audit-logging verify` judges what left."""
        applied = read_applied(self._client, self.stream, self._keys)
        told = [each.days for each in applied if each.signed or not self._keys]
        if not told:
            return all(outlook.index.sealed_events is None for outlook in plan.outlooks)
        return told[0] == self.days

    def _delete(self, index: BackingIndex, report: RetentionReport) -> None:
        try:
            self._client.request("DELETE", f"/{index.name}")
        except NotFoundError:
            return  # another host was faster
        except RefusedError as error:
            if error.error_type != "cluster_block_exception":
                raise
            why = "its metadata is blocked (index.blocks.metadata)" if index.blocked else "it was locked a moment ago"
            report.notes.append(f"{index.name} stays: {why}.")
            return
        report.deleted.append(index.name)


def _must_be_out(outlook: Outlook) -> bool:
    return outlook.protected and (not outlook.index.locked or "detach" in outlook.actions)


def _ready(plan: RetentionPlan) -> list[BackingIndex]:
    """Return what may be deleted now: what is due, and has nothing left to be done first."""
    return [
        outlook.index
        for outlook in plan.outlooks
        if "delete" in outlook.actions and not {"seal", "archive"} & {*outlook.actions}
    ]


def _applied(plan: RetentionPlan, report: RetentionReport, leaving: list[str]) -> dict[str, Any]:
    """Return what the event says that records one run; it is recorded before anything is deleted."""
    held = [outlook.index.name for outlook in plan.outlooks if outlook.index.holds]
    metadata = {
        "stream": report.stream,
        "retention_days": report.days,
        "policy": report.policy,
        "attached": report.attached,
        "rolled_over": report.rolled_over,
        "sealed": report.sealed,
        "archived": report.archived,
        "leaving": leaving,
        "locked": report.locked,
        "unlocked": report.unlocked,
        "held": held,
    }
    message = f"Retention of {report.days} days was applied; {len(leaving)} backing indices are leaving"
    return {"message": message, "metadata": {name: value for name, value in metadata.items() if value}}
