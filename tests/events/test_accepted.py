"""Whatever an application emits, a real server takes it, and the mapping does not grow by it."""

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit_logging.events.catalogue import Catalogue
from audit_logging.events.document import DocumentBuilder
from audit_logging.events.values import PlainValues
from audit_logging.integrity.seal import Chain, new_writer_id
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.settings import Settings
from audit_logging.shipping.batch import encode_batch
from audit_logging.spool.segment import Record, Records
from tests import strategies
from tests.events.test_document import builder

pytestmark = pytest.mark.server


@pytest.fixture
def create(client, settings):
    """Return a function that creates documents in a fresh stream and returns the items' answers."""
    AuditAdmin(settings=settings).setup()

    def create(documents):
        chain = Chain(new_writer_id())
        records = []
        for document in documents:
            sealed = chain.seal(document.canonical, document.splice)
            chain.advance(sealed)
            records.append(Record(sealed.sequence, sealed.payload))
        answer = client.request(
            "POST", f"/{settings.stream}/_bulk", body=encode_batch(Records.of(records), chain.writer)
        )
        return [item["create"] for item in answer["items"]]

    return create


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(events=st.lists(st.tuples(strategies.event_types, strategies.facts), min_size=5, max_size=15))
def test_any_facts_are_accepted(create, events):
    """Every document of every example: 201."""
    made = builder()
    refused = [item for item in create([made.build(*event) for event in events]) if item["status"] != 201]
    assert refused == []


AWKWARD = {
    "metadata at the very limit": {"metadata": {"k" * 512: {"k" * 512: "x" * 70_000}}},
    "keys that look like paths": {
        "metadata": {"": 1, ".": 2, "a.": 3, ".a": 4, "a..b": 5, "a": {"b": 1}, "a.b": 2, "*": 1}
    },
    "deep": {"metadata": strategies._deep({"a": 1}, 300)},
    "seventy thousand keys": {"metadata": {f"k{number}": number for number in range(70_000)}},
    "two hundred kilobytes everywhere": dict.fromkeys(strategies.COMMON, "é" * 100000),
    "changes of any shape": {"changes": {"a": {"before": {"x": [1, {"y": None}]}, "after": "z" * 200_000}, "b": None}},
    "nulls": {"metadata": {"a": None, "b": [None, {"c": None}]}, "labels": {"a": ""}},
    "long lists": {"tags": [f"t{number}" for number in range(50_000)], "user_roles": ["r" * 32_700] * 20},
    "control characters": {"user_id": "\0\x1b[31m\u202e", "message": "\u2028\r\n"},
    "numbers as text": {"metadata": {"nan": float("nan"), "huge": 10**400, "float": 1e300}},
}


@pytest.mark.parametrize("facts", AWKWARD.values(), ids=AWKWARD)
def test_the_awkward_kinds_are_accepted(create, facts):
    """One by one, the kinds that are known to have broken others."""
    (item,) = create([builder().build("user.login", facts)])
    assert item["status"] == 201, item


def test_the_mapping_does_not_grow(create, client, settings):
    """Nothing that an application sends adds a field."""

    def mapping():
        (one,) = client.request("GET", f"/{settings.stream}/_mapping").values()
        return one

    before = mapping()
    create([builder().build("a.b", {f"field{number}": {"x": number} for number in range(200)})])
    assert mapping() == before


def test_stored_documents_hash_to_their_seal(create, client, settings):
    """What comes back from the server is what was sealed."""
    from audit_logging.integrity.seal import canonical_form, digest_of

    create(
        [DocumentBuilder(Settings.load(), Catalogue(), PlainValues()).build("a.b", facts) for facts in AWKWARD.values()]
    )
    client.request("POST", f"/{settings.stream}/_refresh")
    found = client.request("POST", f"/{settings.stream}/_search", body={"size": 100})["hits"]["hits"]
    assert len(found) == len(AWKWARD)
    for hit in found:
        source = orjson.loads(orjson.dumps(hit["_source"]))
        seal = source["audit"]["integrity"]
        assert digest_of(seal["previous"], seal["writer"], seal["sequence"], canonical_form(source)) == seal["hash"]
