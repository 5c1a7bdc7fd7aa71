"""Files of events, read in constant memory, enter the trail exactly once."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from audit_logging import record_events
from audit_logging.capture.configuration import current_trail
from audit_logging.capture.context import context
from audit_logging.capture.trail import Trail
from audit_logging.errors import (
    EventFileError,
    IncompleteResultError,
    NotFoundError,
    NotIndexedError,
    OpenSearchError,
    SettingsError,
)
from audit_logging.integrations import event_file, importer
from audit_logging.integrations.cloudtrail import from_cloudtrail
from audit_logging.integrations.event_file import EventFile
from audit_logging.integrations.exported import from_own_format
from audit_logging.integrations.import_turn import ImportTurn
from audit_logging.integrations.importer import ImportReport, import_file
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.query.reader import AuditReader
from audit_logging.spool import segment
from audit_logging.spool.directory import SpoolDirectory
from tests.faults.proxy import FaultProxy
from tests.opensearch.front import Front
from tests.waiting import until

from .records import numbered, write_lines

REAL_DATA = Path(__file__).parents[3] / "shared" / "data" / "cloudtrail.ndjson.gz"


@pytest.fixture
def ready(settings):
    """Settings of a stream that is set up."""
    with AuditAdmin(settings=settings) as admin:
        admin.setup()
    return settings


@pytest.fixture
def ids(ready, client):
    """Return the ids of all stored documents, copies included."""

    def read():
        client.request("POST", f"/{ready.stream}/_refresh")
        body = {"size": 10_000, "_source": ["event.id"]}
        hits = client.request("POST", f"/{ready.stream}/_search", body=body)["hits"]["hits"]
        return sorted(hit["_source"]["event"]["id"] for hit in hits)

    return read


def run(path, settings, form="cloudtrail", **options):
    with EventFile(path) as file:
        return import_file(file, form, settings, **options)


def entries(path):
    with EventFile(path) as file:
        return [(entry.number, entry.problem or entry.value) for entry in file]


class TestEventFile:
    def test_reads_a_record_a_line_and_leaves_empty_ones_out(self, tmp_path):
        path = tmp_path / "lines"
        path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"b": 2}')
        assert entries(path) == [(1, {"a": 1}), (4, {"b": 2})]

    def test_reads_gzip_by_its_first_bytes_and_not_by_its_name(self, tmp_path):
        path = tmp_path / "no-gz-in-the-name"
        path.write_bytes(gzip.compress(b'{"a": 1}\n', mtime=0))
        assert entries(path) == [(1, {"a": 1})]

    @pytest.mark.parametrize("indent", [None, 2])
    @pytest.mark.parametrize("pack", [bytes, gzip.compress])
    def test_reads_cloudtrails_own_form(self, tmp_path, indent, pack):
        path = tmp_path / "records"
        path.write_bytes(pack(json.dumps({"Records": [{"é": "ü"}, 2, {}]}, indent=indent, ensure_ascii=False).encode()))
        with EventFile(path) as file:
            assert [(entry.noun, entry.number, entry.value) for entry in file] == [
                ("record", 1, {"é": "ü"}),
                ("record", 2, 2),
                ("record", 3, {}),
            ]

    def test_reads_records_that_lie_across_chunks(self, tmp_path, monkeypatch):
        monkeypatch.setattr(event_file, "_CHUNK_BYTES", 7)
        path = tmp_path / "records"
        path.write_text(json.dumps({"Records": numbered(3)}, ensure_ascii=False))
        assert [value for _, value in entries(path)] == numbered(3)

    def test_keeps_the_digits_of_numbers(self, tmp_path):
        path = tmp_path / "lines"
        path.write_text('{"a": 19.90, "b": NaN, "c": 123456789012345678901234567890}\n')
        assert entries(path) == [(1, {"a": "19.90", "b": "NaN", "c": 123456789012345678901234567890})]

    def test_an_empty_file_has_no_records(self, tmp_path):
        (tmp_path / "empty").touch()
        assert entries(tmp_path / "empty") == []

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            (b"{not json", "it is not JSON"),
            (b"\xff\xfe", "it is not JSON"),
            (b'{"a": ' + b"[" * 200_000, "nested too deeply"),
            (b'{"a": ' + b"9" * 5000 + b"}", "it is not JSON"),
        ],
    )
    def test_a_broken_line_harms_no_other(self, tmp_path, line, problem):
        path = tmp_path / "lines"
        path.write_bytes(b'{"a": 1}\n' + line + b'\n{"b": 2}\n')
        first, broken, last = entries(path)
        assert (first, last) == ((1, {"a": 1}), (3, {"b": 2}))
        assert broken[0] == 2
        assert problem in broken[1]

    def test_a_line_without_end_does_not_fill_the_memory(self, tmp_path, monkeypatch):
        monkeypatch.setattr(event_file, "MAX_RECORD_BYTES", 100)
        monkeypatch.setattr(event_file, "_CHUNK_BYTES", 64)
        path = tmp_path / "lines"
        path.write_bytes(b'{"a": "' + b"x" * 1000 + b'"}\n{"b": 2}\n')
        assert entries(path) == [(1, "it is longer than 100 bytes"), (2, {"b": 2})]

    def test_truncated_gzip_is_an_error_after_the_records_before_it(self, tmp_path):
        path = tmp_path / "damaged"
        path.write_bytes(gzip.compress(b'{"a": 1}\n' * 3, mtime=0)[:-9])
        seen = []
        with EventFile(path) as file, pytest.raises(EventFileError, match="cannot be read"):
            seen.extend(file)
        assert len(seen) <= 3

    def test_a_file_that_is_not_there_is_an_error(self, tmp_path):
        with pytest.raises(EventFileError, match="No such file"):
            EventFile(tmp_path / "nowhere")


class TestOwnFormat:
    def round_trip(self, document):
        event = from_own_format(json.loads(json.dumps(document), parse_float=str))
        with record_events(
            service="importer", on_invalid="record", severity_overrides={"user.login": "critical"}
        ) as events:
            current_trail().emit(event.event_type, event.facts, origin=event.origin)
        return events[0]

    @pytest.mark.parametrize(
        ("event_type", "facts"),
        [
            ("user.login", {"user_id": "u-42", "method": "totp", "outcome": "failure", "reason": "expired"}),
            ("purchase.completed", {"amount": "19.90", "currency": "EUR", "product_id": "p", "transaction_id": "t"}),
            ("purchase.completed", {"amount": "a lot", "currency": "euros", "basket": {"a": [1, 2.5]}}),
            ("api.call", {"endpoint": "/a", "method": "GET", "status_code": 503, "response_time_ms": 12.3456}),
            ("api.call", {"endpoint": "/a/{id}", "url_path": "/a/1", "method": "GET", "status_code": 200}),
            ("api.call", {"url_path": "/a", "metadata": {"method": "odd"}}),
            ("websocket.closed", {"endpoint": "/ws/{id}", "url_path": "/ws/1", "close_code": 1001, "duration_ms": 1.5}),
            ("admin.role_change", {"target_user_id": "u-1", "changes": {"role": {"before": "a", "after": "b"}}}),
            (
                "shop.own_type",
                {"tags": ["a"], "labels": {"k": "v"}, "metadata": {"user_id": "not the actor", "x": None}},
            ),
            ("shop.own_type", {"source_ip": "nowhere", "timestamp": "whenever", "user_roles": "one"}),
            ("shop.own_type", {"document": {"mine": 1}, "metadata": "no object", "password": "p", "client_ip": "::1"}),
            (
                "shop.own_type",
                {"long": "x" * 40_000, "deep": json.loads("[" * 15 + "]" * 15), "big": ["y" * 30_000] * 40},
            ),
            ("No Type At All", {"message": "said", "trace_id": "t", "span_id": "s", "http_method": "GET"}),
        ],
    )
    def test_an_exported_document_becomes_the_same_again(self, event_type, facts):
        with record_events(service="shop", service_version="1", on_invalid="record") as events:
            current_trail().emit(event_type, facts)
        original = events[0] | {"host": {"name": "elsewhere"}, "process": {"pid": 4711}}
        sealed = original | {"audit": original["audit"] | {"integrity": {"writer": "w", "sequence": 1}}}
        assert self.round_trip(sealed) == original

    def test_an_api_call_from_before_http_route_becomes_the_same_again(self):
        """Its `url.path` is the route and its path is metadata."""
        facts = {"endpoint": "/a/{id}", "url_path": "/a/1", "method": "GET", "status_code": 200}
        with record_events(service="shop") as events:
            current_trail().emit("api.call", facts)
        old = events[0]
        old["url"]["path"] = old["http"].pop("route")
        old["audit"]["metadata"] = {"url_path": "/a/1"}
        assert self.round_trip(old) == old

    def test_what_has_no_place_any_more_stays_in_the_metadata(self):
        with record_events() as events:
            current_trail().emit("shop.own_type", {})
        strange = events[0] | {"cloud": {"region": "eu"}, "user": "a scalar", "client": {"port": 1}}
        metadata = self.round_trip(strange)["audit"]["metadata"]
        assert metadata["document"] == {"cloud": {"region": "eu"}, "user": "a scalar", "client": {"port": 1}}

    def test_a_quarantined_event_is_taken_for_what_it_was(self):
        with record_events() as events:
            current_trail().emit("user.login", {"user_id": "u-42"})
        quarantine = {"document": json.dumps(events[0]), "reason": "mapper_parsing_exception"}
        stand_in = events[0] | {
            "event": {"action": "audit.quarantined", "id": "x"},
            "audit": {"quarantine": quarantine},
        }
        assert self.round_trip(stand_in) == events[0]

    def test_a_quarantined_event_that_is_no_json_stays_what_it_is(self):
        stand_in = {
            "@timestamp": "2026-03-01T10:00:00Z",
            "audit": {"schema": "1", "quarantine": {"document": "{torn"}},
            "event": {"action": "audit.quarantined", "id": "e-1"},
        }
        assert from_own_format(stand_in).event_type == "audit.quarantined"

    def test_keywords_are_facts(self):
        event = from_own_format({"event_type": "user.login", "event_id": 17, "user_id": "u-42"})
        assert event == ("user.login", {"event_id": "17", "user_id": "u-42"}, {})

    def test_without_an_id_the_content_and_the_place_are_the_identity(self):
        line = {"event_type": "user.login", "user_id": "u-42"}
        assert from_own_format(line, (1,)).event_id == from_own_format(dict(line), (1,)).event_id
        assert from_own_format(line, (1,)).event_id != from_own_format(line, (2,)).event_id

    @pytest.mark.parametrize(
        ("line", "why"),
        [
            ([1], "not a JSON object"),
            ({"user_id": "u"}, "neither an exported event"),
            ({"event_type": 7}, "its event_type is 7"),
            ({"event_type": " "}, "its event_type is ' '"),
            ({"@timestamp": "2026-03-01T10:00:00Z", "event": {}}, "no event.action"),
            ({"@timestamp": "2026-03-01T10:00:00Z", "event": {"action": "a.b", "id": "e"}}, "its audit.schema is None"),
            ({"@timestamp": 1e9, "event": {"action": "a.b", "id": "e"}, "audit": {"schema": "1"}}, "its @timestamp"),
        ],
    )
    def test_a_line_that_is_no_event_says_why(self, line, why):
        with pytest.raises(EventFileError, match=why):
            from_own_format(line)


@pytest.mark.server
class TestImport:
    def test_a_second_import_changes_nothing(self, tmp_path, ready, ids, client):
        path = write_lines(tmp_path / "trail", numbered(20))
        mapping = client.request("GET", f"/{ready.stream}/_mapping")
        assert run(path, ready) == ImportReport(read=20, imported=20)
        first = ids()
        assert run(path, ready) == ImportReport(read=20, already_there=20)
        assert ids() == first == sorted(f"event-{number}" for number in range(20))
        assert client.request("GET", f"/{ready.stream}/_mapping") == mapping

    def test_duplicates_within_the_file_are_one_event(self, tmp_path, ready, ids, monkeypatch):
        monkeypatch.setattr(importer, "BATCH_EVENTS", 4)
        path = write_lines(tmp_path / "trail", numbered(6) * 2 + numbered(6)[:1] * 2)
        assert run(path, ready) == ImportReport(read=14, imported=6, already_there=8)
        assert len(ids()) == 6

    def test_a_batch_is_bounded_in_bytes(self, tmp_path, ready, ids, monkeypatch):
        monkeypatch.setattr(importer, "BATCH_BYTES", 1000)
        batches = []
        path = write_lines(tmp_path / "trail", numbered(6))
        run(path, ready, on_progress=lambda report: batches.append(report.imported))
        assert batches == [2, 4, 6]
        assert len(ids()) == 6

    def test_a_broken_line_ends_it_and_everything_before_is_in(self, tmp_path, ready, ids):
        path = write_lines(tmp_path / "trail", [*numbered(3), "{broken", *numbered(5)[3:]])
        with pytest.raises(EventFileError, match=r"line 4: it is not JSON .*read 4, imported 3") as caught:
            run(path, ready)
        assert caught.value.line == 4
        assert len(ids()) == 3

    def test_broken_lines_can_be_left_out(self, tmp_path, ready, ids):
        broken = []
        path = write_lines(tmp_path / "trail", [*numbered(2), "{broken", {"no": "record"}, *numbered(3)[2:]])
        report = run(path, ready, on_broken=lambda number, why: broken.append((number, why.partition(" (")[0])))
        assert report == ImportReport(read=5, imported=3, broken=2)
        assert broken == [(3, "it is not JSON"), (4, "it is no CloudTrail record: it has no eventSource")]
        assert len(ids()) == 3

    def test_a_torn_archive_gives_what_it_holds(self, tmp_path, ready, ids):
        path = tmp_path / "trail.gz"
        # Stored and not compressed, so that it is known how much of it can be read.
        text = "".join(json.dumps(line) + "\n" for line in numbered(4)).encode()
        path.write_bytes(gzip.compress(text, 0, mtime=0)[:-9])
        with pytest.raises(EventFileError, match="cannot be read"):
            run(path, ready, on_broken=lambda *_: None)
        assert ids() == [f"event-{number}" for number in range(len(ids()))]

    def test_exported_events_come_back_the_same(self, tmp_path, ready, opensearch_server):
        trail = Trail(ready)
        trail.emit("user.login", {"user_id": "u-42", "source_ip": "203.0.113.7", "method": "totp"})
        trail.emit("api.call", {"endpoint": "/a", "method": "GET", "status_code": 404, "response_time_ms": 3.25})
        trail.emit(
            "purchase.completed", {"amount": "x", "currency": "EUR", "changes": {"a": 1}, "note": ["n", {"m": 1.5}]}
        )
        assert trail.shutdown(20) == 0
        copy = ready.model_copy(update={"stream": f"{ready.stream}-copy", "service": "importer"})
        with AuditAdmin(settings=copy) as admin:
            admin.setup()
        before, after = tmp_path / "before.ndjson", tmp_path / "after.ndjson"
        refresh_and_export(ready, before)
        assert run(before, copy, "ndjson") == ImportReport(read=3, imported=3)
        assert run(before, copy, "ndjson") == ImportReport(read=3, already_there=3)
        refresh_and_export(copy, after)
        assert unsealed(after) == unsealed(before)

    def test_lines_without_time_and_id_are_events_of_their_file(self, tmp_path, ready, ids):
        line = {"event_type": "job.ran", "user_id": "cron"}
        monday = write_lines(tmp_path / "monday.ndjson", [line, line])
        tuesday = write_lines(tmp_path / "tuesday.ndjson", [line])
        assert run(monday, ready, "ndjson").imported == 2
        assert run(tuesday, ready, "ndjson").imported == 1
        assert run(monday, ready, "ndjson").already_there == 2
        assert len(ids()) == 3

    def test_a_context_around_it_is_not_the_events(self, tmp_path, ready, ids, client):
        path = write_lines(tmp_path / "trail", numbered(1, userIdentity=None))
        with context(user_id="the importing admin"):
            run(path, ready)
        ids()
        hit = client.request("POST", f"/{ready.stream}/_search")["hits"]["hits"][0]
        assert "user" not in hit["_source"]


@pytest.mark.server
class TestInterruption:
    def test_what_a_dead_process_left_in_the_spool_is_not_doubled(self, tmp_path, ready, ids):
        offline = Trail(ready.model_copy(update={"opensearch_url": ()}))
        for left in numbered(5):
            event = from_cloudtrail(left)
            offline.emit(event.event_type, event.facts, origin=event.origin)
        assert offline.shutdown(0) == 5
        path = write_lines(tmp_path / "trail", numbered(8))
        assert run(path, ready) == ImportReport(read=8, imported=3, already_there=5)
        assert ids() == [f"event-{number}" for number in range(8)]

    @pytest.mark.parametrize("fed", [1500, 2500])
    def test_after_kill_9_a_second_import_completes_it_exactly_once(self, tmp_path, ready, ids, fed):
        """It is killed while its events are partly in the stream, partly in the spool, partly unread."""
        records = numbered(3000)
        path = write_lines(tmp_path / "trail", records)
        lines = path.read_bytes().splitlines(keepends=True)
        environment = {
            **os.environ,
            "AUDIT_OPENSEARCH_URL": ready.opensearch_url[0],
            "AUDIT_STREAM": ready.stream,
            "AUDIT_HOME": str(ready.home),
            "AUDIT_BATCH_MAX_BYTES": "20000",
        }
        command = [sys.executable, "-m", "audit_logging", "import", "--format", "cloudtrail", "-"]
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            process.stdin.write(b"".join(lines[:fed]))
            process.stdin.flush()
            full_batches = fed // importer.BATCH_EVENTS
            until(lambda: spooled(ready) > (full_batches - 1) * 600_000, process)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        report = run(path, ready)
        assert report.already_there + report.imported == 3000
        assert report.already_there > 0
        assert ids() == sorted(f"event-{number}" for number in range(3000))

    def test_when_opensearch_goes_away_it_says_what_remains_and_a_second_import_goes_on(
        self, tmp_path, ready, ids, opensearch_server, monkeypatch
    ):
        monkeypatch.setattr(importer, "BATCH_EVENTS", 3)
        path = write_lines(tmp_path / "trail", numbered(10))
        with FaultProxy(opensearch_server.url) as proxy:
            away = ready.model_copy(update={"opensearch_url": (proxy.url,)})
            proxy.faults.append(lambda *_: False)

            def break_after_the_first_batch(report):
                proxy.faults.extend([proxy.drop] * 10_000 if report.imported == 6 else [])

            with pytest.raises(
                NotIndexedError, match=r"went away.*imported 6.*3 of the imported events remain"
            ) as caught:
                run(path, away, patience_seconds=1, on_progress=break_after_the_first_batch)
        assert caught.value.exit_code == 4
        report = run(path, ready)
        assert report == ImportReport(read=10, imported=4, already_there=6)
        assert len(ids()) == 10

    def test_an_incomplete_lookup_is_no_answer(self, tmp_path, ready, opensearch_server, ids):
        path = write_lines(tmp_path / "trail", numbered(2))
        failed = {"timed_out": False, "_shards": {"total": 2, "failed": 1, "failures": []}, "aggregations": {}}
        with Front(opensearch_server.url) as front:
            front.answer(f"/{ready.stream}/_search", (200, failed))
            with pytest.raises(IncompleteResultError, match="1 of 2 shards failed"):
                run(path, ready.model_copy(update={"opensearch_url": (front.url,)}))
        assert ids() == []

    def test_another_process_that_ships_the_dead_imports_events_is_waited_for(self, tmp_path, ready, ids):
        spool = SpoolDirectory(ready.spool_path, ready.stream)
        writer = "ab" * 10
        with ImportTurn(ready.spool_path, ready.stream) as turn:
            turn.note_writer(writer)
        adopted = spool.create(writer)
        path = write_lines(tmp_path / "trail", numbered(2))
        with pytest.raises(OpenSearchError, match=r"did not reach OpenSearch within 0\.2 seconds"):
            run(path, ready, patience_seconds=0.2)
        assert ids() == []
        adopted.remove()
        assert run(path, ready).imported == 2

    def test_a_spool_that_nobody_can_ship_stops_it_before_it_begins(self, tmp_path, ready, ids, monkeypatch):
        dead = SpoolDirectory(ready.spool_path, ready.stream).create("cd" * 10)
        with monkeypatch.context() as later:
            later.setattr(segment, "VERSION", 2)
            (dead.path / "00000000000000000001.seg").write_bytes(segment.encode_header("cd" * 10, 1))
        dead.release()
        path = write_lines(tmp_path / "trail", numbered(1))
        with pytest.raises(OpenSearchError, match="may be of this file"):
            run(path, ready, patience_seconds=5)
        assert ids() == []

    def test_one_import_at_a_time(self, tmp_path, ready):
        path = write_lines(tmp_path / "trail", numbered(1))
        with (
            ImportTurn(ready.spool_path, ready.stream),
            pytest.raises(SettingsError, match="Another import works with the spool"),
        ):
            run(path, ready)

    def test_a_stream_that_is_not_set_up_says_what_to_do(self, tmp_path, settings):
        path = write_lines(tmp_path / "trail", numbered(1))
        with pytest.raises(NotFoundError, match="audit-logging setup"):
            run(path, settings)
        assert list(settings.spool_path.glob("import-*")) == []

    def test_a_spool_that_cannot_be_used_says_so(self, tmp_path, ready):
        path = write_lines(tmp_path / "trail", numbered(1))
        (tmp_path / "file").touch()
        with pytest.raises(SettingsError, match="cannot be used"):
            run(path, ready.model_copy(update={"spool_dir": tmp_path / "file"}))


@pytest.mark.server
@pytest.mark.skipif(not REAL_DATA.exists(), reason="the real CloudTrail records (../shared/data) are not here")
class TestRealRecords:
    def test_go_in_completely_once_and_are_found_again(self, ready, client):
        mapping = client.request("GET", f"/{ready.stream}/_mapping")
        assert run(REAL_DATA, ready) == ImportReport(read=1934, imported=1934)
        assert run(REAL_DATA, ready) == ImportReport(read=1934, already_there=1934)
        assert client.request("GET", f"/{ready.stream}/_mapping") == mapping
        with AuditReader(settings=ready) as reader:
            assert reader.count() == 1934
            assert reader.count(user_id="arn:aws:iam::123837392027:user/bert-jan") == 1765
            assert reader.count(event_type="aws.kms.decrypt") == 116
            assert reader.count(metadata={"eventName": "Decrypt"}) == 116
            assert reader.count(text="CreateUser") == 2
            assert reader.count(source_ip="192.168.10.20") == 1444
            assert reader.count(source_ip="10.0.0.0/8") == 244
            assert reader.count(outcome="failure") == 206
            assert reader.count(metadata={"errorCode": "Client.UnauthorizedOperation"}) == 30
            assert reader.count(text="UnauthorizedOperation") + reader.count(text="Client.UnauthorizedOperation") >= 30
            assert reader.count(category="authentication", event_type="user.login") == 2
            assert reader.count(organization_id="123837392027") == 1934
            assert reader.count(since="2023-07-10T12:00:00Z", until="2023-07-10T12:38:00Z") > 0
            assert reader.count(service="iam.amazonaws.com") == 273


def refresh_and_export(settings, path):
    with AuditReader(settings=settings) as reader:
        reader._client.request("POST", f"/{settings.stream}/_refresh")
        reader.export(path)


def unsealed(path):
    documents = [json.loads(line) for line in path.read_text().splitlines()]
    for document in documents:
        assert set(document["audit"].pop("integrity")) == {"hash", "previous", "sequence", "writer"}
    return sorted(documents, key=lambda document: document["event"]["id"])


def spooled(settings):
    """Return how many bytes all writers wrote so far, acknowledged or not."""
    return sum(path.stat().st_size for path in settings.spool_path.glob("*/*.seg"))
