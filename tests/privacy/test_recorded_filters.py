"""What somebody looked for is protected in the record of the search like the fields that it was looked for in."""

import orjson
import pytest

from audit_logging.capture.configuration import configure, current_trail
from audit_logging.integrations.admin import AuditAdmin
from audit_logging.integrations.erasure import erase
from audit_logging.privacy.protection import ERASED
from audit_logging.query.reader import AuditReader
from audit_logging.settings import Settings

PERSON = "alice@example.com"
NAME = "Alice Liddell"
OTHERS = ["+44 20 7946 0000", "s-4711", "Liddell"]

pytestmark = pytest.mark.server


def configured(settings):
    configure(replace=True, **{name: getattr(settings, name) for name in settings.model_fields_set})
    return current_trail()


@pytest.fixture
def protected(settings):
    settings = Settings.load(
        **{
            **settings.model_dump(exclude_unset=True),
            "audit_searches": True,
            "audit_exports": True,
            "audit_verifications": True,
            "erasable_fields": "user_id,user_name,target_user_id,phone",
            "pseudonym_fields": "session_id",
            "console": False,
        }
    )
    with AuditAdmin(settings=settings) as admin:
        admin.setup()
    trail = configured(settings)
    trail.emit("user.login", {"user_id": PERSON, "user_name": NAME, "phone": OTHERS[0], "session_id": OTHERS[1]})
    assert trail.flush(20)
    return settings


def conditions():
    return [
        {"user_id": PERSON},
        {"user": [PERSON, NAME]},
        {"not_user_id": PERSON},
        {"target_user_id": PERSON},
        {"session_id": OTHERS[1]},
        {"metadata": {"phone": OTHERS[0]}},
        {"text": OTHERS[2]},
    ]


def everything_stored(client, settings):
    assert current_trail().flush(20)
    client.request("POST", f"/{settings.stream}/_refresh")
    return client.request("POST", f"/{settings.stream}/_search", body={"size": 1000})["hits"]["hits"]


def test_no_question_keeps_a_value_that_was_erased(protected, client, tmp_path):
    with AuditReader(settings=protected) as reader:
        for number, where in enumerate(conditions()):
            reader.search(**where)
            list(reader.scan(**where))
            reader.count(**where)
            reader.export(tmp_path / f"{number}.ndjson", **where)
            reader.verify(**where)
    stored = everything_stored(client, protected)
    recorded = {hit["_source"]["event"]["action"] for hit in stored}
    assert recorded >= {"audit.searched", "audit.exported", "audit.verified"}
    assert sum("filter" in hit["_source"]["audit"].get("metadata", {}) for hit in stored) >= 5 * len(conditions())
    text = orjson.dumps(stored).decode()
    assert not [value for value in (PERSON, NAME, *OTHERS) if value in text]
    quiet = protected.model_copy(update={"audit_searches": False})
    with AuditReader(settings=quiet) as reader:
        # While the key is there, the record says who was looked for.
        asked = [event.get("audit.metadata.filter.user_id") for event in reader.scan(event_type="audit.searched")]
        assert [PERSON] in asked
    erase(protected, PERSON)
    with AuditReader(settings=quiet) as reader:
        asked = [event.get("audit.metadata.filter.user_id") for event in reader.scan(event_type="audit.searched")]
        assert [ERASED] in asked
        assert PERSON not in str([event.document for event in reader.scan()])


@pytest.mark.parametrize("where", conditions()[:-1])
def test_a_hold_finds_what_it_keeps_and_does_not_tell_whom(protected, client, where):
    with AuditAdmin(settings=protected) as admin:
        placed = admin.place_hold(reason="Case 12/2026", person="jane.doe", **where)
        assert bool(placed.indices) is ("target_user_id" not in where)
        client.request("POST", f"/{protected.stream}/_rollover")
        report = admin.apply_retention()
        assert report.plan.outlooks[0].index.holds == (() if "target_user_id" in where else (placed.hold.id,))
        [hold] = admin.list_holds()
        told = admin.readable(hold).covers
    text = orjson.dumps(everything_stored(client, protected)).decode()
    assert not [value for value in (PERSON, NAME, *OTHERS) if value in text]
    if set(where) <= {"user_id", "not_user_id", "target_user_id"}:
        assert PERSON in told


def test_a_hold_keeps_what_was_stored_before_the_field_was_protected(protected, client):
    before = protected.model_copy(update={"erasable_fields": frozenset(), "pseudonym_fields": frozenset()})
    trail = configured(before)
    trail.emit("user.login", {"user_id": "bob"})
    assert trail.flush(20)
    client.request("POST", f"/{protected.stream}/_refresh")
    with AuditAdmin(settings=protected) as admin:
        assert len(admin.place_hold(reason="Case 12/2026", person="jane.doe", user_id="bob").indices) == 1
