"""Verification and proofs over a real server and over files, with chains that a test makes by hand."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import json
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit_logging.capture.configuration import swap_trail
from audit_logging.capture.trail import Trail as WriterTrail
from audit_logging.errors import (
    EventFileError,
    FilterError,
    IncompleteResultError,
    NotFoundError,
    ProofError,
    RefusedError,
)
from audit_logging.integrity.sealed_event import read_sealed_event
from audit_logging.query import AuditReader
from audit_logging.query.async_reader import AsyncAuditReader
from audit_logging.query.export import view as view_module
from audit_logging.query.filter import Filter
from audit_logging.query.verification.run import verify_files
from audit_logging.query.verification.verified import record_path
from audit_logging.settings import Settings
from tests.integrity.chains import KEYS, author, edited, kinds, resealed, writer_id

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _signs(monkeypatch):
    monkeypatch.setenv("AUDIT_SIGNING", "true")


def keep_public_key(settings):
    """Put the key that the chains of tests are signed with beside the signing key, and so trust it."""
    public = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path = settings.signing_key_path.parent / f"{KEYS.signing.id}.pub"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pem)
    return path


def store(trail, documents, *, under=None):
    """Create documents in the write index, byte by byte, under their own ids or others."""
    body = b""
    for number, document in enumerate(documents):
        doc_id = under[number] if under else read_sealed_event(document).place
        body += orjson.dumps({"create": {"_id": doc_id}}) + b"\n" + document + b"\n"
    answer = trail.client.request("POST", f"/{trail.settings.stream}/_bulk", params={"refresh": True}, body=body)
    assert not answer["errors"], answer


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(view_module, "LARGEST_PAGE", 5)


@pytest.fixture
def public_key(settings):
    return keep_public_key(settings)


@pytest.mark.server
class TestStream:
    def test_a_whole_trail_over_several_indices_has_no_finding(self, trail, reader, public_key, small_pages):
        """Copies around a rollover are a note; progress is told; the view is released."""
        one, two = author(1).life(20), author(2).life(7)
        store(trail, one.written[:12])
        trail.rollover()
        store(trail, one.written[8:] + two.written)
        steps = []
        report = reader.verify(progress=lambda done, total: steps.append((done, total)))
        assert (report.findings, report.scope, report.keys) == ((), "chain", (KEYS.signing.id,))
        assert (report.events, report.copies, report.writers) == (37, 4, 2)
        assert steps[0] == (5, 37)
        assert steps[-1] == (37, 37)
        stats = trail.client.request("GET", f"/{trail.settings.stream}/_stats/search")["_all"]["total"]["search"]
        assert stats["point_in_time_current"] == 0

    def test_each_finding_has_kind_event_writer_and_sequence(self, trail, reader, public_key):
        documents = author(1).life(9).written
        store(trail, [*documents[:3], edited(documents[3], user__id="x"), *documents[5:]])
        report = reader.verify()
        found = [each.to_dict() for each in report.findings]
        assert [(each["kind"], each["writer"], each["sequence"], each["event_id"]) for each in found] == [
            ("edited", writer_id(1), 4, orjson.loads(documents[3])["event"]["id"]),
            ("deleted", writer_id(1), 5, ""),
        ]
        assert orjson.loads(orjson.dumps(report.to_dict()))["ok"] is False

    def test_a_replaced_event_is_named_by_its_id_too(self, trail, reader, public_key):
        documents = author(1).life(9).written
        store(trail, [*documents[:3], resealed(documents[3], event__id="forged"), *documents[4:]])
        [finding] = reader.verify().findings
        assert (finding.kind, finding.sequence, finding.event_id) == ("edited", 4, "forged")

    def test_a_second_event_in_another_index_is_inserted(self, trail, reader, public_key):
        documents = author(1).life(9).written
        store(trail, documents)
        trail.rollover()
        store(trail, [resealed(documents[3], event__id="forged")])
        [finding] = reader.verify().findings
        assert (finding.kind, finding.sequence, finding.event_id) == ("inserted", 4, "forged")

    def test_a_replay_under_an_id_of_its_own_is_inserted(self, trail, reader, public_key):
        documents = author(1).life(9).written
        store(trail, documents)
        store(trail, [documents[4]], under=["replayed"])
        [finding] = reader.verify().findings
        assert (finding.kind, finding.sequence) == ("inserted", 5)
        assert "'replayed'" in finding.sentence

    def test_contents_in_each_others_place_are_reordered(self, trail, reader, public_key):
        documents = author(1).life(9).written
        places = [read_sealed_event(document).place for document in documents]
        places[3], places[6] = places[6], places[3]
        store(trail, documents, under=places)
        assert [(each.kind, each.sequence) for each in reader.verify().findings] == [("reordered", 4), ("reordered", 7)]

    def test_a_time_range_begins_within_chains_and_looks_at_what_stands_in_front(self, trail, reader, public_key):
        """Half of a chain is no finding; where the event just before the range is gone, that is one."""
        documents = author(1).life(20).written
        store(trail, documents)
        since = read_sealed_event(documents[10]).time
        report = reader.verify(since=since)
        assert (report.findings, report.events) == ((), 13)
        assert reader.verify(until=since).findings == ()
        gone = author(2).life(20).written
        store(trail, gone[:9] + gone[10:])
        [finding] = reader.verify(since=since).findings
        assert (finding.kind, finding.writer, finding.sequence, finding.last) == ("deleted", writer_id(2), 1, 10)

    def test_events_whose_times_are_out_of_order_are_looked_up_beyond_the_range(self, trail, reader, public_key):
        """An import seals records of long ago between those of today."""
        one = author(1)
        one.life(3, stop=False)
        for _ in range(3):
            one.chain.advance(self.of_last_year(one))
            one.write()
        one.write("audit.stopped", {})
        store(trail, one.written)
        report = reader.verify(since="2026-01-01")
        assert (report.findings, report.events) == ((), len(one.written) - 3)

    def of_last_year(self, one):
        document = {"@timestamp": "2025-01-01T00:00:00.000000Z", "audit": {"schema": "1"}, "event": {"id": "old"}}
        sealed = one.chain.seal(orjson.dumps(document), len('{"@timestamp":"2025-01-01T00:00:00.000000Z","audit":{'))
        one.written.append(sealed.payload)
        return sealed

    def test_under_a_filter_it_says_that_only_contents_were_checked(self, trail, reader, public_key):
        documents = author(1).life(9).written
        store(trail, [*documents[:3], edited(documents[3], message="x"), *documents[5:]])
        report = reader.verify(user_id=["u-2", "u-7"])
        assert (report.scope, kinds(report.findings), report.events) == ("content", {"edited"}, 2)
        assert report.notes[-1].kind == "content_only"

    def test_a_key_given_by_name_is_believed_and_no_other(self, trail, reader, public_key, tmp_path):
        store(trail, author(1).life(3).written)
        other = tmp_path / "other.pub"
        public_key.rename(other)
        assert kinds(reader.verify().findings) == {"unknown_key"}
        assert reader.verify(public_keys=[other]).findings == ()

    def test_a_head_kept_elsewhere_shows_a_tail_that_is_gone(self, trail, reader, public_key, tmp_path):
        one = author(1).life(50)
        store(trail, one.written[:20])
        (tmp_path / "heads.ndjson").write_bytes(b"".join(each + b"\n" for each in one.written if b"audit.st" in each))
        [finding] = reader.verify(checkpoints=[tmp_path / "heads.ndjson"]).findings
        assert (finding.kind, finding.sequence, finding.last) == ("truncated", 21, 53)

    def test_an_older_server_is_read_by_scroll(self, trail, reader, public_key, small_pages, monkeypatch):
        def refuse(*_):
            raise RefusedError("no", status=400, error_type="parsing", reason="no mapping for [_shard_doc]")

        store(trail, author(1).life(20).written)
        monkeypatch.setattr(view_module.PointInTime, "__init__", refuse)
        report = reader.verify()
        assert (report.findings, report.events) == ((), 23)
        stats = trail.client.request("GET", f"/{trail.settings.stream}/_stats/search")["_all"]["total"]["search"]
        assert stats["scroll_current"] == 0

    def test_protected_fields_are_hashed_as_they_are_stored(self, trail, settings):
        """A reader shows them decrypted; what was sealed is the cipher text."""
        protecting = settings.model_copy(update={"erasable_fields": frozenset({"user_email"}), "signing": True})
        writer = WriterTrail(protecting)
        event_id = writer.emit("user.login", {"user_id": "u-1", "user_email": "ann@example.org"})
        assert writer.shutdown(10) == 0
        trail.client.request("POST", f"/{settings.stream}/_refresh")
        with AuditReader(settings=protecting) as reader:
            assert reader.verify().findings == ()
            assert len(reader.prove(event_id).events) == 2

    def test_a_trail_that_leaves_while_it_is_read_is_no_clean_one(self, trail, reader, public_key, small_pages):
        store(trail, author(1).life(20).written)

        def leave(done, total):
            trail.client.request("DELETE", "/_search/point_in_time/_all")

        with pytest.raises(IncompleteResultError, match="verify again"):
            reader.verify(progress=leave)


@pytest.mark.server
class TestFromLast:
    def test_only_what_is_new_is_read(self, trail, reader, public_key):
        one, two = author(1).life(8, stop=False), author(2)
        one.at = dt.datetime.now(dt.timezone.utc)
        one.write()
        store(trail, one.written)
        assert reader.verify(from_last=True).events == 11
        assert reader.verify(from_last=True).events == 0
        trail.rollover()
        one.write("audit.checkpoint", {})
        one.write("audit.stopped", {})
        store(trail, one.written[11:] + two.life(2).written)
        report = reader.verify(from_last=True)
        assert (report.findings, report.events) == ((), 7)
        assert reader.verify(from_last=True).events == 0

    def test_a_finding_stays_until_it_is_dealt_with(self, trail, reader, public_key):
        one = author(1).life(8)
        store(trail, one.written[:5])
        reader.verify(from_last=True)
        store(trail, one.written[6:])
        for _ in range(2):
            [finding] = reader.verify(from_last=True).findings
            assert (finding.kind, finding.sequence) == ("deleted", 6)
        store(trail, one.written[5:6])
        assert reader.verify(from_last=True).findings == ()
        assert reader.verify(from_last=True).events == 0

    def test_a_chain_must_go_on_from_what_was_verified(self, trail, reader, public_key):
        """A tail that was forged since breaks the link."""
        one = author(1).life(8)
        store(trail, one.written[:5])
        reader.verify(from_last=True)
        store(trail, [resealed(one.written[5], seal={"previous": "0" * 64}), *one.written[6:]])
        assert kinds(reader.verify(from_last=True).findings) == {"edited"}

    def test_what_was_added_to_an_ended_writer_is_inserted(self, trail, reader, public_key):
        one = author(1).life(3)
        store(trail, one.written)
        reader.verify(from_last=True)
        one.key = None
        store(trail, [one.write()])
        assert kinds(reader.verify(from_last=True).findings) == {"inserted"}

    @pytest.mark.parametrize("change", ["delete", "edit"])
    def test_what_changed_in_the_part_that_was_verified_is_looked_at_again(
        self, settings, client, reader, public_key, change
    ):
        from audit_logging.opensearch.admin import AuditAdmin

        from .trail import Trail

        with AuditAdmin(settings=settings) as admin:
            admin.setup(append_only=False)
        trail = Trail.__new__(Trail)
        trail.settings, trail.client = settings, client
        documents = author(1).life(8).written
        store(trail, documents)
        reader.verify(from_last=True)
        [index] = client.request("GET", f"/{settings.stream}")
        place = read_sealed_event(documents[4]).place
        if change == "delete":
            client.request("DELETE", f"/{index}/_doc/{place}", params={"refresh": True})
        else:
            client.request(
                "POST", f"/{index}/_update/{place}", params={"refresh": True}, body={"doc": {"message": "x"}}
            )
        report = reader.verify(from_last=True)
        assert kinds(report.findings) == {"deleted" if change == "delete" else "edited"}
        assert "from_begin" in {note.kind for note in report.notes}

    def test_a_record_that_somebody_moved_on_is_not_believed(self, trail, reader, settings, public_key):
        store(trail, author(1).life(8).written)
        reader.verify(from_last=True)
        path = record_path(settings)
        assert path.stat().st_mode & 0o777 == 0o600
        record = json.loads(path.read_text())
        record["verified"] = record["verified"].replace('"sequence":11', '"sequence":10')
        for text in (json.dumps(record), "", "{}", '{"verified":7,"signature":"","key":""}'):
            path.write_text(text)
            report = reader.verify(from_last=True)
            assert (report.findings, report.events, report.notes[-1].kind) == ((), 11, "from_begin")

    def test_it_takes_no_filter(self, reader):
        with pytest.raises(FilterError, match="takes no filter"):
            reader.verify(from_last=True, since="-1d")


class TestFiles:
    @pytest.fixture
    def given(self, tmp_path):
        settings = Settings.load(home=tmp_path / "home")
        keep_public_key(settings)
        return settings

    def write(self, path, documents):
        content = b"".join(document + b"\n" for document in documents)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path

    def test_exports_are_verified_without_a_server(self, given, tmp_path):
        """Plain or gzip, several that overlap, in any order."""
        documents = author(1).life(30).written
        paths = [
            self.write(tmp_path / "b.ndjson.gz", documents[15:]),
            self.write(tmp_path / "a.ndjson", documents[:20]),
        ]
        steps = []
        report = verify_files(paths, given, Filter.of(), progress=lambda done, total: steps.append((done, total)))
        assert (report.findings, report.events, report.copies) == ((), 38, 5)
        assert steps[-1][0] == steps[-1][1] == sum(path.stat().st_size for path in paths)

    def test_what_was_done_to_them_is_found(self, given, tmp_path):
        documents = author(1).life(30).written
        path = self.write(tmp_path / "x", [*documents[:3], edited(documents[3], message="x"), *documents[5:]])
        report = verify_files([path], given, Filter.of())
        assert [(each.kind, each.sequence) for each in report.findings] == [("edited", 4), ("deleted", 5)]
        assert report.findings[0].event_id

    def test_an_export_of_a_time_range_is_verified_as_one(self, given, tmp_path):
        documents = author(1).life(30).written
        path = self.write(tmp_path / "x", documents[10:])
        assert kinds(verify_files([path], given, Filter.of()).findings) == {"deleted"}
        assert verify_files([path], given, Filter.of(since="2026-03-01")).findings == ()
        since = read_sealed_event(documents[20]).time
        assert verify_files([path], given, Filter.of(since=since).at(author().at)).events == 13

    def test_the_newest_event_is_now(self, given, tmp_path):
        """A writer that lived when it was exported is not silent because the file grew old."""
        path = self.write(tmp_path / "x", author(1).life(30, stop=False).written)
        assert verify_files([path], given, Filter.of()).findings == ()

    def test_files_that_cannot_be_read_are_one_sentence(self, given, tmp_path):
        with pytest.raises(EventFileError, match="cannot be read"):
            verify_files([tmp_path / "nowhere"], given, Filter.of())
        cut = self.write(tmp_path / "x.gz", author(1).life(30).written)
        cut.write_bytes(cut.read_bytes()[:-20])
        with pytest.raises(EventFileError, match="is it whole"):
            verify_files([cut], given, Filter.of())
        with pytest.raises(FilterError, match="as a whole or by time range"):
            verify_files([cut], given, Filter.of(user_id="u"))


@pytest.mark.server
class TestProof:
    @pytest.fixture
    def proved(self, trail, reader, public_key):
        documents = author(1).life(9).written
        store(trail, documents[:4])
        trail.rollover()
        store(trail, documents[2:])
        return documents

    def test_a_proof_goes_from_the_event_to_the_next_signature(self, proved, reader, public_key, tmp_path):
        """And the stand-alone checker believes it."""
        proof = reader.prove(orjson.loads(proved[2])["event"]["id"])
        assert [event["audit"]["integrity"]["sequence"] for event in proof.events] == [3, 4, 5, 6, 7]
        assert proof.key == KEYS.signing.id
        (tmp_path / "p.json").write_bytes(orjson.dumps(proof.to_dict()))
        checker = [sys.executable, "-I", "-S", ROOT / "docs/check_proof.py", tmp_path / "p.json", public_key]
        done = subprocess.run(checker, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(reader.prove(read_sealed_event(proved[0]).place).events) == 1

    def test_the_twin_for_coroutines_proves_and_verifies_the_same(self, proved, reader, settings):
        event_id = read_sealed_event(proved[2]).place

        async def ask():
            async with AsyncAuditReader(settings=settings) as twin:
                return await asyncio.gather(twin.prove(event_id), twin.verify())

        proof, report = asyncio.run(ask())
        assert proof == reader.prove(event_id)
        assert (report.events, report.findings) == (reader.verify().events, ())

    def test_there_is_none_of_an_event_that_is_not_there_or_not_signed_yet(self, proved, trail, reader):
        living = author(2).life(4, stop=False).written
        store(trail, living)
        with pytest.raises(NotFoundError):
            reader.prove("nothing")
        with pytest.raises(ProofError, match="Try again later"):
            reader.prove(read_sealed_event(living[-1]).place)

    def test_there_is_none_over_a_chain_that_does_not_hold(self, trail, reader, public_key):
        documents = author(1).life(9).written
        for number, broken in enumerate(
            ([*documents[:3], *documents[4:]], [*documents[:3], edited(documents[3], message="x"), *documents[4:]])
        ):
            name = f"{trail.settings.stream}-{number}"
            self.other_stream(trail, name, broken)
            settings = trail.settings.model_copy(update={"stream": name})
            with AuditReader(settings=settings) as other, pytest.raises(ProofError, match="does not hold at"):
                other.prove(read_sealed_event(documents[1]).place)

    def other_stream(self, trail, name, documents):
        from .trail import Trail

        store(Trail(trail.settings.model_copy(update={"stream": name}), trail.client), documents)

    def test_a_key_that_is_not_trusted_proves_nothing(self, proved, reader, public_key):
        public_key.unlink()
        with pytest.raises(ProofError, match="not trusted"):
            reader.prove(read_sealed_event(proved[2]).place)


@pytest.mark.server
class TestRecord:
    """A verification is itself an event of the trail."""

    @pytest.fixture
    def recording(self, settings):
        return settings.model_copy(update={"audit_verifications": True})

    def recorded(self, trail):
        trail.client.request("POST", f"/{trail.settings.stream}/_refresh")
        body = {"query": {"term": {"event.action": "audit.verified"}}}
        hits = trail.client.request("POST", f"/{trail.settings.stream}/_search", body=body)["hits"]["hits"]
        return [hit["_source"] for hit in hits]

    def test_what_was_found_is_told_by_a_writer_of_its_own(self, trail, recording, public_key):
        documents = author(1).life(9).written
        store(trail, [*documents[:3], *documents[4:]])
        with AuditReader(settings=recording) as reader:
            reader.verify(since="2026-01-01")
        [event] = self.recorded(trail)
        assert (event["event"]["outcome"], event["event"]["reason"]) == ("failure", "deleted")
        assert event["audit"]["metadata"]["findings"] == {"deleted": 1}
        assert f"{writer_id(1)}-4" in event["audit"]["metadata"]["examples"][0]
        assert event["audit"]["metadata"]["filter"].keys() == {"since"}
        assert event["user"]["name"]

    def test_the_trail_of_this_process_takes_it_where_there_is_one(self, trail, recording, public_key):
        own = WriterTrail(recording)
        writer = own.writer_id
        before = swap_trail(own)
        try:
            with AuditReader(settings=recording) as reader:
                assert reader.verify().ok
            assert own.flush(10)
        finally:
            swap_trail(before)
            own.shutdown(10)
        [event] = self.recorded(trail)
        assert event["event"]["outcome"] == "success"
        assert event["audit"]["integrity"]["writer"] == writer

    def test_a_trail_that_cannot_be_told_costs_no_report(self, trail, recording, public_key, tmp_path, caplog):
        (tmp_path / "file").write_text("")
        with AuditReader(settings=recording.model_copy(update={"spool_dir": tmp_path / "file"})) as reader:
            assert reader.verify().ok
        assert "could not be told of its verification" in caplog.text
