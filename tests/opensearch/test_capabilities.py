"""What a server tells of itself, and what follows where it does not."""

from __future__ import annotations

import pytest

from audit_logging.errors import CredentialsError, OpenSearchError
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.opensearch.capabilities import Capabilities, parse_version
from audit_logging.opensearch.client import Client
from audit_logging.settings import Settings

from .front import Front

FORBIDDEN = (403, {"error": {"type": "security_exception", "reason": "no permissions"}, "status": 403})


def about(number, **more):
    return 200, {"version": {"number": number, **more}, "tagline": "x"}


@pytest.fixture
def alone():
    """A server that answers only what a test tells it to."""
    with Front(None) as front:
        yield front


def probe(url):
    client = Client(Settings.load(opensearch_url=url))
    try:
        return Capabilities.probe(client)
    finally:
        client.close()


@pytest.mark.server
def test_a_real_server_is_known_for_what_it_is(opensearch_server, client):
    able = Capabilities.probe(client)
    assert able.distribution == "opensearch"
    assert able.version is not None
    assert ".".join(map(str, able.version)) == client.request("GET", "/")["version"]["number"].partition("-")[0]
    assert able.append_only
    assert able.point_in_time
    assert not able.serverless
    assert able.plugins is not None
    assert able.data_nodes == client.request("GET", "/_cluster/health")["number_of_data_nodes"]
    assert able.security is ("opensearch-security" in able.plugins)


def test_an_old_server_knows_no_append_only(alone):
    alone.answer("/", about("2.18.0", distribution="opensearch"))
    alone.answer("/_cat/plugins", (200, [{"component": "opensearch-security"}, {"component": "opensearch-alerting"}]))
    alone.answer("/_cluster/health", (200, {"number_of_data_nodes": 3}))
    able = probe(alone.url)
    assert able == Capabilities(
        (2, 18, 0), "opensearch", frozenset({"opensearch-security", "opensearch-alerting"}), 3, ism=False
    )
    assert (able.append_only, able.point_in_time, able.security, able.single_node) == (False, True, True, False)
    assert able.release == "OpenSearch 2.18.0"


def test_a_role_that_may_see_nothing_still_gets_an_answer(alone):
    alone.answer("/", FORBIDDEN)
    alone.answer("/_cat", FORBIDDEN)
    alone.answer("/_cluster", FORBIDDEN)
    alone.answer("/_plugins", FORBIDDEN)
    able = probe(alone.url)
    assert able == Capabilities(None, "opensearch", None, None, ism=True)
    assert (able.append_only, able.security, able.release) == (False, None, "OpenSearch")


def test_wrong_credentials_are_wrong_credentials(alone):
    alone.answer("/", (401, {"error": "Unauthorized"}))
    with pytest.raises(CredentialsError):
        probe(alone.url)


def test_something_that_is_not_opensearch_is_named_as_such(alone):
    alone.answer("/", (200, {"hello": "world"}))
    with pytest.raises(OpenSearchError, match="is not OpenSearch: check the URL"):
        probe(alone.url)


@pytest.mark.parametrize(
    ("identity", "sentence"),
    [
        (about("8.15.0", build_flavor="default"), r"Elasticsearch 8\.15\.0, not OpenSearch"),
        (about("1.3.0", distribution="opensearch"), r"OpenSearch 1\.3\.0 is too old"),
        ((404, {"error": "not found"}), "Serverless"),
    ],
)
def test_a_server_that_cannot_hold_a_trail_is_not_touched(alone, identity, sentence):
    alone.answer("/", identity)
    with AuditAdmin(opensearch_url=alone.url) as admin, pytest.raises(OpenSearchError, match=sentence):
        admin.setup()
    assert {method for method, _ in alone.seen} == {"GET"}


@pytest.mark.server
def test_a_server_too_old_for_append_only_is_set_up_without_it_and_the_report_says_so(front, settings, client, stream):
    front.answer("/", about("2.18.0", distribution="opensearch"))
    with AuditAdmin(settings=settings.model_copy(update={"opensearch_url": (front.url,)})) as admin:
        report = admin.setup()
    assert any("OpenSearch 2.18.0 does not know how; 2.19 and newer do" in note for note in report.notes)
    assert "append_only" not in client.request("GET", f"/{stream}")[f".ds-{stream}-000001"]["settings"]["index"]


def test_versions_are_read_as_releases():
    assert parse_version("3.9.0-SNAPSHOT") == (3, 9, 0)
    assert parse_version("10.0.1") == (10, 0, 1)
    assert parse_version("next") is None
