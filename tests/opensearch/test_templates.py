"""The files of index_templates, fitted to a stream."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from audit_logging.opensearch.templates import blueprint, rollover_days

from .recorded_ism import lint

FILES = Path(__file__).parents[2] / "index_templates"


def test_for_the_default_stream_the_files_are_sent_as_they_are():
    plan = blueprint()
    sent = [plan.mappings, plan.settings, plan.index_template, plan.policy]
    names = ["component-mappings", "component-settings", "index-template", "ism-policy"]
    assert sent == [json.loads((FILES / f"{name}.json").read_text()) for name in names]


def test_another_stream_shares_no_name_with_the_default_one():
    plan = blueprint("shop")
    for part in (plan.mappings, plan.settings, plan.index_template, plan.policy):
        assert "audit-events" not in json.dumps(part)
    assert plan.index_template["index_patterns"] == ["shop"]
    assert (
        plan.index_template["composed_of"]
        == [plan.mappings_name, plan.settings_name]
        == ["shop-mappings", "shop-settings"]
    )
    assert plan.policy["policy"]["ism_template"][0]["index_patterns"] == ["shop"]


def test_a_blueprint_is_the_callers_own():
    blueprint().mappings["template"]["mappings"]["properties"].clear()
    assert blueprint().mappings["template"]["mappings"]["properties"]


def test_a_stream_that_may_be_changed_lacks_that_setting_alone():
    closed, open_ = (blueprint(append_only=value).settings["template"]["settings"]["index"] for value in (True, False))
    assert closed.pop("append_only") == {"enabled": "true"}
    assert closed == open_


@pytest.mark.parametrize("days", [1, 7, 30, 90, 365, 3650])
def test_every_policy_is_one_that_index_state_management_takes_and_keeps_every_event_long_enough(days):
    policy = blueprint("shop", retention_days=days).policy
    lint(policy)
    collecting, expired = policy["policy"]["states"]
    assert collecting["transitions"] == [{"state_name": "expired", "conditions": {"min_rollover_age": f"{days}d"}}]
    assert collecting["actions"][0]["rollover"]["min_index_age"] == f"{rollover_days(days)}d"
    assert "delete" in expired["actions"][0]


def test_a_backing_index_is_never_older_than_the_retention_when_it_is_rolled_over():
    assert all(1 <= rollover_days(days) <= days for days in range(1, 4000))


def test_the_mapping_takes_no_field_that_is_not_in_it():
    def objects(node):
        assert node.get("dynamic", False) is False
        for inner in node.get("properties", {}).values():
            objects(inner)

    mapping = blueprint().mappings["template"]["mappings"]
    assert mapping["dynamic"] is False
    objects(mapping)
