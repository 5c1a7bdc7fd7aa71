"""What can be wrong with an ISM policy that OpenSearch accepts all the same, or refuses without saying why.

Each rule stands for a way in which retention was seen, or reported, to fail silently: to delete too early, or never.

Source: OpenSearch documentation, "Index State Management, Policies" and "Managed indexes".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

CONDITIONS: Final = frozenset(
    {"min_index_age", "min_doc_count", "min_size", "cron", "min_rollover_age", "no_alias", "min_state_age"}
)
ROLLOVER: Final = frozenset(
    {
        "min_size",
        "min_doc_count",
        "min_index_age",
        "min_primary_shard_size",
        "copy_alias",
        "prevent_empty_rollover",
    }
)
_NOT_ACTIONS: Final = frozenset({"retry", "timeout"})
_HAND_WRITTEN_PRIORITY: Final = 100

State = dict[str, Any]


def lint_policy(policy: dict[str, Any], stream: str | None = None) -> list[str]:
    """Return what is wrong with *policy* for an audit stream, one sentence each; nothing when it is sound.

    Args:
        policy: What stands under ``policy`` in the document.
        stream: The data stream that it must reach; None: this is not looked at.

    Example:
        >>> by_size = {"name": "a", "actions": [{"rollover": {"min_size": "1gb"}}]}
        >>> lint_policy({"default_state": "a", "states": [by_size]})
        ["state 'a': a rollover without min_index_age never happens on a quiet stream, and nothing expires"]
    """
    states = {state["name"]: state for state in policy.get("states", [])}
    found = [f"state {state['name']!r}: {fault}" for state in states.values() for fault in _state_faults(state, states)]
    if policy.get("default_state") not in states:
        found.append(f"the default state {policy.get('default_state')!r} is none of its states")
    if stream is not None:
        found += _template_faults(policy.get("ism_template") or [], stream)
    return found


def _state_faults(state: State, states: dict[str, State]) -> Iterator[str]:
    kinds = [kind for action in state.get("actions", []) for kind in action if kind not in _NOT_ACTIONS]
    transitions = state.get("transitions", [])
    if "delete" in kinds[:-1] or ("delete" in kinds and transitions):
        yield "nothing can follow a delete"
    for action in state.get("actions", []):
        if "rollover" in action:
            yield from _rollover_faults(action["rollover"])
        if "delete" in action and not action.get("retry", {}).get("count"):
            yield "a delete without retries stops for good at the first snapshot or red shard"
    for transition in transitions:
        yield from _transition_faults(transition, states, rolls_over="rollover" in kinds)


def _rollover_faults(rollover: dict[str, Any]) -> Iterator[str]:
    if "min_index_age" not in rollover:
        yield "a rollover without min_index_age never happens on a quiet stream, and nothing expires"
    for unknown in sorted(rollover.keys() - ROLLOVER):
        yield f"a rollover has no {unknown!r}, and the policy is refused"


def _transition_faults(transition: dict[str, Any], states: dict[str, State], *, rolls_over: bool) -> Iterator[str]:
    target, conditions = transition.get("state_name"), transition.get("conditions") or {}
    if target not in states:
        yield f"it goes on to {target!r}, which is none of the states"
        return
    if len(conditions) != 1:
        yield f"a transition has exactly one condition, and this has {len(conditions)}"
    for unknown in sorted(conditions.keys() - CONDITIONS):
        yield f"a transition has no condition {unknown!r}, and the policy is refused"
    if "min_rollover_age" in conditions and not rolls_over:
        yield "min_rollover_age fails for good on an index that this state did not roll over"
    if not any("delete" in action for action in states[target].get("actions", [])):
        return
    if "min_index_age" in conditions:
        yield "min_index_age counts from the creation, so the last events of an index are deleted too early"
    elif "min_rollover_age" not in conditions:
        yield "only min_rollover_age makes sure that every event is kept long enough before a delete"


def _template_faults(templates: list[dict[str, Any]], stream: str) -> Iterator[str]:
    patterns = [pattern for template in templates for pattern in template.get("index_patterns", [])]
    if any(pattern.startswith(".ds-") for pattern in patterns):
        yield "ism_template matches the names of streams, never those of backing indices (.ds-…)"
    if stream not in patterns:
        yield f"ism_template does not name the stream {stream!r}, so new backing indices follow no policy"
    if any(template.get("priority", 0) <= _HAND_WRITTEN_PRIORITY for template in templates):
        yield f"a priority of at most {_HAND_WRITTEN_PRIORITY} loses against policies that others write"
    if any("last_updated_time" in template and not template["last_updated_time"] for template in templates):
        yield "ism_template has no last_updated_time, so it reaches no index: the policy must be put by its API"
