"""The archive: written, proven and kept before an index leaves, and searchable again afterwards."""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
import sys

import pytest

from audit_logging.errors import ArchiveError, OpenSearchError, RefusedError
from audit_logging.integrations.admin import AuditAdmin
from audit_logging.opensearch.archive import verify_archive
from audit_logging.query.reader import AuditReader

from .travel import Traveller, travelling

pytestmark = pytest.mark.server


@pytest.fixture
def trail(settings):
    with travelling(settings) as traveller:
        yield traveller


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "archive"


@pytest.fixture
def archived(trail, archive):
    """The manifest of an index with three events of two writers, which has left."""
    trail.emit("u-1", "u-2")
    trail.emit("u-3")
    trail.roll_over()
    report = trail.later(days=2).apply(archive)
    assert report.deleted == [trail.name(1)]
    return next(archive.glob(f"{trail.stream}-000001-*.manifest.json"))


def file_of(manifest):
    return manifest.with_name(json.loads(manifest.read_text())["file"])


def rewrite(trail, whose, **changes):
    """Change one event as an administrator can where the stream is not append-only; return its id."""
    body = {"query": {"term": {"user.id": whose}}, "seq_no_primary_term": True}
    [hit] = trail.client.request("POST", f"/{trail.name(1)}/_search", body=body)["hits"]["hits"]
    params = {"if_seq_no": hit["_seq_no"], "if_primary_term": hit["_primary_term"], "refresh": True}
    document = {**hit["_source"], **changes}
    trail.client.request("PUT", f"/{trail.name(1)}/_doc/{hit['_id']}", params=params, body=document)
    return hit["_id"]


def test_an_index_is_archived_whole_before_it_leaves(trail, archive, archived):
    told = json.loads(archived.read_text())
    assert (told["stream"], told["index"], told["events"]) == (trail.stream, trail.name(1), 3)
    documents = [json.loads(line) for line in gzip.decompress(file_of(archived).read_bytes()).splitlines()]
    assert [document["user"]["id"] for document in documents] == ["u-1", "u-2", "u-3"]
    assert verify_archive(archived).sha256 == told["sha256"]
    [seal] = [seal for seal in trail.recorded("audit.index_sealed") if seal["index"] == trail.name(1)]
    assert told["writers"] == seal["writers"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in archive.iterdir()} == {0o600}
    assert stat.S_IMODE(archive.stat().st_mode) == 0o700


def test_a_sealed_index_is_archived_long_before_it_leaves_and_once(trail, archive):
    trail.days = 90
    trail.emit("u-1")
    trail.roll_over()
    assert trail.later(minutes=11).apply(archive).archived == [trail.name(1)]
    assert trail.apply(archive).archived == []
    assert len(list(archive.iterdir())) == 2


def test_an_index_whose_archive_cannot_be_written_stays(trail, tmp_path):
    trail.emit("u-1")
    trail.roll_over()
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(ArchiveError, match="so it stays"):
        trail.later(days=2).apply(in_the_way / "archive")
    assert "000001" in trail.indices()


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "other"])
def test_an_index_whose_archive_was_damaged_stays(trail, archive, damage):
    trail.emit("u-1", "u-2")
    trail.roll_over()
    trail.emit("u-1", "u-3")
    trail.roll_over()
    trail.later(minutes=11).apply(archive)
    first, second = sorted(archive.glob("*.ndjson.gz"))
    whole = first.read_bytes()
    {
        "cut": lambda: first.write_bytes(whole[:-30]),
        "flipped": lambda: first.write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]),
        "gone": first.unlink,
        "other": lambda: first.write_bytes(second.read_bytes()),
    }[damage]()
    with pytest.raises(ArchiveError):
        trail.later(days=2).apply(archive)
    assert trail.indices()[:2] == ["000001", "000002"]


def test_the_archive_of_another_index_is_none_of_this_one(trail, archive):
    trail.emit("u-1")
    trail.roll_over()
    trail.emit("u-2")
    trail.roll_over()
    trail.later(minutes=11).apply(archive)
    first, second = sorted(archive.glob("*.manifest.json"))
    first.write_bytes(second.read_bytes())
    with pytest.raises(ArchiveError, match="archive of another index"):
        trail.later(days=2).apply(archive)


def test_an_index_with_an_event_that_was_changed_is_not_archived_and_stays(settings, archive):
    with AuditAdmin(settings=settings) as admin:
        admin.setup(append_only=False)
        trail = Traveller(admin)
        trail.emit("u-1", "u-2")
        trail.roll_over()
        trail.later(minutes=11).apply()
        changed = rewrite(trail, "u-2", user={"id": "u-1"})
        with pytest.raises(ArchiveError, match=f"The event {changed} is not the one that was sealed"):
            trail.later(days=2).apply(archive)
        assert "000001" in trail.indices()
        assert not list(archive.glob("*.manifest.json"))


def test_an_index_that_lost_the_end_of_a_chain_disagrees_with_its_seal(settings, archive):
    """Though it holds as many events as before, and each that has a seal is what was sealed."""
    with AuditAdmin(settings=settings) as admin:
        admin.setup(append_only=False)
        trail = Traveller(admin)
        trail.emit("u-1", "u-2")
        trail.emit("u-3")
        trail.roll_over()
        trail.later(minutes=11).apply()
        rewrite(trail, "u-2", audit={"schema": "1"})
        with pytest.raises(ArchiveError, match="others than its seal in the trail says"):
            trail.later(days=2).apply(archive)
        assert "000001" in trail.indices()


def test_an_empty_index_and_events_of_strangers_are_archived_too(trail, archive):
    trail.client.request("PUT", f"/{trail.stream}/_create/x", body={"@timestamp": "2026-03-02T00:00:00Z"})
    trail.roll_over()
    trail.roll_over()
    assert trail.later(days=2).apply(archive).deleted[:2] == [trail.name(1), trail.name(2)]
    counts = sorted(json.loads(path.read_text())["events"] for path in archive.glob("*00000[12]*.manifest.json"))
    assert counts == [0, 1]
    restored = trail.admin.restore_archive(sorted(archive.glob("*00000[12]*.manifest.json")))
    again = trail.admin.restore_archive(sorted(archive.glob("*00000[12]*.manifest.json")))
    assert (restored.restored, again.restored) == (1, 0)


def test_what_was_restored_is_found_by_the_same_commands_under_the_ids_it_had(trail, archived, settings):
    seen = []
    report = trail.admin.restore_archive([archived], progress=lambda done, total: seen.append((done, total)))
    assert report.stream == f"{trail.stream}-restored-000001"
    assert (report.events, report.restored) == (3, 3)
    assert seen == [(3, 3)]
    with AuditReader(settings=settings.model_copy(update={"stream": report.stream})) as reader:
        assert reader.count(event_type="user.login") == 3
        [event] = reader.search(user_id="u-2").events
        integrity = event.document["audit"]["integrity"]
        assert reader.get(f"{integrity['writer']}-{integrity['sequence']}").user_id == "u-2"


def test_a_restored_stream_takes_no_events_and_leaves_the_trail_alone(trail, archived):
    stream = trail.admin.restore_archive([archived]).stream
    with pytest.raises(RefusedError, match="blocked by"):
        trail.client.request("PUT", f"/{stream}/_create/x", body={"@timestamp": "2026-03-02T00:00:00Z"})
    assert trail.name(1) not in {outlook.index.name for outlook in trail.plan().outlooks}


def test_restoring_twice_changes_nothing_and_several_archives_go_into_one_stream(trail, archive, archived):
    trail.emit("u-4")
    trail.roll_over()
    trail.later(days=2).apply(archive)
    manifests = sorted(archive.glob("*.manifest.json"))
    one = trail.admin.restore_archive([archived], name="case-12")
    both = trail.admin.restore_archive(manifests, name="case-12")
    assert one.stream == both.stream == f"{trail.stream}-restored-case-12"
    assert both.restored == both.events - 3
    assert trail.admin.restore_archive(manifests, name="case-12").restored == 0


def test_a_restore_in_small_batches_is_the_same(trail, archived, monkeypatch):
    monkeypatch.setattr("audit_logging.opensearch.archive_restore.BATCH_BYTES", 1)
    seen = []
    report = trail.admin.restore_archive([archived], progress=lambda done, total: seen.append(done))
    assert (report.restored, seen) == (3, [1, 2, 3])


def test_a_server_that_refuses_what_is_restored_is_told_of(trail, archived):
    """As when the fields of the events changed their type since."""
    name = f"{trail.stream}-restored-000001"
    trail.admin.restore_archive([archived])
    trail.client.request("DELETE", f"/_data_stream/{name}")
    path = f"/_component_template/{name}-mappings"
    template = trail.client.request("GET", path)["component_templates"][0]["component_template"]
    template["version"] += 1
    trail.client.request("PUT", path, body=template)
    with pytest.raises(OpenSearchError, match="newer than this audit-logging"):
        trail.admin.restore_archive([archived])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "x"}, "no manifest of an archive"),
        ({"version": 2}, "no manifest of an archive"),
        ({"file": "../x.ndjson.gz"}, "outside its own directory"),
        ({"file": "x.ndjson.gz"}, "cannot be read"),
        ({"events": 4}, "disagree in events"),
        ({"writers": []}, "disagree in writers"),
        ({"sha256": "0"}, "disagree in sha256"),
        ({"more": 1}, "is damaged"),
    ],
)
def test_a_manifest_that_is_not_true_restores_nothing(trail, archived, change, message):
    archived.write_text(json.dumps({**json.loads(archived.read_text()), **change}))
    with pytest.raises(ArchiveError, match=message):
        trail.admin.restore_archive([archived])
    assert not trail.client.request("GET", f"/_cat/indices/{trail.stream}-restored-*", params={"format": "json"})


def test_files_that_are_no_archives_are_named(trail, archived, tmp_path):
    broken = tmp_path / "x.manifest.json"
    for content, message in ((b"{", "is damaged"), (b"[]", "no manifest")):
        broken.write_bytes(content)
        with pytest.raises(ArchiveError, match=message):
            verify_archive(broken)
    with pytest.raises(ArchiveError, match="cannot be read"):
        verify_archive(tmp_path / "none.manifest.json")
    for line in (b"{}", b"x", b'{"@timestamp": "x", "audit": {"integrity": {}}}', b'{"@timestamp": "x", "audit": [1]}'):
        file_of(archived).write_bytes(gzip.compress(line))
        with pytest.raises(ArchiveError, match="line 1, is no event"):
            verify_archive(archived)


def test_archives_of_several_streams_and_impossible_names_are_refused(trail, archived, tmp_path):
    other = json.loads(archived.read_text()) | {"stream": "other"}
    path = tmp_path / "other.manifest.json"
    path.write_text(json.dumps(other))
    path.with_name(other["file"]).write_bytes(file_of(archived).read_bytes())
    with pytest.raises(ArchiveError, match="several streams"):
        trail.admin.restore_archive([archived, path])
    with pytest.raises(ArchiveError, match="cannot be the name of a stream"):
        trail.admin.restore_archive([archived], name="Case 12")


def test_readings_of_a_restored_archive_are_recorded_in_the_live_stream(trail, archived, settings, tmp_path):
    """The restored one takes nothing, so that they would wait in the spool for ever."""
    stream = trail.admin.restore_archive([archived]).stream
    restored = settings.model_copy(update={"stream": stream, "audit_exports": True, "audit_verifications": True})
    with AuditReader(settings=restored) as reader:
        reader.export(tmp_path / "restored.ndjson")
        reader.verify()
    arguments = ["search", "--user-id", "u-1", "--stream", stream]
    environment = {**os.environ, "AUDIT_HOME": str(settings.home), "AUDIT_AUDIT_SEARCHES": "true"}
    environment |= {"AUDIT_OPENSEARCH_URL": settings.opensearch_url[0]}
    command = [sys.executable, "-m", "audit_logging", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert "u-1" in done.stdout
    trail.client.request("POST", f"/{trail.stream}/_refresh")
    recorded = {
        action: [facts["resource"] for facts in trail.recorded(action)]
        for action in ("audit.exported", "audit.verified", "audit.searched")
    }
    assert recorded == {action: [stream] for action in recorded}
    assert not list((settings.spool_path / stream).glob("*")), "nothing waits that no stream takes"
