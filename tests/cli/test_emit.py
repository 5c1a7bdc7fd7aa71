"""`audit-logging emit`."""

from __future__ import annotations

import json

import click
import pytest

from audit_logging.cli.emit import merge, parse_facts
from tests.faults.proxy import FaultProxy
from tests.opensearch.front import Front

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of the test's own, and no OpenSearch."""
    monkeypatch.setenv("AUDIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AUDIT_OPENSEARCH_URL", raising=False)
    return tmp_path / "home"


@pytest.fixture
def stored(ready, client):
    """Return the stored document with an id."""

    def read(event_id):
        client.request("POST", f"/{ready.stream}/_refresh")
        query = {"query": {"term": {"event.id": event_id}}}
        (hit,) = client.request("POST", f"/{ready.stream}/_search", body=query)["hits"]["hits"]
        return hit["_source"]

    return read


class TestFacts:
    def test_pairs_are_text_or_json_and_dots_lead_into_objects(self):
        pairs = (
            "user_id=42",
            "tags:=[1]",
            "metadata.a.b=x=y",
            "metadata.c:=null",
            "labels.team=red",
            "reason=",
            "n=:=",
        )
        assert merge({}, pairs) == {
            "user_id": "42",
            "tags": [1],
            "metadata": {"a": {"b": "x=y"}, "c": None},
            "labels": {"team": "red"},
            "reason": "",
            "n": ":=",
        }

    def test_pairs_win_over_facts(self):
        facts = parse_facts('{"user_id": "u-1", "metadata": {"a": 1}}')
        assert merge(facts, ("user_id=u-2", "metadata.b:=2")) == {"user_id": "u-2", "metadata": {"a": 1, "b": 2}}

    @pytest.mark.parametrize(
        ("pairs", "why"),
        [
            (("nonsense",), "no pair"),
            (("=value",), "no pair"),
            (("a=1", "a=2"), "given twice"),
            (("a=1", "a.b=2"), "holds a value"),
            (("a.b=1", "a=2"), "would replace"),
            (("a:=nonsense",), "not JSON"),
        ],
    )
    def test_what_is_wrong_is_said(self, pairs, why):
        with pytest.raises(click.BadParameter, match=why):
            merge({}, pairs)

    @pytest.mark.parametrize("text", ["[1]", "{", "7", "[" * 200_000])
    def test_facts_are_one_json_object(self, text):
        with pytest.raises(click.BadParameter):
            parse_facts(text)


@pytest.mark.server
class TestWithServer:
    @pytest.mark.parametrize("durability", [(), ("--durability", "disk"), ("--durability", "indexed")])
    def test_prints_the_id_of_an_event_that_is_there(self, audit_logging, stored, durability):
        facts = '{"source_ip": "203.0.113.7"}'
        ended = audit_logging("emit", "user.login", "user_id=u-42", "metadata.n:=1", "--facts", facts, *durability)
        assert (ended.code, ended.err) == (0, "")
        document = stored(ended.out.strip())
        assert document["event"]["action"] == "user.login"
        assert document["user"] == {"id": "u-42"}
        assert document["source"] == {"ip": "203.0.113.7"}
        assert document["audit"]["metadata"] == {"n": 1}

    def test_json_for_scripts(self, audit_logging, ready, stored):
        ended = audit_logging("emit", "deploy.finished", "--json")
        told = json.loads(ended.out)
        assert told == {"event_id": told["event_id"], "stream": ready.stream, "state": "indexed"}
        assert stored(told["event_id"])["event"]["action"] == "deploy.finished"

    def test_what_does_not_validate_is_recorded_and_said(self, audit_logging, stored):
        ended = audit_logging("emit", "user.login", "source_ip=nowhere")
        assert ended.code == 0
        assert stored(ended.out.strip())["audit"]["invalid"] == ["source_ip"]

    def test_what_stayed_in_the_spool_ships_with_the_next_process(self, audit_logging, stored):
        before = audit_logging("emit", "user.login", "user_id=u-1", "--url", NOBODY)
        assert before.code == 3
        assert audit_logging("emit", "user.logout", "user_id=u-1").code == 0
        assert stored(before.out.strip())["event"]["action"] == "user.login"

    def test_a_stream_that_is_not_set_up_leaves_it_in_the_spool(self, audit_logging, ready):
        ended = audit_logging("emit", "user.login", "--stream", f"{ready.stream}-other")
        assert ended.code == 3
        assert f"run `audit-logging setup --stream {ready.stream}-other`" in ended.err
        assert "safe in the spool" in ended.err

    def test_an_opensearch_that_does_not_acknowledge_is_waited_for_no_longer_than_told(self, audit_logging, ready):
        with FaultProxy(ready.opensearch_url[0]) as proxy:
            proxy.faults.extend([proxy.status(503)] * 10_000)
            ended = audit_logging("emit", "user.login", "--url", proxy.url, "--timeout", "0.3")
        assert ended.code == 3
        assert "wait in the spool" in ended.err
        assert ended.err.count("\n") == 1

    @pytest.mark.parametrize(("status", "code"), [(401, 3), (403, 0)])
    def test_a_role_that_may_only_write_is_enough(self, audit_logging, ready, status, code):
        with Front(ready.opensearch_url[0]) as front:
            front.answer("/_data_stream", (status, {"error": {"type": "security_exception", "reason": "no"}}))
            ended = audit_logging("emit", "user.login", "--url", front.url)
        assert ended.code == code
        assert ("does not accept the credentials" in ended.err) == (code == 3)


class TestWithoutServer:
    def test_an_unreachable_opensearch_leaves_it_in_the_spool_and_says_where(self, audit_logging, home):
        ended = audit_logging("emit", "user.login", "--url", NOBODY)
        assert ended.code == 3
        assert len(ended.out.strip()) == 36
        assert ended.err.startswith(f"No OpenSearch answers at {NOBODY}")
        assert f"The event is safe in the spool {home / 'spool'} and ships with the next process" in ended.err
        assert ended.err.count("\n") == 1
        assert list((home / "spool").glob("*/*.seg"))

    def test_json_says_so_as_well(self, audit_logging, home):
        told = json.loads(audit_logging("emit", "user.login", "--url", NOBODY, "--json").out)
        assert told["state"] == "spooled"
        assert told["spool_dir"] == str(home / "spool")

    def test_without_any_opensearch_it_says_how_to_name_one(self, audit_logging, home):
        ended = audit_logging("emit", "user.login")
        assert ended.code == 3
        assert ended.err.startswith("No OpenSearch is configured (--url, AUDIT_OPENSEARCH_URL).")
        assert ended.err.count("\n") == 1

    def test_a_promise_that_cannot_be_kept_is_exit_code_4(self, audit_logging, home):
        ended = audit_logging("emit", "user.login", "--url", NOBODY, "--durability", "indexed", "--timeout", "0.2")
        assert ended.code == 4
        assert "did not acknowledge event" in ended.err
        assert f"No OpenSearch answers at {NOBODY}" in ended.err

    def test_indexed_without_an_opensearch_is_wrong_use(self, audit_logging, home):
        ended = audit_logging("emit", "user.login", "--durability", "indexed")
        assert ended.code == 2
        assert "needs an opensearch_url" in ended.err

    @pytest.mark.parametrize(
        "arguments",
        [(), ("user.login", "nonsense"), ("user.login", "--facts", "[]"), ("user.login", "--durability", "x")],
    )
    def test_wrong_use_is_exit_code_2_and_nothing_is_emitted(self, audit_logging, home, arguments):
        assert audit_logging("emit", *arguments).code == 2
        assert not (home / "spool").exists()
