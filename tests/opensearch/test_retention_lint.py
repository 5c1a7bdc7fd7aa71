"""The policy, and every way in which one is known to fail silently."""

from __future__ import annotations

import copy

import pytest

from audit_logging.opensearch.retention_lint import lint_policy
from audit_logging.opensearch.templates import blueprint


@pytest.fixture
def policy():
    return copy.deepcopy(blueprint("audit-shop").policy["policy"])


@pytest.mark.parametrize("days", [1, 30, 90, 3650])
def test_our_own_is_sound(days):
    assert lint_policy(blueprint("audit-shop", retention_days=days).policy["policy"], "audit-shop") == []


def roll(policy):
    return policy["states"][0]["actions"][0]["rollover"]


def go_on(policy):
    return policy["states"][0]["transitions"][0]


def delete(policy):
    return policy["states"][1]


FAULTS = {
    "quiet": (lambda p: roll(p).pop("min_index_age"), "never happens on a quiet stream"),
    "unknown rollover field": (lambda p: roll(p).update(max_age="1d"), "a rollover has no 'max_age'"),
    "two conditions": (
        lambda p: go_on(p)["conditions"].update(min_size="1gb"),
        "exactly one condition, and this has 2",
    ),
    "no condition": (lambda p: go_on(p).pop("conditions"), "exactly one condition, and this has 0"),
    "unknown condition": (lambda p: go_on(p).update(conditions={"max_age": "1d"}), "no condition 'max_age'"),
    "age since creation": (lambda p: go_on(p).update(conditions={"min_index_age": "90d"}), "deleted too early"),
    "state age": (lambda p: go_on(p).update(conditions={"min_state_age": "90d"}), "only min_rollover_age makes sure"),
    "rollover age without a rollover": (lambda p: p["states"][0].update(actions=[]), "fails for good on an index"),
    "unknown state": (lambda p: go_on(p).update(state_name="gone"), "goes on to 'gone'"),
    "unknown default": (lambda p: p.update(default_state="gone"), "the default state 'gone'"),
    "after a delete": (lambda p: delete(p)["actions"].append({"read_only": {}}), "nothing can follow a delete"),
    "out of a delete": (lambda p: delete(p).update(transitions=[go_on(p)]), "nothing can follow a delete"),
    "no retry": (lambda p: delete(p)["actions"][0].pop("retry"), "a delete without retries"),
    "backing indices": (
        lambda p: p["ism_template"][0].update(index_patterns=[".ds-audit-shop-*"]),
        "never those of backing indices",
    ),
    "no template": (lambda p: p.pop("ism_template"), "does not name the stream 'audit-shop'"),
    "priority": (lambda p: p["ism_template"][0].update(priority=1), "loses against policies that others write"),
    "written without the API": (
        lambda p: p["ism_template"][0].update(last_updated_time=None),
        "so it reaches no index",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_trap_is_named(policy, fault):
    spoil, sentence = FAULTS[fault]
    spoil(policy)
    assert any(sentence in found for found in lint_policy(policy, "audit-shop")), lint_policy(policy, "audit-shop")


def test_what_the_server_adds_is_no_fault(policy):
    roll(policy)["copy_alias"] = False
    policy["ism_template"][0]["last_updated_time"] = 1_767_225_600_000
    assert lint_policy(policy, "audit-shop") == []
