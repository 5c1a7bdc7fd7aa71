"""No text of an application is read, or found, as a value that a key store protected."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.capture.trail import Trail
from audit_logging.events.imitations import escape, imitates
from audit_logging.privacy.policy import open_protection
from audit_logging.privacy.protection import PREFIX
from audit_logging.query.reader import AuditReader
from audit_logging.settings import Settings

SEALED = PREFIX + "a" * 24 + ":" + "b" * 24 + ":" + "c" * 40
PSEUDONYM = "p-" + "0123456789ab" * 2


@pytest.fixture
def offline(tmp_path):
    """A trail that protects nothing: a reader of its stream may have a key store all the same."""
    trail = Trail(Settings.load(home=tmp_path, console=False, opensearch_url=()))
    yield trail
    trail.shutdown(0)


def places(text):
    """Return keywords with *text* at every place where a client's text may stand."""
    return {
        "user_id": text,
        "user_name": text,
        "user_agent": text,
        "session_id": text,
        "request_id": text,
        "url_path": text,
        "reason": text,
        "message": text,
        "labels": {"team": text},
        "tags": [text],
        "changes": {"email": {"before": text, "after": text}},
        "note": {"deep": [{"er": text}]},
        "metadata": {"note": text},
    }


@pytest.mark.parametrize("text", [SEALED, f"by {SEALED}, and {SEALED}", "enc:1:", PREFIX + SEALED, PSEUDONYM])
@pytest.mark.parametrize("event_type", ["user.login", "api.call", "invoice.approved"])
def test_a_text_that_looks_protected_is_escaped_wherever_it_stands(offline, text, event_type):
    for _ in range(3):  # the later ones the quick way, where that would take them
        document = offline._document(event_type, places(text)).canonical
        assert b"enc:1:" not in document
        assert PSEUDONYM.encode() not in document
        assert document.count(b"[:]" if ":" in text else b"[-]") >= 12
    for _ in range(3):
        assert offline._document(event_type, places("ann")).canonical.count(b"ann") >= 12


@given(st.text(alphabet="enc:1p-0a[]", max_size=40) | st.text())
def test_what_is_escaped_does_not_look_protected_and_says_the_same(text):
    escaped = escape({"note": [text]})
    assert not imitates(orjson.dumps(escaped))
    assert escaped["note"][0].replace("[:]", ":").replace("[-]", "-") == text.replace("[:]", ":").replace("[-]", "-")
    assert escaped["note"][0] == text or "enc:1:" in text or text.startswith("p-")


def test_ids_that_begin_like_a_pseudonym_stay(offline):
    document = offline._document("invoice.approved", {"product": "p-17", "order": PSEUDONYM + "0"}).fields
    assert document["audit"]["metadata"] == {"product": "p-17", "order": PSEUDONYM + "0"}


@pytest.mark.server
def test_nobody_becomes_another_by_the_name_that_is_stored_of_them(settings, client):
    """Copied from an export, or made up with the token that a search looks for."""
    settings = Settings.load(
        **settings.model_dump(exclude_unset=True),
        erasable_fields="user_name",
        pseudonym_fields="session_id",
        console=False,
    )
    from audit_logging.opensearch.admin import AuditAdmin

    with AuditAdmin(settings=settings) as admin:
        admin.setup()
    protection = open_protection(settings)
    trail = Trail(settings)
    real = trail.emit("user.login", {"user_id": "u-1", "user_name": "alice", "session_id": "s-1"})
    stolen = protection.seal("alice", subject="u-1")
    trail.emit("user.login", {"user_id": "u-2", "user_name": stolen, "session_id": protection.pseudonym("s-1")})
    made_up = f"{PREFIX}x:{protection.value_token('alice')}:x"
    trail.emit("user.login", {"user_id": made_up, "user_name": made_up, "reason": f"I am {stolen}"})
    assert trail.shutdown(20) == 0
    client.request("POST", f"/{settings.stream}/_refresh")
    with AuditReader(settings=settings) as reader:
        assert [event.id for event in reader.scan(user="alice")] == [real]
        assert [event.id for event in reader.scan(session_id="s-1")] == [real]
        names = {event.get("user.name") for event in reader.scan(event_type="user.login")}
        assert names == {"alice", stolen.replace("enc:", "enc[:]"), made_up.replace("enc:", "enc[:]")}
        assert "alice" not in next(reader.scan(text="I am")).get("event.reason")
