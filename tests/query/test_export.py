"""Exports through scroll, on a real server."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import subprocess
import sys

import orjson
import pytest

from audit_logging.errors import FilterError, IncompleteResultError, NotFoundError, QueryError
from audit_logging.query import AuditReader
from audit_logging.query import export as export_module
from audit_logging.query.exchange import Request

from .trail import event

pytestmark = pytest.mark.server


@pytest.fixture
def stored(trail):
    """Twenty events, two of a microsecond, in no order."""
    documents = [event(f"e{n}", f"2026-03-01T12:00:00.{n // 2:06}Z", user__id=f"u-{n % 2}") for n in range(20)]
    sealed = [document for each in reversed(documents) for document in trail.add(each)]
    return sorted(sealed, key=lambda each: (each["@timestamp"], each["audit"]["integrity"]["sequence"]))


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(export_module, "PAGE_SIZE", 3)


@pytest.fixture
def asked(reader, monkeypatch):
    """Every request that the reader sends."""
    asked = []
    send = reader._send
    monkeypatch.setattr(reader, "_send", lambda request: asked.append(request) or send(request))
    return asked


def scroll_is_open(reader, scroll_id):
    try:
        reader._send(Request("POST", "/_search/scroll", {"scroll_id": scroll_id}, {}))
    except NotFoundError:
        return False
    return True


def stop(error, after):
    """Return a progress callback that raises once *after* hits are done."""

    def progress(done, total):
        if done >= after:
            raise error

    return progress


def test_a_file_holds_every_stored_document_in_order(stored, reader, tmp_path, small_pages):
    path = tmp_path / "trail.ndjson"
    steps = []
    report = reader.export(path, progress=lambda done, total: steps.append((done, total)))
    content = path.read_bytes()
    assert [orjson.loads(line) for line in content.splitlines()] == stored
    assert content.endswith(b"}\n")
    assert (report.path, report.events, report.copies) == (path, 20, 0)
    assert (report.bytes, report.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert steps == [(3, 20), (6, 20), (9, 20), (12, 20), (15, 20), (18, 20), (20, 20)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_is_the_document_as_it_was_written(trail, reader, tmp_path):
    """Order of keys, 64-bit integers, null and any text."""
    document = event("e", zeta={"b": None, "a": [True, 2**63 - 1, -(2**63)]}, alpha='"\\\u2028\x00\x7f😀')
    [sealed] = trail.add(document)
    reader.export(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == orjson.dumps(sealed) + b"\n"


def test_a_filter_applies_and_the_report_tells_its_times(stored, reader, tmp_path):
    report = reader.export(
        tmp_path / "x", user_id="u-1", since="2026-03-01T12:00:00.000002Z", until="2026-03-01T12:00:00.000008Z"
    )
    assert report.events == 6
    assert [report.since.microsecond, report.until.microsecond] == [2, 8]
    assert reader.export(tmp_path / "y", user_id="nobody").events == 0
    assert (tmp_path / "y").read_bytes() == b""


def test_gzip_by_the_name_and_the_same_bytes_each_time(stored, reader, tmp_path):
    reports = [reader.export(tmp_path / name) for name in ("a.ndjson.gz", "b.ndjson.gz")]
    content = (tmp_path / "a.ndjson.gz").read_bytes()
    assert [orjson.loads(line) for line in gzip.decompress(content).splitlines()] == stored
    assert {report.sha256 for report in reports} == {hashlib.sha256(content).hexdigest()}
    assert {report.bytes for report in reports} == {len(content)}


def test_standard_output_gets_the_lines_and_nothing_else(stored, settings):
    program = (
        "import sys; from audit_logging.query import AuditReader\n"
        "report = AuditReader(opensearch_url=sys.argv[1], stream=sys.argv[2]).export('-')\n"
        "print(report.sha256, report.path, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, settings.opensearch_url[0], settings.stream], capture_output=True, check=True
    )
    assert [orjson.loads(line) for line in done.stdout.splitlines()] == stored
    assert done.stderr.decode().split() == [hashlib.sha256(done.stdout).hexdigest(), "None"]


def test_identical_copies_are_left_out_across_pages(trail, stored, reader, tmp_path, small_pages):
    trail.rollover()
    trail.store(*stored[2:15])
    report = reader.export(tmp_path / "x")
    assert [orjson.loads(line) for line in (tmp_path / "x").read_bytes().splitlines()] == stored
    assert (report.events, report.copies) == (20, 13)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()])
def test_whatever_stops_it_leaves_no_file_and_no_open_scroll(stored, reader, tmp_path, small_pages, asked, error):
    path = tmp_path / "x"
    path.write_text("from before")
    with pytest.raises(type(error)):
        reader.export(path, progress=stop(error, after=6))
    assert path.read_text() == "from before"
    assert list(tmp_path.iterdir()) == [path]
    assert asked[-1].method == "DELETE"
    assert not scroll_is_open(reader, asked[-1].body["scroll_id"])


def test_the_scroll_is_closed_after_success_too(stored, reader, tmp_path, small_pages, asked):
    reader.export(tmp_path / "x")
    assert asked[-1].method == "DELETE"
    assert not scroll_is_open(reader, asked[-1].body["scroll_id"])


def test_a_scroll_that_the_server_forgot_is_no_end(stored, reader, tmp_path, small_pages, asked):
    def forget(done, total):
        if done == 6:
            reader._client.request("DELETE", "/_search/scroll", body={"scroll_id": asked[-1].body["scroll_id"]})

    with pytest.raises(IncompleteResultError, match=r"after 6 of 20 stored events .* export again"):
        reader.export(tmp_path / "x", progress=forget)
    assert list(tmp_path.iterdir()) == []


def test_a_backing_index_that_leaves_meanwhile_is_no_end(trail, stored, reader, tmp_path, small_pages):
    trail.rollover()
    trail.add(*(event(f"f{n}", "2026-03-02T12:00:00.000000Z") for n in range(20)))
    [first, _] = sorted(reader._client.request("GET", f"/{reader.settings.stream}"))

    def leave(done, total):
        if done == 24:
            reader._client.request("DELETE", f"/{first}")

    with pytest.raises(IncompleteResultError):
        reader.export(tmp_path / "x", progress=leave)
    assert list(tmp_path.iterdir()) == []


def test_fewer_hits_than_promised_are_an_error(stored, reader, tmp_path, small_pages, monkeypatch):
    """Should a page ever be empty too early."""
    send = reader._send

    def ending_early(request):
        answer = send(request)
        if request.path == "/_search/scroll" and request.method == "POST":
            answer["hits"]["hits"] = []
        return answer

    monkeypatch.setattr(reader, "_send", ending_early)
    with pytest.raises(IncompleteResultError, match="ended after 3 of 20 stored events"):
        reader.export(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_symlink_stays_and_its_target_is_replaced(stored, reader, tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    assert reader.export(tmp_path / "link").path == tmp_path / "target"
    assert (tmp_path / "link").is_symlink()
    assert len((tmp_path / "target").read_bytes().splitlines()) == 20


def test_places_that_cannot_hold_a_file(stored, reader, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises(QueryError, match="is not a file: give a file's name, or - for standard output"):
            reader.export(place)
    for place in (tmp_path / "no" / "where", "/proc/x", tmp_path / ("x" * 300)):
        with pytest.raises(QueryError, match=r"cannot be written to .* choose another place"):
            reader.export(place)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_full_disk_is_one_sentence(stored, reader, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(QueryError, match="No space left on device"):
        reader.export(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_unknown_formats_and_methods_are_one_sentence(settings, tmp_path):
    with AuditReader(settings=settings) as reader:
        with pytest.raises(FilterError, match="There is no export format 'xml'; there is ndjson"):
            reader.export(tmp_path / "x", format="xml")
        with pytest.raises(FilterError, match="There is no export method 'magic'; there is scroll"):
            reader.export(tmp_path / "x", method="magic")
    assert list(tmp_path.iterdir()) == []
