"""What an administrator of OpenSearch could write in the place of one event or another, each named by verification."""

from __future__ import annotations

import copy
from pathlib import Path

import orjson
import pytest

from audit_logging.capture.trail import Trail
from audit_logging.integrity.keys import SigningKey
from audit_logging.integrity.signature import signed_text
from audit_logging.integrity.stand_in import stand_in
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.query import AuditReader
from audit_logging.query.filter import Filter
from audit_logging.query.verification.run import verify_files

from .test_tampering import seal_anew

pytestmark = pytest.mark.server

TARGET = 7


def canonical(document):
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def refused(document, reason="mapper_parsing_exception"):
    return orjson.loads(stand_in(canonical(document), reason))


def at(path, value):
    """Return an edit that sets one member."""

    def edit(document):
        node = document
        *steps, last = path.split(".")
        for step in steps:
            node = node.setdefault(step, {})
        node[last] = value
        return document

    return edit


def without(path):
    def edit(document):
        node = document
        *steps, last = path.split(".")
        for step in steps:
            node = node[step]
        del node[last]
        return document

    return edit


def standing_in(*edits):
    """Return an edit that puts the event into quarantine, and then changes what stands in for it."""

    def edit(document):
        made = refused(document)
        for each in edits:
            made = each(made)
        return made

    return edit


def inside(change):
    """Return an edit of the text within a stand-in."""

    def edit(made):
        quarantine = made["audit"]["quarantine"]
        quarantine["document"] = change(quarantine["document"])
        return made

    return edit


def forged(document):
    """The example of an administrator who hides mallory behind alice, with the true event inside."""
    made = copy.deepcopy(document)
    made["user"]["id"] = "alice"
    made["@timestamp"] = "2020-01-01T00:00:00.000000Z"
    made["audit"]["quarantine"] = {"document": canonical(document).decode(), "reason": "x"}
    return made


def shifted(document):
    """Move the border between two parts of what is hashed; their sequence of characters stays."""
    seal = document["audit"]["integrity"]
    seal["previous"], seal["writer"] = seal["previous"] + seal["writer"][0], seal["writer"][1:]
    return document


EDITS = {
    "forged around the true event": forged,
    "stand-in with a user": standing_in(at("user.id", "alice")),
    "stand-in with another time": standing_in(at("@timestamp", "2020-01-01T00:00:00.000000Z")),
    "stand-in with another action": standing_in(at("event.action", "user.logout")),
    "stand-in with another id": standing_in(at("event.id", "e-0")),
    "stand-in with another message": standing_in(at("message", "Nothing happened")),
    "stand-in with metadata": standing_in(at("audit.metadata", {"amount": "1"})),
    "stand-in with a label": standing_in(at("labels.team", "x")),
    "stand-in with another severity": standing_in(at("log.level", "info")),
    "stand-in with a member more": standing_in(at("audit.quarantine.type", "x")),
    "stand-in without its reason": standing_in(without("audit.quarantine.reason")),
    "stand-in without its message": standing_in(without("message")),
    "stand-in whose text is not canonical": standing_in(inside(lambda text: text.replace('","', '", "', 1))),
    "stand-in whose text has a key twice": standing_in(inside(lambda text: text[:-1] + ',"user":{"id":"x"}}')),
    "stand-in whose text was edited": standing_in(inside(lambda text: text.replace("u-", "v-"))),
    "stand-in whose text is no event": standing_in(inside(lambda _: "{}")),
    "stand-in of a stand-in": lambda document: refused(refused(document)),
    "stand-in whose text is gone": standing_in(at("audit.quarantine.document", "gone")),
    "an empty quarantine": at("audit.quarantine", {}),
    "a field more": at("tags", ["approved"]),
    "a field that is null": at("source", None),
    "a field less": without("user"),
    "a member more beside the seal": at("audit.note", "checked"),
    "a member more in the seal": at("audit.integrity.note", "checked"),
    "a key in the seal of an ordinary event": at("audit.integrity.key", "0" * 16),
    "a signature in the seal of an ordinary event": at("audit.integrity.signature", "0" * 128),
    "another schema": at("audit.schema", "2"),
    "a hash that is longer": lambda document: at("audit.integrity.hash", document["audit"]["integrity"]["hash"] + "0")(document),
    "a hash in upper case": lambda document: at("audit.integrity.hash", document["audit"]["integrity"]["hash"].upper())(document),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_event_that_is_not_what_was_sealed_is_edited(history, edit):
    doc_id = f"{history.long}-{TARGET}"
    history.put({doc_id: edit(history.documents()[doc_id])})
    assert ("edited", history.long, TARGET) in history.found()


MISNUMBERED = {
    "a border moved": shifted,
    "a writer in upper case": lambda document: at("audit.integrity.writer", document["audit"]["integrity"]["writer"].upper())(document),
    "a number as text": at("audit.integrity.sequence", str(TARGET)),
    "a number that is a decimal": at("audit.integrity.sequence", TARGET + 0.0),
    "a number below one": at("audit.integrity.sequence", 0),
    "no seal": without("audit.integrity"),
    "a seal that is a list": at("audit.integrity", []),
}  # fmt: skip


@pytest.mark.parametrize("edit", MISNUMBERED.values(), ids=MISNUMBERED)
def test_event_whose_seal_is_malformed_is_named_and_missed(history, edit):
    doc_id = f"{history.long}-{TARGET}"
    document = edit(history.documents()[doc_id])
    history.delete(doc_id)
    body = orjson.dumps(document)
    # Some of these the mapping would refuse; an index without one takes them, and joins the stream.
    try:
        history.create(doc_id, document)
    except AssertionError:
        assert b"integrity" in body
    found = history.found()
    assert ("deleted", history.long, TARGET) in found
    assert len(found) >= 1


def test_stand_in_that_the_shipper_would_have_made_is_counted(history):
    doc_id = f"{history.long}-{TARGET}"
    history.put({doc_id: refused(history.documents()[doc_id])})
    report = history.verify()
    assert report.findings == ()
    assert [note.count for note in report.notes if note.kind == "quarantined"] == [1]


def test_stand_in_of_another_event_is_out_of_place(history):
    documents = history.documents()
    mine, other = f"{history.long}-{TARGET}", f"{history.long}-{TARGET + 1}"
    history.put({mine: refused(documents[other])})
    kinds = {kind for kind, writer, _ in history.found() if writer == history.long}
    assert kinds & {"inserted", "reordered", "deleted"}


# Whoever has the signing key writes a chain again: heads in other places show it


def rewritten(history, start=TARGET):
    """Seal the chain of the long writer again, from an edited event on, and sign what must be signed."""
    key = SigningKey.load_or_create(history.settings.signing_key_path)
    documents = history.documents(history.long)
    previous = ""
    for document in documents.values():
        seal = document["audit"]["integrity"]
        if seal["sequence"] < start:
            continue
        if seal["sequence"] == start:
            document["user"]["id"] = "somebody-else"
            previous = seal["previous"]
        seal_anew(document, previous=previous)
        seal = document["audit"]["integrity"]
        if "signature" in seal:
            seal["signature"] = key.sign(signed_text(seal["hash"]))
        previous = seal["hash"]
    return documents


def elsewhere(tmp_path):
    """A machine that knows the public key and nothing else of the application's host."""
    return {"spool_dir": tmp_path / "elsewhere" / "spool"}


def test_chain_rewritten_with_the_key_is_shown_by_the_heads_of_the_host(history):
    history.put(rewritten(history))
    assert ("edited", history.long) in {(kind, writer) for kind, writer, _ in history.found()}


def test_chain_rewritten_with_the_key_is_shown_by_what_other_writers_signed(history, tmp_path):
    history.put(rewritten(history, start=2))
    assert ("edited", history.long) in {(kind, writer) for kind, writer, _ in history.found(**elsewhere(tmp_path))}


def test_chain_rewritten_with_the_key_is_shown_by_a_second_place(history, tmp_path):
    """Even where every other witness was rewritten too, only the place that nobody reached is left."""
    heads = tmp_path / "heads.log"
    signed = [
        document
        for document in history.documents(history.long).values()
        if "signature" in document["audit"]["integrity"]
    ]
    heads.write_bytes(b"".join(canonical(document) + b"\n" for document in signed))
    # From behind the last head that another writer signed.
    start = signed[-2]["audit"]["integrity"]["sequence"] + 2
    history.put(rewritten(history, start=start))
    settings = history.settings.model_copy(update=elsewhere(tmp_path))
    with AuditReader(settings=settings) as reader:
        without_heads = {(each.kind, each.writer) for each in reader.verify().findings}
        with_heads = {(each.kind, each.writer) for each in reader.verify(checkpoints=[heads]).findings}
    assert ("edited", history.long) not in without_heads
    assert ("edited", history.long) in with_heads


def test_writer_of_another_stream_is_inserted(history, client, tmp_path):
    """Signed by the same key, every hash right; its first event says where it belongs."""
    staging = history.settings.model_copy(
        update={"stream": f"{history.settings.stream}-staging", "spool_dir": tmp_path / "staging"}
    )
    with AuditAdmin(settings=staging) as admin:
        admin.setup()
    trail = Trail(staging)
    trail.emit("user.login", {"user_id": "u-1"})
    copied = trail.writer_id
    assert trail.shutdown(10) == 0
    client.request("POST", f"/{staging.stream}/_refresh")
    hits = client.request("POST", f"/{staging.stream}/_search", body={"size": 10})["hits"]["hits"]
    for hit in hits:
        history.create(hit["_id"], hit["_source"])
    assert ("inserted", copied, 1) in history.found()
    with AuditReader(settings=staging) as reader:
        assert reader.verify().findings == ()


def test_export_with_a_key_that_stands_twice_is_edited(history, tmp_path):
    document = canonical(history.documents()[f"{history.long}-{TARGET}"])
    file = tmp_path / "export.ndjson"
    lines = [canonical(each) for each in history.documents(history.long).values()]
    lines[TARGET - 1] = document.replace(b',"user":{"id":', b',"user":{"id":"alice"},"user":{"id":', 1)
    file.write_bytes(b"\n".join(lines))
    report = verify_files([file], history.settings, Filter())
    assert ("edited", TARGET) in {(each.kind, each.sequence) for each in report.findings}


def test_signature_of_another_event_is_forged(history):
    documents = history.documents(history.long)
    signed = [doc_id for doc_id, each in documents.items() if "signature" in each["audit"]["integrity"]]
    first, second = (documents[doc_id]["audit"]["integrity"] for doc_id in signed[:2])
    second["signature"] = first["signature"]
    history.put({signed[1]: documents[signed[1]]})
    assert ("checkpoint_forged", history.long, second["sequence"]) in history.found()


def test_paths_of_this_file_stay_many():
    """An edit that is left out would not be missed otherwise."""
    assert len(EDITS) + len(MISNUMBERED) >= 30
    assert Path(__file__).exists()
