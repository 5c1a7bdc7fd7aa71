"""The answers of Index State Management to the calls of the set-up, in the shapes its REST handlers give them.

It keeps policies and attachments as the plugin does as far as the set-up can see: sequence numbers and conflicts, fields
that the server adds, a copy of the policy per managed index, partial failures. It runs no policy.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from audit_logging.opensearch.retention_lint import lint_policy

if TYPE_CHECKING:
    from .front import Answer, Front

BASE = "/_plugins/_ism"


class RecordedIsm:
    """Answers ``/_plugins/_ism`` on *front*."""

    def __init__(self, front: Front) -> None:
        self.policies: dict[str, dict[str, Any]] = {}
        self.managed: dict[str, dict[str, Any]] = {}
        self.fail_adding: set[str] = set()
        self.gone: set[str] = set()
        """Indices that do not exist any more: a request that names one does nothing, and explain leaves it out."""
        self.lag = 0
        """How many questions explain answers as before a change: it is a search, and behind by up to 1.5 seconds."""
        self._before: list[dict[str, dict[str, Any]]] = []
        self._sequence = 0
        front.answer(BASE, self._answer)

    def manage(self, index: str, policy_id: str, **more: Any) -> None:
        """Let *index* follow a policy, with the copy that it now gets, in its first state."""
        found = self.policies.get(policy_id)
        state = {"name": found["policy"]["default_state"]} if found else None
        told = {"policy_id": policy_id, "policy": found and copy.deepcopy(found["policy"]), "state": state}
        self.managed[index] = {**told, **more}

    def attach_new(self, index: str, stream: str) -> None:
        """Do what the plugin does with a backing index that a rollover made: the highest priority wins."""
        matching = [
            (template["priority"], name)
            for name, found in self.policies.items()
            for template in found["policy"]["ism_template"]
            if stream in template["index_patterns"]
        ]
        if matching:
            self.manage(index, max(matching)[1])

    def _answer(self, method: str, path: str, query: dict[str, Any], body: Any) -> Answer:
        action, _, name = path.removeprefix(f"{BASE}/").partition("/")
        if action == "policies":
            return self._policies(method, name, query, body)
        names = name.split(",")
        if action == "explain":
            return self._explain(names)
        if self.gone & {*names}:
            return 404, _error("index_not_found_exception", f"no such index [{min(self.gone & {*names})}]", 404)
        self._before = [copy.deepcopy(self.managed)] * self.lag
        if action == "add":
            return self._add(names, body["policy_id"])
        if action == "remove":
            failed = [
                _failed(name, "This index does not have a policy to remove")
                for name in names
                if name not in self.managed
            ]
            for index in names:
                self.managed.pop(index, None)
            return _status(len(names) - len(failed), failed)
        raise AssertionError(f"{path}: a changed policy leaves what an index has begun as it is")

    def _policies(self, method: str, name: str, query: dict[str, Any], body: Any) -> Answer:
        name = name.partition("?")[0]
        if method == "GET" and not name:
            return 200, {"policies": list(self.policies.values()), "total_policies": len(self.policies)}
        present = self.policies.get(name)
        if method == "GET":
            return (200, present) if present else (404, _error("status_exception", "Policy not found", 404))
        lint(body)
        if present and (query.get("if_seq_no"), query.get("if_primary_term")) != (str(present["_seq_no"]), "1"):
            reason = f"[{name}]: version conflict, document already exists (current version [1])"
            return 409, _error("version_conflict_engine_exception", reason, 409)
        self._sequence += 1
        stored = {
            "_id": name,
            "_seq_no": self._sequence,
            "_primary_term": 1,
            "policy": _as_stored(name, body["policy"]),
        }
        self.policies[name] = stored
        return (200 if present else 201), stored

    def _explain(self, names: list[str]) -> Answer:
        managed = self._before.pop() if self._before else self.managed
        answer: dict[str, Any] = {"total_managed_indices": len(managed)}
        for name in names:
            if name in self.gone:
                continue
            told = dict(managed.get(name, {}))
            policy_id = told.get("policy_id")
            answer[name] = {"index.plugins.index_state_management.policy_id": policy_id, "enabled": None, **told}
            if policy_id:
                answer[name].setdefault("index", name)
                answer[name]["enabled"] = told.get("enabled", True)
        return 200, answer

    def _add(self, names: list[str], policy_id: str) -> Answer:
        already = "This index already has a policy, use the update policy API"
        failed = [_failed(name, already) for name in names if name in self.managed]
        failed += [_failed(name, "Failed to add policy") for name in names if name in self.fail_adding]
        for name in {*names} - {item["index_name"] for item in failed}:
            self.manage(name, policy_id)
        return _status(len(names) - len(failed), failed)


def _failed(name: str, reason: str) -> dict[str, str]:
    return {"index_name": name, "index_uuid": "u", "reason": reason}


def _status(updated: int, failed: list[dict[str, str]]) -> Answer:
    return 200, {"updated_indices": updated, "failures": bool(failed), "failed_indices": failed}


def _error(kind: str, reason: str, status: int) -> dict[str, Any]:
    return {
        "error": {"root_cause": [{"type": kind, "reason": reason}], "type": kind, "reason": reason},
        "status": status,
    }


def _as_stored(name: str, policy: dict[str, Any]) -> dict[str, Any]:
    stored = copy.deepcopy(policy)
    for state in stored["states"]:
        for action in state["actions"]:
            if "rollover" in action:
                action["rollover"]["copy_alias"] = False
    for template in stored["ism_template"]:
        template["last_updated_time"] = 1_767_225_600_000
    stored.setdefault("error_notification", None)
    return {"policy_id": name, "last_updated_time": 1_767_225_600_000, "schema_version": 21, **stored}


FIELDS = {"description", "default_state", "states", "ism_template", "error_notification"}


def lint(body: dict[str, Any]) -> None:
    """Assert what Index State Management demands of a policy, and what a trail demands of it besides."""
    assert set(body) == {"policy"}
    policy = body["policy"]
    assert set(policy) <= FIELDS, "unknown fields are refused"
    for state in policy["states"]:
        assert set(state) == {"name", "actions", "transitions"}
    for template in policy["ism_template"]:
        assert set(template) == {"index_patterns", "priority"}
        assert not any("*" in pattern for pattern in template["index_patterns"]), "it would reach other streams"
    faults = lint_policy(policy)
    assert not faults, "; ".join(faults)
