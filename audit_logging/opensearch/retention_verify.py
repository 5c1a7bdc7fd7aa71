"""Whether retention works: looks at every backing index and names what is not as it should be. Changes nothing."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from audit_logging.errors import OpenSearchError
from audit_logging.opensearch.ism import policy_step, same_policy
from audit_logging.opensearch.retention_lint import lint_policy
from audit_logging.opensearch.templates import blueprint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.opensearch.retention import Outlook, RetentionPlan

GRACE: Final = dt.timedelta(days=1)
"""How late something may be: Index State Management looks every few minutes, a cron job at least once a day."""

_APPLY: Final = "run `audit-logging retention apply`"


@dataclass(frozen=True)
class Verified:
    """One backing index, looked at.

    Attributes:
        outlook: What is known of it and is to become of it.
        state: How it is managed, in a word or two: ``"managed"``, ``"by apply"``, ``"locked"``, ``"closed"``,
            ``"kept"``, ``"failed"``, …
        problems: What is wrong, in sentences.
    """

    outlook: Outlook
    state: str
    problems: tuple[str, ...]


@dataclass(frozen=True)
class RetentionVerification:
    """What `retention verify` found.

    Attributes:
        plan: What is known and to come.
        indices: Every backing index, oldest first.
        policy_problems: What is wrong with the policy itself.
    """

    plan: RetentionPlan
    indices: tuple[Verified, ...]
    policy_problems: tuple[str, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is wrong, in sentences; empty when retention works."""
        named = (f"{index.outlook.index.name}: {text}" for index in self.indices for text in index.problems)
        return (*self.policy_problems, *named)


def verify_plan(plan: RetentionPlan, policy: dict[str, Any] | None) -> RetentionVerification:
    """Judge what is planned.

    Args:
        plan: As of now.
        policy: What the server has under the policy's name, or None.
    """
    faults = tuple(_policy_faults(plan, policy)) if plan.ism else ()
    indices = tuple(Verified(outlook, _state(outlook), tuple(_faults(outlook, plan))) for outlook in plan.outlooks)
    return RetentionVerification(plan, indices, faults)


def _policy_faults(plan: RetentionPlan, policy: dict[str, Any] | None) -> Iterator[str]:
    wanted = blueprint(plan.stream, retention_days=plan.days)
    if policy is None:
        yield f"There is no policy {wanted.policy_name!r}: {_APPLY}."
        return
    for fault in lint_policy(policy["policy"], plan.stream):
        yield f"The policy {wanted.policy_name!r}: {fault}."
    try:
        differs = bool(policy_step(wanted, policy).requests)
    except OpenSearchError as error:  # it is newer, or somebody else's
        yield str(error)
        return
    if differs:
        yield f"The policy {wanted.policy_name!r} is not that of {plan.days} days: {_APPLY}."


def _state(outlook: Outlook) -> str:
    managed = outlook.index.managed
    if outlook.index.locked:
        return "locked"
    if outlook.index.closed:
        return "closed"
    if outlook.protected:
        return "kept"
    if managed is None:
        return "by apply"
    if managed.policy is None:
        return "unmanaged"
    return "failed" if managed.stuck and managed.trouble else "retrying" if managed.trouble else "managed"


def _faults(outlook: Outlook, plan: RetentionPlan) -> Iterator[str]:
    index = outlook.index
    if index.blocked:
        yield (
            "its metadata is blocked (index.blocks.metadata), so that it can neither be deleted nor managed: take the"
            f' block off with PUT /{index.name}/_settings {{"index.blocks.metadata": false}}'
        )
    if outlook.protected:
        if index.closed:
            yield "; ".join(outlook.kept)
        elif plan.lock and not index.locked:
            yield f"it must stay ({'; '.join(outlook.kept)}) and is not locked: {_APPLY}"
        if index.managed is not None and index.managed.policy is not None:
            yield f"it must stay and Index State Management has it: {_APPLY}"
    elif index.locked and "unlock" not in outlook.actions:
        yield "it is locked (index.blocks.read_only) and no hold says why: it will never leave"
    if index.changed_since_sealed:
        yield f"it was sealed with {index.sealed_events:,} events and holds {index.events:,}"
    yield from _late(outlook, plan)
    if plan.ism and not outlook.protected and not index.locked:
        yield from _unmanaged(outlook, plan)


def _late(outlook: Outlook, plan: RetentionPlan) -> Iterator[str]:
    index = outlook.index
    if index.rolled_over is None:
        due = index.created + dt.timedelta(days=plan.rollover_days)
        if index.events and plan.at > due + GRACE:
            yield f"it should have been rolled over on {due:%Y-%m-%d}: {_cause(plan)}"
        return
    if index.sealed_events is None and not index.closed and plan.at > index.rolled_over + GRACE:
        yield f"it is not sealed, so that its leaving would look like a deletion: {_APPLY}"
    if outlook.leaves and not outlook.protected and not index.locked and plan.at > outlook.leaves + GRACE:
        yield f"it should have left on {outlook.leaves:%Y-%m-%d}: {_cause(plan)}"
    if "unlock" in outlook.actions:
        yield f"it is locked by a hold that was released: {_APPLY}"


def _cause(plan: RetentionPlan) -> str:
    return "Index State Management does not get on" if plan.ism else f"{_APPLY}, daily from cron"


def _unmanaged(outlook: Outlook, plan: RetentionPlan) -> Iterator[str]:
    managed = outlook.index.managed
    wanted = blueprint(plan.stream, retention_days=plan.days)
    if managed is None or managed.policy is None:
        yield f"it follows no policy and will never leave: {_APPLY}"
    elif managed.policy != wanted.policy_name:
        yield f"it follows another policy, {managed.policy!r}"
    elif managed.trouble:
        then = "then POST _plugins/_ism/retry/<index>" if managed.stuck else "it is tried again"
        yield f"Index State Management failed ({managed.trouble}): mend the cause, {then}"
    elif managed.copy is not None and not same_policy(managed.copy, wanted.policy["policy"]):
        yield f"it still follows an older version of the policy: {_APPLY}"
    elif managed.is_leaving and outlook.leaves is not None and plan.at < outlook.leaves:
        yield f"Index State Management is deleting it, though it may leave only on {outlook.leaves:%Y-%m-%d}: {_APPLY}"
