"""`audit-logging spool dead`."""

import json

import pytest

from audit_logging.integrity.seal import Chain
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.shipping.dead_letters import DeadLetters
from audit_logging.spool.damage import Damage, DamagedBytes
from audit_logging.spool.segment import Record
from tests.faults.proxy import FaultProxy

WRITER = "0123456789abcdef0123"


@pytest.fixture
def letters(tmp_path, monkeypatch, request):
    stream = request.getfixturevalue("stream") if "stream" in request.fixturenames else "audit-events"
    monkeypatch.setenv("AUDIT_SPOOL_DIR", str(tmp_path))
    return DeadLetters(tmp_path / "dead-letters", stream)


def keep(letters, sequence, *, user="u-42"):
    document = json.dumps(
        {"@timestamp": "2026-03-01T12:00:00Z", "audit": {"schema": "1"}, "event": {"id": f"e-{sequence}",
         "action": "user.login"}, "user": {"id": user}}, separators=(",", ":"),
    ).encode()  # fmt: skip
    chain = Chain(WRITER)
    chain.sequence = sequence - 1
    sealed = chain.seal(document, document.index(b'"schema"'))
    return letters.keep(Record(sequence, sealed.payload), WRITER, "mapper_parsing_exception: no\x1b[31m number")


def test_without_any_it_says_so(letters, audit_logging):
    """In either form."""
    assert audit_logging("spool", "dead", "list").out == "There are no dead letters.\n"
    assert json.loads(audit_logging("spool", "dead", "list", "--json").out) == []


def test_they_are_listed_by_writer_and_sequence(letters, audit_logging):
    """What a reason holds does not steer the terminal."""
    for sequence in (10, 9):
        keep(letters, sequence)
    ended = audit_logging("spool", "dead", "list")
    assert [line.split()[0] for line in ended.out.splitlines()] == ["id", f"{WRITER}-9", f"{WRITER}-10"]
    assert "\x1b" not in ended.out
    listed = json.loads(audit_logging("spool", "dead", "list", "--json").out)
    assert [letter["sequence"] for letter in listed] == [9, 10]
    assert listed[0]["event_type"] == "user.login"
    assert len(listed[0]["hash"]) == 64


def test_one_is_shown_whole(letters, audit_logging):
    """Why it was refused, and the event."""
    letter = keep(letters, 7)
    ended = audit_logging("spool", "dead", "show", letter.id)
    assert "mapper_parsing_exception" in ended.out
    assert '"id": "u-42"' in ended.out
    shown = json.loads(audit_logging("spool", "dead", "show", letter.id, "--json").out)
    assert shown["document"]["user"]["id"] == "u-42"


@pytest.mark.parametrize("letter_id", ["none-1", "../../etc/passwd", ""])
def test_what_is_not_there_is_wrong_use(letter_id, letters, audit_logging):
    """Wherever the id points."""
    ended = audit_logging("spool", "dead", "show", letter_id)
    assert ended.code == 2
    assert "spool dead list" in ended.err


def test_a_file_that_is_no_letter_is_named(letters, audit_logging):
    """Somebody edited it."""
    keep(letters, 7)
    next(letters.path.glob("*.json")).write_text("{")
    assert "cannot be read" in audit_logging("spool", "dead", "list").err


@pytest.mark.parametrize("arguments", [(), ("--all", "x-1")])
def test_replay_wants_to_know_which(arguments, letters, audit_logging):
    """One, some, or all; not nothing, and not both."""
    ended = audit_logging("spool", "dead", "replay", *arguments)
    assert ended.code == 2
    assert "--all" in ended.err


@pytest.mark.server
class TestReplay:
    @pytest.fixture(autouse=True)
    def _prepared(self, settings, monkeypatch):
        monkeypatch.setenv("AUDIT_OPENSEARCH_URL", settings.opensearch_url[0])
        monkeypatch.setenv("AUDIT_STREAM", settings.stream)
        AuditAdmin(settings=settings).setup()

    def test_what_is_stored_now_is_a_dead_letter_no_more(self, letters, audit_logging, client, settings):
        """Under its own id, with its seal; a second time there is nothing left to do."""
        kept = [keep(letters, sequence) for sequence in (1, 2)]
        ended = audit_logging("spool", "dead", "replay", kept[0].id)
        assert ended.code == 0
        assert ended.out.split() == ["id", "outcome", kept[0].id, "stored"]
        assert [letter.id for letter in letters] == [kept[1].id]
        letters.keep(Record(1, kept[0].document.encode()), WRITER, "a crash after it was stored")
        assert audit_logging("spool", "dead", "replay", "--all").code == 0
        assert list(letters) == []
        assert audit_logging("spool", "dead", "replay", "--all").out == "There are no dead letters.\n"
        client.request("POST", f"/{settings.stream}/_refresh")
        hits = client.request("GET", f"/{settings.stream}/_search")["hits"]["hits"]
        assert {hit["_id"] for hit in hits} == {letter.id for letter in kept}

    def test_what_is_refused_again_stays(self, letters, audit_logging):
        """With 3, and the reason of now."""
        letter = letters.keep(Record(3, b'{"no":"event"}'), WRITER, "no event")
        good = keep(letters, 4)
        ended = audit_logging("spool", "dead", "replay", "--all", "--json")
        assert ended.code == 3
        refused, stored = json.loads(ended.out)
        assert (refused["id"], refused["stored"]) == (letter.id, False)
        assert "@timestamp" in refused["reason"]
        assert stored == {"id": good.id, "stored": True, "reason": None}
        assert [left.id for left in letters] == [letter.id]

    def test_without_its_stream_nothing_is_sent(self, letters, audit_logging, client, settings):
        """OpenSearch would make an ordinary index of that name."""
        other = DeadLetters(letters.path, f"{settings.stream}-gone")
        keep(other, 1)
        ended = audit_logging("spool", "dead", "replay", "--all")
        assert ended.code == 3
        assert "audit-logging setup" in ended.err
        assert not client.request("HEAD", f"/{settings.stream}-gone")

    @pytest.mark.parametrize("looks", [True, False], ids=["role that may look", "role that may not"])
    def test_letter_whose_id_another_document_has_stays(
        self, looks, letters, audit_logging, client, settings, monkeypatch
    ):
        """It is the only copy of the event."""
        letter = keep(letters, 1)
        client.request(
            "PUT", f"/{settings.stream}/_create/{letter.id}", body=json.loads(letter.document.replace("u-42", "u-7"))
            | {"audit": {"integrity": {"hash": "f" * 64, "sequence": 1, "writer": WRITER}}},
        )  # fmt: skip
        with FaultProxy(settings.opensearch_url[0]) as proxy:
            monkeypatch.setenv("AUDIT_OPENSEARCH_URL", proxy.url)
            if not looks:
                proxy.forbidden = ("/_data_stream/", "/_mget")
            ended = audit_logging("spool", "dead", "replay", "--all", "--json")
        assert ended.code == 3
        (outcome,) = json.loads(ended.out)
        assert outcome["stored"] is False
        assert ("another document" if looks else "may read") in outcome["reason"]
        assert [left.id for left in letters] == [letter.id]

    @pytest.mark.parametrize("answer", [b"<html>welcome</html>", b'{"items":[]}', b"{}"])
    def test_letter_stays_when_the_answer_does_not_name_it(self, answer, letters, audit_logging, settings, monkeypatch):
        letter = keep(letters, 1)
        with FaultProxy(settings.opensearch_url[0]) as proxy:
            monkeypatch.setenv("AUDIT_OPENSEARCH_URL", proxy.url)
            proxy.faults.append(proxy.status(200, answer))
            assert audit_logging("spool", "dead", "replay", "--all").code == 3
            assert [left.id for left in letters] == [letter.id]
            assert audit_logging("spool", "dead", "replay", "--all").code == 0
        assert list(letters) == []


def test_damaged_bytes_are_listed_and_shown_beside_them(letters, audit_logging):
    """Where they were, which events are missing, and the bytes, which do not steer the terminal."""
    keep(letters, 7)
    place = {"writer": WRITER, "segment": f"{1:020d}.seg", "offset": 42}
    damage = Damage(**place, size=5, first_missing=3, last_missing=4, reason="no whole record", found="2026-03-01")
    DamagedBytes(letters.path).keep(damage, b"\x1b[31m")
    ended = audit_logging("spool", "dead", "list")
    assert [line.split()[0] for line in ended.out.splitlines()] == ["id", f"{WRITER}-7", f"{WRITER}-1-42"]
    assert "events 3 to 4 are missing" in ended.out
    listed = json.loads(audit_logging("spool", "dead", "list", "--json").out)
    assert [entry["kind"] for entry in listed] == ["dead letter", "damaged bytes"]
    ended = audit_logging("spool", "dead", "show", damage.id)
    assert "\\x1b[31m" in ended.out
    assert "\x1b" not in ended.out
    assert json.loads(audit_logging("spool", "dead", "show", damage.id, "--json").out)["bytes"] == "\x1b[31m"
