"""Index State Management: the policy that lets events expire, and which backing indices follow it.

Two of its habits shape this module. A policy's ``ism_template`` reaches only backing indices created after it, so the
older ones are attached by hand; and a managed index keeps its own copy of the policy, so a changed policy must be
handed to each of them.

Source: OpenSearch documentation, "Index State Management", sections "ISM API" and "Managed indexes".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from audit_logging.errors import NotFoundError
from audit_logging.opensearch.capabilities import ISM_POLICIES
from audit_logging.opensearch.steps import Request, Step, step_for
from audit_logging.opensearch.templates import MANAGER, matches, policy_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from audit_logging.opensearch.client import Client
    from audit_logging.opensearch.templates import Blueprint

NAMES_PER_REQUEST = 25
"""Backing indices named in one URL: a stream's name may have 200 characters, a request line 4,096 bytes."""

MOST_POLICIES = 1000

_VERSION = re.compile(r"Version (\d+) of audit-logging\b")
_SERVERS_OWN = frozenset({"policy_id", "last_updated_time", "schema_version", "user"})


@dataclass(frozen=True)
class ManagedIndex:
    """How one backing index is managed.

    Attributes:
        index: Its name.
        policy: Name of the policy it follows, or None.
        copy: Its own copy of that policy, comparable; None while it has none.
        state: The state of the policy that it is in, or is going to; None before the first.
        stuck: It failed for good, or is done, and so no longer looks at its policy.
        trouble: What Index State Management says of the last failure; empty when there is none.
    """

    index: str
    policy: str | None
    copy: dict[str, Any] | None
    state: str | None
    stuck: bool
    trouble: str

    @property
    def is_leaving(self) -> bool:
        """Whether it has left the policy's first state, so that it will be deleted."""
        return self.copy is not None and self.state not in {None, self.copy.get("default_state")}


def read_policy(client: Client, name: str) -> dict[str, Any] | None:
    """Return the policy with its sequence number, or None."""
    try:
        found: dict[str, Any] = client.request("GET", f"{ISM_POLICIES}/{name}")
    except NotFoundError:
        return None
    return found


def kept_days(found: dict[str, Any] | None) -> int | None:
    """Return the retention period of a policy that the set-up made, in days; None where it cannot be told."""
    try:
        text = found["policy"]["states"][0]["transitions"][0]["conditions"]["min_rollover_age"] if found else ""
    except (KeyError, IndexError, TypeError):
        return None
    match = re.fullmatch(r"(\d+)d", str(text))
    return int(match[1]) if match else None


def read_rivals(client: Client, stream: str) -> dict[str, int]:
    """Return the policies of others that a new backing index of *stream* could follow, with their priorities."""
    answer = client.request("GET", ISM_POLICIES, params={"size": MOST_POLICIES})
    return {
        found["_id"]: int(template.get("priority") or 0)
        for found in answer.get("policies", [])
        for template in found["policy"].get("ism_template") or []
        if found["_id"] != policy_name(stream) and any(matches(each, stream) for each in template["index_patterns"])
    }


def policy_step(plan: Blueprint, found: dict[str, Any] | None, priority: int = 0) -> Step:
    """Decide what to do about the policy.

    Args:
        plan: What the stream needs.
        found: What :func:`read_policy` returned.
        priority: What it needs to win against its rivals, or less; one that it has or the template says stays.

    Raises:
        OpenSearchError: A policy of that name is newer, or was not made by this library.
    """
    wanted = _at_least(plan.policy, priority)
    params: dict[str, int] | None = None
    if found is not None:
        # The sequence number makes this a replacement of exactly what was compared; without it the answer is 409.
        params = {"if_seq_no": found["_seq_no"], "if_primary_term": found["_primary_term"]}
        wanted = _with_their_choices(wanted, found["policy"])
    return step_for(
        "ISM policy",
        plan.policy_name,
        wanted=_versioned(wanted["policy"]),
        present=None if found is None else _versioned(found["policy"]),
        put=Request("PUT", f"{ISM_POLICIES}/{plan.policy_name}", wanted, params),
    )


def attachment_step(
    plan: Blueprint,
    explained: Iterable[ManagedIndex],
    *,
    released: Sequence[str] = (),
    due: Collection[str] | None = None,
) -> Step:
    """Decide which existing backing indices must be given the policy, or its new version.

    An index with an older version is taken out and put in again, whatever state it is in: what a state has begun goes
    on under a changed policy, and would delete an index that a longer period keeps.

    Args:
        plan: What the stream needs.
        explained: All that are to follow the policy.
        released: Those among them that were taken out for a hold that has just ended: explain may not know yet.
        due: Those whose period is over; the others are taken out of a state that deletes. None: that is not known.
    """
    wanted = _followed(plan.policy["policy"])
    bare: list[str] = []
    stale: list[str] = []
    others: set[str] = set()
    for managed in explained:
        if managed.policy is None or managed.index in released:
            bare.append(managed.index)
        elif managed.policy != plan.policy_name:
            others.add(managed.policy)
        elif managed.copy is not None and (
            _followed(managed.copy) != wanted or (due is not None and managed.index not in due and managed.is_leaving)
        ):
            stale.append(managed.index)
    requests = (*_posts("remove", stale), *_posts("add", [*bare, *stale], plan.policy_name))
    facts = [f"{len(bare)} attached"] if bare else []
    facts += [f"{len(stale)} moved to the changed policy"] if stale else []
    facts += [f"some follow another policy ({', '.join(sorted(others))}) and were left to it"] if others else []
    return Step("backing indices", plan.policy_name, "updated" if requests else "unchanged", "; ".join(facts), requests)


def remove_requests(indices: Sequence[str]) -> Iterator[Request]:
    """Yield the requests that take *indices* out of Index State Management."""
    return _posts("remove", indices)


def follows(client: Client, plan: Blueprint, indices: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yield each of *indices* and whether it follows the policy as it is now (or somebody else's)."""
    for managed in explain(client, indices):
        if managed.policy == plan.policy_name:
            yield managed.index, managed.copy is not None and same_policy(managed.copy, plan.policy["policy"])
        else:
            yield managed.index, managed.policy is not None


def explain(client: Client, indices: Sequence[str]) -> Iterator[ManagedIndex]:
    """Yield how each of *indices* is managed. All of them must exist: an unknown name fails the whole request."""
    for names in chunks_of_names(indices):
        # By name: the pattern .ds-<stream>-* would also match the indices of a stream called <stream>-more.
        answer = client.request("GET", f"/_plugins/_ism/explain/{','.join(names)}", params={"show_policy": True})
        for name in names:
            yield _managed(name, answer.get(name) or {})


def comparable(policy: dict[str, Any]) -> dict[str, Any]:
    """Return a policy without what the server adds to it."""
    return {name: _plain(value) for name, value in policy.items() if name not in _SERVERS_OWN and value is not None}


def same_policy(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two policies let the same become of an index."""
    return _followed(one) == _followed(other)


def _followed(policy: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a policy that decides what becomes of an index."""
    return {name: value for name, value in comparable(policy).items() if name in {"default_state", "states"}}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _plain(inner)
            for name, inner in value.items()
            if name != "last_updated_time" and not (name == "copy_alias" and inner is False)
        }
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _versioned(policy: dict[str, Any]) -> dict[str, Any]:
    """Give a policy the shape of a template: it allows no fields of ours, so its description carries the version."""
    match = _VERSION.match(str(policy.get("description", "")))
    meta = {"managed_by": MANAGER} if match else {}
    return {"version": int(match[1]) if match else 0, "_meta": meta, "policy": comparable(policy)}


def _at_least(wanted: dict[str, Any], priority: int) -> dict[str, Any]:
    """Return the policy with that priority or its own: only the highest one reaches a new backing index."""
    (template,) = wanted["policy"]["ism_template"]
    template = {**template, "priority": max(template["priority"], priority)}
    return {"policy": {**wanted["policy"], "ism_template": [template]}}


def _with_their_choices(wanted: dict[str, Any], present: dict[str, Any]) -> dict[str, Any]:
    """Keep a higher priority, and the channel that an operator chose to be told of failures."""
    channel = present.get("error_notification")
    (template,) = wanted["policy"]["ism_template"]
    theirs = [
        int(each.get("priority") or 0)
        for each in present.get("ism_template") or []
        if each.get("index_patterns") == template["index_patterns"]
    ]
    chosen = _at_least(wanted, max(theirs, default=0))
    return chosen if channel is None else {"policy": {**chosen["policy"], "error_notification": channel}}


def _managed(index: str, told: dict[str, Any]) -> ManagedIndex:
    policy = told.get("index.plugins.index_state_management.policy_id")
    copy = told.get("policy")
    action, retry, info = (told.get(name) or {} for name in ("action", "retry_info", "info"))
    failed = bool(action.get("failed") or retry.get("failed"))
    failing = failed or (told.get("step") or {}).get("step_status") == "failed"
    trouble = ": ".join(str(info[part]) for part in ("message", "cause") if info.get(part)) if failing else ""
    return ManagedIndex(
        index=index,
        policy=policy,
        copy=None if copy is None else comparable(copy),
        state=told.get("transition_to") or (told.get("state") or {}).get("name"),
        stuck=failed or bool(told.get("policy_completed")) or told.get("enabled") is False,
        trouble=trouble or ("it failed" if failing else ""),
    )


class _Managing(Request):
    """A request for several indices. One that is gone keeps the server from doing anything for the others."""

    def send(self, client: Client) -> None:
        try:
            super().send(client)
        except NotFoundError as error:
            if error.error_type != "index_not_found_exception":  # such as a policy that is gone
                raise
            place, _, names = self.path.rpartition("/")
            if "," not in names:
                return  # it left meanwhile, so there is nothing to manage
            for name in names.split(","):
                replace(self, path=f"{place}/{name}").send(client)

    def undone(self, client: Client, answer: dict[str, Any]) -> list[str]:
        """Leave out what is as it should be, though the server did nothing for it. Seen on 3.4.0."""
        failed = {item["index_name"]: str(item["reason"]) for item in answer.get("failed_indices") or ()}
        managed = [name for name, reason in failed.items() if "already has a policy" in reason]
        wanted = (self.body or {}).get("policy_id")
        theirs = {each.index: each.policy for each in explain(client, managed) if each.policy not in {None, wanted}}
        return [
            f"{name}: it follows another policy, {theirs[name]}" if name in theirs else f"{name}: {reason}"
            for name, reason in failed.items()
            if name in theirs or not (name in managed or "does not have a policy to remove" in reason)
        ]


def _posts(action: str, indices: Sequence[str], policy: str | None = None) -> Iterator[Request]:
    body = None if policy is None else {"policy_id": policy}
    for names in chunks_of_names(indices):
        yield _Managing("POST", f"/_plugins/_ism/{action}/{','.join(names)}", body)


def chunks_of_names(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield *names* in portions that fit into one URL."""
    size = max(1, min(NAMES_PER_REQUEST, 3000 // max((len(name) + 1 for name in names), default=1)))
    for start in range(0, len(names), size):
        yield names[start : start + size]
