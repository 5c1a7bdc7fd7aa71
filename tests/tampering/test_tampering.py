"""Somebody with every right on the server changes the trail: each way to do so is found, and named."""

import hashlib
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from audit_logging.errors import ProofError
from audit_logging.integrity.keys import SigningKey
from audit_logging.integrity.seal import canonical_form, digest_of
from audit_logging.integrity.signature import signed_text
from audit_logging.query import AuditReader
from audit_logging.query.verification import run as verify

pytestmark = pytest.mark.server

CHECKER = Path(__file__).parents[2] / "docs/check_proof.py"


def seal_anew(document, **changes):
    """Seal a document as its place in the chain asks for, which needs no secret."""
    seal = {**document["audit"]["integrity"], **changes}
    digest = digest_of(seal["previous"], seal["writer"], seal["sequence"], canonical_form(document))
    document["audit"]["integrity"] = {**seal, "hash": digest}
    return document


class TestEdits:
    """Through every way that an administrator has."""

    def edit(self, document):
        document["user"]["id"] = "somebody-else"
        return document

    def test_by_update(self, history):
        doc_id = f"{history.long}-7"
        path = f"/{history.index_of(doc_id)}/_update/{doc_id}"
        history.client.request("POST", path, params={"refresh": True}, body={"doc": {"user": {"id": "x"}}})
        assert history.found() == [("edited", history.long, 7)]

    def test_by_update_by_query(self, history):
        query = {"term": {"event.id": history.documents()[f"{history.long}-7"]["event"]["id"]}}
        script = {"source": "ctx._source.user.id = 'x'", "lang": "painless"}
        path = f"/{history.settings.stream}/_update_by_query"
        history.client.request("POST", path, params={"refresh": True}, body={"query": query, "script": script})
        assert history.found() == [("edited", history.long, 7)]

    def test_by_writing_over_it(self, history):
        doc_id = f"{history.long}-7"
        history.put({doc_id: self.edit(history.documents()[doc_id])})
        [finding] = history.verify().findings
        assert (finding.kind, finding.sequence) == ("edited", 7)
        assert finding.event_id == history.documents()[doc_id]["event"]["id"]

    def test_by_deleting_and_creating_it(self, history):
        doc_id = f"{history.long}-7"
        document = history.documents()[doc_id]
        history.delete(doc_id)
        history.create(doc_id, self.edit(document))
        assert history.found() == [("edited", history.long, 7)]

    def test_with_its_seal_made_anew(self, history):
        doc_id = f"{history.long}-7"
        history.put({doc_id: seal_anew(self.edit(history.documents()[doc_id]))})
        assert history.found() == [("edited", history.long, 7)]

    def test_with_the_whole_chain_made_anew(self, history):
        """Every hash fits then; what was signed does not."""
        documents = history.documents(history.long)
        previous = ""
        for document in documents.values():
            if document["audit"]["integrity"]["sequence"] < 7:
                continue
            if document["audit"]["integrity"]["sequence"] == 7:
                self.edit(document)
                previous = document["audit"]["integrity"]["previous"]
            seal_anew(document, previous=previous)
            previous = document["audit"]["integrity"]["hash"]
        history.put(documents)
        found = history.found()
        assert {(kind, writer) for kind, writer, _ in found} >= {("checkpoint_forged", history.long)}

    def test_of_what_is_beside_the_content(self, history):
        """The seal itself, the writer's name in it and the signature."""
        doc_id = f"{history.long}-7"
        document = history.documents()[doc_id]
        document["audit"]["integrity"]["previous"] = "0" * 64
        history.put({doc_id: document})
        assert ("edited", history.long, 7) in history.found()


class TestDeletions:
    def test_of_one(self, history):
        history.delete(f"{history.long}-7")
        [finding] = history.verify().findings
        assert (finding.kind, finding.writer, finding.sequence, finding.last) == ("deleted", history.long, 7, 7)

    def test_of_the_first_ones(self, history):
        history.delete(f"{history.long}-1", f"{history.long}-2")
        assert ("deleted", history.long, 1) in history.found()

    def test_of_the_last_hundred(self, history):
        last = list(history.documents(history.long))[-100:]
        history.delete(*last)
        [finding] = history.verify().findings
        assert (finding.kind, finding.writer, finding.last - finding.sequence + 1) == ("truncated", history.long, 100)

    def test_of_a_whole_backing_index(self, history):
        """The witness of the short-lived writer left with it, and is missed itself."""
        history.client.request("DELETE", f"/{history.indices()[0]}")
        assert set(history.found()) == {("deleted", history.long, 1), ("deleted", history.witness, 1)}

    def test_of_every_event_of_a_short_lived_writer(self, history):
        history.delete(*history.documents(history.short))
        assert history.found() == [("vanished", history.short, 1)]

    def test_of_a_writer_shows_without_its_host(self, history, tmp_path):
        """The writer that started next vouches for it."""
        history.delete(*history.documents(history.short))
        assert history.found(spool_dir=tmp_path / "elsewhere") == [("vanished", history.short, 1)]

    def test_of_everything(self, history):
        """What the host of the writers kept is the last witness."""
        history.delete(*history.documents())
        assert ("vanished", history.long, 1) in history.found()

    def test_of_everything_shows_by_a_second_place(self, history, tmp_path, monkeypatch):
        places = {document["audit"]["integrity"]["writer"]: document for document in history.documents().values()}
        second = tmp_path / "second"
        second.write_bytes(b"".join(orjson.dumps(document) + b"\n" for document in places.values()))
        history.delete(*history.documents())
        monkeypatch.setattr(verify, "GRACE", -verify.GRACE)
        found = history.found(spool_dir=tmp_path / "elsewhere", checkpoint_file=second)
        assert {(kind, writer) for kind, writer, _ in found} == {
            ("vanished", writer) for writer in (history.long, history.short, history.witness)
        }

    def test_by_rolling_a_snapshot_back(self, history):
        """The stream is deleted and restored as it was before the last writer came to its end."""
        early = {
            doc_id: document
            for doc_id, document in history.documents().items()
            if document["audit"]["integrity"]["sequence"] <= 62 and not doc_id.startswith(history.witness)
        }
        history.client.request("DELETE", f"/_data_stream/{history.settings.stream}")
        history.bulk(*(line for item in early.items() for line in ({"create": {"_id": item[0]}}, item[1])))
        found = history.found()
        assert ("truncated", history.long, 63) in found
        assert ("vanished", history.witness, 1) in found


class TestInsertions:
    def test_of_one_behind_the_end(self, history):
        *_, last = history.documents(history.long).values()
        seal = last["audit"]["integrity"]
        forged = orjson.loads(orjson.dumps(history.documents()[f"{history.long}-7"]))
        seal_anew(forged, previous=seal["hash"], sequence=seal["sequence"] + 1)
        history.create(f"{history.long}-{seal['sequence'] + 1}", forged)
        assert history.found() == [("inserted", history.long, seal["sequence"] + 1)]

    def test_of_one_without_a_seal(self, history):
        document = history.documents()[f"{history.long}-7"]
        del document["audit"]["integrity"]
        history.create("forged", document)
        [finding] = history.verify().findings
        assert (finding.kind, finding.event_id) == ("inserted", document["event"]["id"])

    def test_of_a_writer_that_never_was(self, history):
        writer = "f" * 20
        document = history.documents()[f"{history.long}-7"]
        origin = hashlib.sha256(writer.encode()).hexdigest()
        history.create(f"{writer}-1", seal_anew(document, writer=writer, sequence=1, previous=origin))
        assert history.found() == [("inserted", writer, 1)]

    def test_of_a_second_one_under_a_number(self, history):
        document = history.documents()[f"{history.long}-7"]
        document["user"]["id"] = "x"
        assert history.index_of(f"{history.long}-7") != history.indices()[-1]
        history.create(f"{history.long}-7", seal_anew(document))
        assert history.found() == [("inserted", history.long, 7)]

    def test_of_a_replay(self, history):
        doc_id = f"{history.long}-7"
        history.create("replayed", history.documents()[doc_id])
        assert history.found() == [("inserted", history.long, 7)]

    def test_an_identical_copy_after_a_rollover_is_no_finding(self, history):
        history.create(f"{history.long}-7", history.documents()[f"{history.long}-7"])
        report = history.verify()
        assert (report.findings, report.copies) == ((), 1)


class TestOrder:
    def test_two_that_are_swapped_whole(self, history):
        one, two = f"{history.long}-7", f"{history.long}-9"
        documents = history.documents()
        history.put({one: documents[two], two: documents[one]})
        assert history.found() == [("reordered", history.long, 7), ("reordered", history.long, 9)]

    def test_two_whose_contents_are_swapped_under_their_seals(self, history):
        one, two = f"{history.long}-7", f"{history.long}-9"
        documents = history.documents()
        first, second = documents[one], documents[two]
        first["audit"]["integrity"], second["audit"]["integrity"] = (
            second["audit"]["integrity"],
            first["audit"]["integrity"],
        )
        history.put({one: second, two: first})
        assert history.found() == [("reordered", history.long, 7), ("reordered", history.long, 9)]

    def test_a_chain_that_begins_a_second_time(self, history):
        """A chain is cut in two, and its second half made to look like a beginning."""
        documents = history.documents(history.long)
        previous = hashlib.sha256(history.long.encode()).hexdigest()
        for document in list(documents.values())[6:]:
            seal_anew(document, previous=previous)
            previous = document["audit"]["integrity"]["hash"]
        history.put(documents)
        assert ("restarted", history.long, 7) in history.found()


class TestSignatures:
    def signed(self, history):
        return {
            doc_id: document
            for doc_id, document in history.documents().items()
            if "signature" in document["audit"]["integrity"]
        }

    def test_stripped_from_every_event(self, history):
        signed = self.signed(history)
        for document in signed.values():
            del document["audit"]["integrity"]["key"], document["audit"]["integrity"]["signature"]
        history.put(signed)
        found = history.found()
        assert {kind for kind, _, _ in found} <= {"inserted", "checkpoint_missing"}
        assert {writer for _, writer, _ in found} == {history.long, history.short, history.witness}

    def test_stripped_from_one_checkpoint(self, history):
        [doc_id] = [
            doc_id for doc_id, each in self.signed(history).items() if each["event"]["action"] == "audit.checkpoint"
        ]
        document = history.documents()[doc_id]
        del document["audit"]["integrity"]["key"], document["audit"]["integrity"]["signature"]
        history.put({doc_id: document})
        assert history.found() == [("checkpoint_missing", history.long, document["audit"]["integrity"]["sequence"])]

    def test_made_with_another_key(self, history, tmp_path):
        key = SigningKey.load_or_create(tmp_path / "forger" / "key.pem")
        signed = self.signed(history)
        for document in signed.values():
            seal = document["audit"]["integrity"]
            seal |= {"key": key.id, "signature": key.sign(signed_text(seal["hash"]))}
        history.put(signed)
        report = history.verify()
        assert "unknown_key" in {finding.kind for finding in report.findings}
        assert key.id in report.findings[0].sentence

    def test_made_with_another_key_in_the_name_of_ours(self, history, tmp_path):
        key = SigningKey.load_or_create(tmp_path / "forger" / "key.pem")
        doc_id, document = next(iter(self.signed(history).items()))
        seal = document["audit"]["integrity"]
        seal["signature"] = key.sign(signed_text(seal["hash"]))
        history.put({doc_id: document})
        assert ("checkpoint_forged", seal["writer"], seal["sequence"]) in history.found()

    def test_a_key_that_was_changed_still_vouches(self, history):
        history.settings.signing_key_path.unlink()
        SigningKey.load_or_create(history.settings.signing_key_path)
        report = history.verify()
        assert (report.findings, len(report.keys)) == ((), 2)


class TestProofs:
    @pytest.fixture
    def proof(self, history):
        with AuditReader(settings=history.settings) as reader:
            return reader.prove(f"{history.long}-70").to_dict()

    def check(self, history, tmp_path, proof):
        path = tmp_path / "proof.json"
        path.write_bytes(orjson.dumps(proof))
        [key] = history.settings.signing_key_path.parent.glob("*.pub")
        checked = subprocess.run([sys.executable, "-I", CHECKER, path, key], capture_output=True, check=False)
        return checked.returncode

    def test_a_true_one_is_checked_alone(self, history, tmp_path, proof):
        assert self.check(history, tmp_path, proof) == 0

    @pytest.mark.parametrize(
        "forge",
        [
            lambda events: events[0]["user"].update(id="x"),
            lambda events: seal_anew({**events[0], "user": {"id": "x"}}),
            lambda events: events.pop(1),
            lambda events: events.reverse(),
            lambda events: events.pop(),
            lambda events: events[-1]["audit"]["integrity"].update(signature="0" * 128),
            lambda events: events.__setitem__(0, seal_anew({**events[0], "message": "forged"})),
        ],
        ids=["edited", "other", "shortened", "reversed", "unsigned", "zeroes", "resealed"],
    )
    def test_a_forged_one_is_not_believed(self, history, tmp_path, proof, forge):
        whole = orjson.dumps(proof)
        forge(proof["events"])
        believed = self.check(history, tmp_path, proof) == 0
        assert believed == (orjson.dumps(proof) == whole)

    def test_there_is_none_of_an_event_that_was_changed(self, history):
        history.delete(f"{history.long}-71")
        with AuditReader(settings=history.settings) as reader, pytest.raises(ProofError, match="does not hold"):
            reader.prove(f"{history.long}-70")
