"""Exports, on a real server."""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
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
from audit_logging.query.export import parts, view
from audit_logging.query.export.check import check_export

from .trail import altered, event

pytestmark = pytest.mark.server


@pytest.fixture
def stored(trail):
    """Twenty events, two of a microsecond, in no order."""
    documents = [event(f"e{n}", f"2026-03-01T12:00:{n // 2:02}.{n // 2:06}Z", user__id=f"u-{n % 2}") for n in range(20)]
    sealed = [document for each in reversed(documents) for document in trail.add(each)]
    return sorted(sealed, key=lambda each: (each["@timestamp"], each["audit"]["integrity"]["sequence"]))


@pytest.fixture
def reader(settings):
    """One whose exports are no events, so that the stream stays as the test filled it."""
    with AuditReader(settings=settings.model_copy(update={"audit_exports": False})) as reader:
        yield reader


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(view, "LARGEST_PAGE", 3)


@pytest.fixture
def small_parts(monkeypatch, small_pages):
    monkeypatch.setattr(parts, "LARGEST_PART", 7)


@pytest.fixture(params=["pit", "scroll"])
def method(request):
    return request.param


def spy_on(reader, monkeypatch, spy):
    """Let *spy* see every request of an export; it is given the sending and answers with bytes."""
    begin = reader._client.begin

    def spied(method, path, **rest):
        answer = spy(lambda *args, **more: begin(*args, **more)(), method, path, **rest)
        return lambda: answer

    monkeypatch.setattr(reader._client, "begin", spied)


@pytest.fixture
def asked(reader, monkeypatch):
    """Every request for an export, with its answer once there is one."""
    asked = []

    def spy(send, method, path, **rest):
        asked.append([method, path, rest, None])
        asked[-1][-1] = answer = send(method, path, **rest)
        return answer

    spy_on(reader, monkeypatch, spy)
    return asked


def views(asked):
    """The path and id of every view that was opened."""
    found = set()
    for _, path, _, answer in asked:
        for name, where in (("_scroll_id", "/_search/scroll"), ("pit_id", "/_search/point_in_time")):
            if answer and name in (opened := orjson.loads(answer)) and path != "/_search":
                found.add((where, opened[name]))
    return found


def is_open(reader, path, view_id):
    body = {"scroll_id": view_id} if path.endswith("scroll") else {"pit": {"id": view_id}, "size": 0}
    try:
        reader._client.request("POST", path if path.endswith("scroll") else "/_search", body=body)
    except NotFoundError:
        return False
    return True


def forget(reader, path, view_id):
    name, value = ("scroll_id", view_id) if path.endswith("scroll") else ("pit_id", [view_id])
    with contextlib.suppress(NotFoundError):  # the export may have been quicker
        reader._client.request("DELETE", path, body={name: value})


def stop(error, after):
    """Return a progress callback that raises once *after* hits are done."""

    def progress(done, total):
        if done >= after:
            raise error

    return progress


def lines_of(path):
    data = path.read_bytes()
    return [orjson.loads(line) for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()]


@pytest.mark.parametrize("small", ["", "small_pages", "small_parts"])
def test_a_file_holds_every_stored_document_in_order(stored, reader, tmp_path, method, small, request):
    if small:
        request.getfixturevalue(small)
    path = tmp_path / "trail.ndjson"
    steps = []
    report = reader.export(path, method=method, progress=lambda done, total: steps.append((done, total)))
    content = path.read_bytes()
    assert [orjson.loads(line) for line in content.splitlines()] == stored
    assert content.endswith(b"}\n")
    assert (report.path, report.events, report.copies, report.method) == (path, 20, 0, method)
    assert (report.bytes, report.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert report.content_sha256 == report.sha256
    assert steps == sorted(steps)
    assert steps[-1] == (20, 20)
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    assert sorted(tmp_path.iterdir()) == [path, report.manifest]


def test_a_line_is_the_document_as_it_was_written(trail, reader, tmp_path):
    """Order of keys, integers of 64 bits and beyond, floats, null and any text: nothing is parsed and written anew."""
    document = event("e", zeta={"b": None, "a": [True, 2**63 - 1, -(2**63)]}, alpha='"\\\u2028\x00\x7f😀')
    [sealed] = trail.add(document)
    foreign = b'{ "@timestamp" : "2026-04-01T00:00:00Z",\r\n "big" : 123456789012345678901234567890, "f" : 1.50e0 }'
    reader._client.request("POST", f"/{reader.settings.stream}/_create/foreign?refresh=true", body=foreign)
    reader.export(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == orjson.dumps(sealed) + b"\n" + foreign.replace(b"\r\n", b"  ") + b"\n"


def test_events_in_many_backing_indices_and_out_of_their_time_come_in_order(trail, reader, tmp_path, small_parts):
    """Late ones, of several writers, of the same moment, and without a seal."""
    documents = []
    for index in range(3):
        for n in range(12):
            moment = f"2026-03-0{1 + (n * 7 + index) % 5}T12:00:00.{n % 3:06}Z"
            documents += trail.add(event(f"e{index}-{n}", moment), writer=f"w{n % 2}")
        trail.rollover()
    unsealed = event("no-seal", "2026-03-03T12:00:00.000001Z")
    trail.bulk([{"create": {"_id": "x"}}, unsealed, {"create": {"_id": "y"}}, unsealed])
    reader.export(tmp_path / "x")
    expected = sorted(
        documents,
        key=lambda d: (d["@timestamp"], d["audit"]["integrity"]["writer"], d["audit"]["integrity"]["sequence"]),
    )
    behind = max(n for n, d in enumerate(expected) if d["@timestamp"] <= unsealed["@timestamp"]) + 1
    assert lines_of(tmp_path / "x") == [*expected[:behind], unsealed, unsealed, *expected[behind:]]


def test_backing_indices_may_have_several_shards(trail, reader, tmp_path, small_parts, method):
    """Then documents of one index have the same place in different shards."""
    settings = {"template": {"settings": {"number_of_shards": 3, "number_of_replicas": 0}}}
    reader._client.request("PUT", f"/_component_template/{reader.settings.stream}-settings", body=settings)
    stored = []
    for index in range(2):
        trail.rollover()
        stored += trail.add(*(event(f"{index}-{n}", f"2026-03-0{index + 1}T12:00:{n:02}.000000Z") for n in range(40)))
    for unordered in (False, True):
        assert reader.export(tmp_path / "x", method=method, unordered=unordered).events == 80
        found = lines_of(tmp_path / "x")
        assert (sorted(found, key=lambda each: each["@timestamp"]) if unordered else found) == stored


def test_unordered_is_every_event_too(stored, reader, tmp_path, method, small_parts):
    report = reader.export(tmp_path / "x", method=method, unordered=True)
    found = sorted(lines_of(tmp_path / "x"), key=lambda each: (each["@timestamp"], each["event"]["id"]))
    assert found == sorted(stored, key=lambda each: (each["@timestamp"], each["event"]["id"]))
    assert orjson.loads(report.manifest.read_bytes())["order"] == "unordered"


def test_a_filter_applies_and_the_report_tells_its_times(stored, reader, tmp_path):
    report = reader.export(
        tmp_path / "x", user_id="u-1", since="2026-03-01T12:00:02.000002Z", until="2026-03-01T12:00:08.000008Z"
    )
    assert report.events == 6
    assert [report.since.microsecond, report.until.microsecond] == [2, 8]
    assert reader.export(tmp_path / "y", user_id="nobody").events == 0
    assert (tmp_path / "y").read_bytes() == b""
    assert reader.export(tmp_path / "y.gz", user_id="nobody").events == 0
    assert gzip.decompress((tmp_path / "y.gz").read_bytes()) == b""


def test_gzip_by_the_name_and_the_same_bytes_each_time(stored, reader, tmp_path, small_parts):
    reports = [reader.export(tmp_path / name) for name in ("a.ndjson.gz", "b.ndjson.gz")]
    content = (tmp_path / "a.ndjson.gz").read_bytes()
    assert lines_of(tmp_path / "a.ndjson.gz") == stored
    assert {report.sha256 for report in reports} == {hashlib.sha256(content).hexdigest()}
    assert {report.content_sha256 for report in reports} == {hashlib.sha256(gzip.decompress(content)).hexdigest()}
    assert {report.bytes for report in reports} == {len(content)}


def test_a_json_array_is_one(stored, reader, tmp_path, small_parts):
    reader.export(tmp_path / "x.json", format="json")
    assert orjson.loads((tmp_path / "x.json").read_bytes()) == stored
    reader.export(tmp_path / "y.json", format="json", user_id="nobody")
    assert orjson.loads((tmp_path / "y.json").read_bytes()) == []


def test_a_csv_has_a_row_an_event_with_everything_in_its_last_column(stored, reader, tmp_path, small_parts):
    reader.export(tmp_path / "x.csv", format="csv")
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [orjson.loads(row["document"]) for row in rows] == stored
    assert [row["event_id"] for row in rows] == [each["event"]["id"] for each in stored]


def test_standard_output_gets_the_lines_and_nothing_else(stored, settings):
    program = (
        "import sys; from audit_logging.query import AuditReader\n"
        "reader = AuditReader(opensearch_url=sys.argv[1], stream=sys.argv[2], audit_exports=False)\n"
        "report = reader.export('-')\n"
        "print(report.sha256, report.path, report.manifest, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, settings.opensearch_url[0], settings.stream], capture_output=True, check=True
    )
    assert [orjson.loads(line) for line in done.stdout.splitlines()] == stored
    assert done.stderr.decode().split() == [hashlib.sha256(done.stdout).hexdigest(), "None", "None"]


def test_identical_copies_are_left_out_and_altered_ones_are_not(trail, stored, reader, tmp_path, small_parts):
    trail.rollover()
    trail.store(*stored[2:15])
    trail.rollover()
    forged = {**altered(stored[5], message="never happened"), "@timestamp": stored[5]["@timestamp"]}
    same_hash = {**stored[7], "message": "nor this"}
    trail.store(forged, same_hash)
    report = reader.export(tmp_path / "x")
    found = lines_of(tmp_path / "x")
    assert (report.events, report.copies) == (22, 13)
    assert [each for each in found if each not in (forged, same_hash)] == stored
    assert forged in found
    assert same_hash in found


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()])
def test_whatever_stops_it_before_a_part_is_complete_leaves_nothing(
    stored, reader, tmp_path, small_pages, asked, error, method
):
    path = tmp_path / "x"
    path.write_text("from before")
    with pytest.raises(type(error)):
        reader.export(path, method=method, progress=stop(error, after=5))
    assert path.read_text() == "from before"
    assert list(tmp_path.iterdir()) == [path]
    assert views(asked)
    assert not any(is_open(reader, *view) for view in views(asked))


def test_the_view_is_closed_after_success_too(stored, reader, tmp_path, small_pages, asked, method):
    reader.export(tmp_path / "x", method=method)
    assert views(asked)
    assert not any(is_open(reader, *view) for view in views(asked))


def test_an_export_goes_on_where_it_was_stopped(stored, reader, tmp_path, small_parts, asked, method):
    """What is complete is kept and not asked for again; the file is the one of an undisturbed run."""
    reader.export(tmp_path / "undisturbed.gz")
    path = tmp_path / "x.gz"
    with pytest.raises(ZeroDivisionError):
        reader.export(path, method=method, progress=stop(ZeroDivisionError(), after=15))
    assert sorted(each.name for each in tmp_path.glob("x*")) == ["x.gz.part", "x.gz.state"]
    kept = orjson.loads((tmp_path / "x.gz.state").read_bytes())
    assert kept["tally"]["events"] > 0
    report = reader.export(path, method=method)
    assert (report.events, report.resumed) == (20, 1)
    assert lines_of(path) == stored
    assert report.content_sha256 == hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    assert sorted(each.name for each in tmp_path.glob("x*")) == ["x.gz", "x.gz.manifest.json"]


def test_relative_times_stay_those_of_the_beginning(trail, reader, tmp_path, small_parts):
    recent = dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=1)
    trail.add(*(event(f"e{n}", (recent + dt.timedelta(minutes=n)).isoformat()) for n in range(20)))
    with pytest.raises(ZeroDivisionError):
        reader.export(tmp_path / "x", since="-24h", progress=stop(ZeroDivisionError(), after=15))
    kept = orjson.loads((tmp_path / "x.state").read_bytes())["filter"]
    report = reader.export(tmp_path / "x", since="-24h")
    assert report.events == 20
    assert report.since == dt.datetime.fromisoformat(kept["since"].replace("Z", "+00:00"))


def test_what_another_query_left_is_not_gone_on_with(stored, reader, tmp_path, small_parts):
    with pytest.raises(ZeroDivisionError):
        reader.export(tmp_path / "x", progress=stop(ZeroDivisionError(), after=15))
    with pytest.raises(FilterError, match=r"export with another filter: .* --fresh"):
        reader.export(tmp_path / "x", user_id="u-1")
    with pytest.raises(FilterError, match="another format and order"):
        reader.export(tmp_path / "x", format="json", unordered=True)
    assert (tmp_path / "x.state").exists()
    assert reader.export(tmp_path / "x", fresh=True, user_id="u-1").events == 10
    assert sorted(each.name for each in tmp_path.iterdir()) == ["x", "x.manifest.json"]


@pytest.mark.parametrize("name", ["x", "x.gz"])
def test_a_part_that_somebody_changed_is_not_gone_on_with(stored, reader, tmp_path, small_parts, name):
    with pytest.raises(ZeroDivisionError):
        reader.export(tmp_path / name, progress=stop(ZeroDivisionError(), after=15))
    part = tmp_path / f"{name}.part"
    data = part.read_bytes()
    part.write_bytes(data[:40] + b"X" + data[41:])
    with pytest.raises(QueryError, match=r"is not what .*state tells of .* --fresh"):
        reader.export(tmp_path / name)
    (tmp_path / f"{name}.state").write_text("{}")
    with pytest.raises(QueryError, match="not the state of an export that this version began"):
        reader.export(tmp_path / name)


def test_two_exports_to_one_file_do_not_meet(stored, reader, tmp_path, small_parts):
    def meanwhile(done, total):
        with pytest.raises(QueryError, match="Another export is writing"):
            reader.export(tmp_path / "x")

    assert reader.export(tmp_path / "x", progress=meanwhile).events == 20


@pytest.mark.parametrize("unordered", [False, True])
def test_a_view_that_the_server_forgot_is_opened_again(stored, reader, tmp_path, small_parts, asked, method, unordered):
    """Nothing is lost, nothing doubled, in either order."""
    forgotten = []

    def lose(done, total):
        if done >= 10 and not forgotten:
            forgotten.extend(views(asked))
            for opened in forgotten:
                forget(reader, *opened)

    report = reader.export(tmp_path / "x", method=method, unordered=unordered, progress=lose)
    assert forgotten
    assert len(views(asked)) > len(forgotten)
    assert report.events == 20
    assert sorted(map(orjson.dumps, lines_of(tmp_path / "x"))) == sorted(map(orjson.dumps, stored))


def test_a_view_that_is_lost_again_and_again_ends_the_export(stored, reader, tmp_path, small_pages, asked, method):
    def lose(done, total):
        for opened in views(asked):
            forget(reader, *opened)

    with pytest.raises(IncompleteResultError, match=r"gave up its view of the trail 3 times in a row"):
        reader.export(tmp_path / "x", method=method, progress=lose)
    assert list(tmp_path.iterdir()) == []


def test_what_went_to_standard_output_is_not_doubled(stored, reader, small_pages, asked, capfdbinary):
    def lose(done, total):
        for opened in views(asked):
            forget(reader, *opened)

    with pytest.raises(IncompleteResultError, match="cannot be taken back"):
        reader.export("-", unordered=True, progress=lose)


def doctored(reader, monkeypatch, change):
    """Change the answers that hold hits, from the second on."""
    seen = []

    def spy(send, method, path, **rest):
        answer = send(method, path, **rest)
        if b'"hits":[' in answer and b"aggregations" not in answer and (rest["body"] or {}).get("size") != 0:
            seen.append(path)
            return change(answer) if len(seen) > 1 else answer
        return answer

    spy_on(reader, monkeypatch, spy)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (b'"timed_out":false', b'"timed_out":true', "ran out of time"),
        (b'"failed":0', b'"failed":1', "1 of 1 shards failed"),
        (b'"hits":[', b'"hits":[],"rest":[', "not one that this version understands"),
        (b"]}}", b"]}} ", "not one that this version understands"),
        (b"{", b"<html>", "not one that this version understands"),
    ],
)
@pytest.mark.parametrize("empty", [False, True])
def test_no_page_may_be_less_than_whole(
    stored, reader, tmp_path, small_pages, monkeypatch, method, old, new, sentence, empty
):
    """Also one without hits, which is how a scan ends early without noticing."""

    def change(answer):
        if empty:
            answer = answer[: answer.find(b'"hits":[') + len(b'"hits":[')] + b"]}}"
        return answer.replace(old, new, 1) if old != b"]}}" else answer + b" "

    doctored(reader, monkeypatch, change)
    with pytest.raises(IncompleteResultError, match=sentence):
        reader.export(tmp_path / "x", method=method)
    assert list(tmp_path.iterdir()) == []


def test_fewer_hits_than_promised_are_an_error(stored, reader, tmp_path, small_pages, monkeypatch, method):
    """Should a page ever be empty too early."""
    doctored(reader, monkeypatch, lambda a: a[: a.find(b'"hits":[') + len(b'"hits":[')] + b"]}}")
    with pytest.raises(IncompleteResultError, match="gave 0 stored events where it had 3"):
        reader.export(tmp_path / "x", method=method)
    assert list(tmp_path.iterdir()) == []


def test_a_backing_index_that_leaves_meanwhile_is_no_end(trail, stored, reader, tmp_path, small_pages):
    """Its events are gone for good: what is left is a whole answer of the trail as it is now."""
    trail.rollover()
    later = trail.add(*(event(f"f{n}", "2026-03-02T12:00:00.000000Z") for n in range(20)))
    [first, _] = sorted(reader._client.request("GET", f"/{reader.settings.stream}"))
    left = []

    def leave(done, total):
        if done >= 10 and not left:
            left.append(reader._client.request("DELETE", f"/{first}"))

    reader.export(tmp_path / "x", method="pit", progress=leave)
    assert lines_of(tmp_path / "x") == later


def test_a_server_without_places_in_its_points_in_time_is_read_by_scroll(
    stored, reader, tmp_path, monkeypatch, small_pages
):
    """As before 3.3, where pages of a point in time could not be told apart."""

    def older(send, method, path, **rest):
        rest["body"] = orjson.loads(orjson.dumps(rest["body"]).replace(b"_shard_doc", b"no_shard_doc"))
        return send(method, path, **rest)

    spy_on(reader, monkeypatch, older)
    report = reader.export(tmp_path / "x")
    assert (report.method, report.events) == ("scroll", 20)
    with pytest.raises(FilterError, match="use --method scroll"):
        reader.export(tmp_path / "x", method="pit")


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


@pytest.mark.parametrize("name", ["trail.ndjson.gz", "trail.json.gz", "trail.csv.gz", "trail.ndjson"])
@pytest.mark.parametrize("user", ["u-0", "nobody"])
def test_an_export_proves_itself_however_little_it_holds(stored, reader, tmp_path, small_parts, name, user):
    """Nothing at all too, and a last part in which there is nothing."""
    form = name.split(".")[1]
    plain = reader.export(tmp_path / f"plain.{form}", user_id=user, format=form)
    report = reader.export(tmp_path / name, user_id=user, format=form, until="2026-03-02")
    assert list(check_export(report.manifest)) == []
    opened = gzip.open if name.endswith(".gz") else open
    with opened(report.path, "rb") as file:
        assert file.read() == plain.path.read_bytes()


def test_unknown_formats_methods_and_streams_are_one_sentence_and_leave_nothing(settings, tmp_path):
    with AuditReader(settings=settings) as reader:
        with pytest.raises(FilterError, match="There is no export format 'xml'; there is ndjson, json, csv"):
            reader.export(tmp_path / "x", format="xml")
        with pytest.raises(FilterError, match="There is no export method 'magic'; there is pit, scroll"):
            reader.export(tmp_path / "x", method="magic")
        for method in (None, "pit", "scroll"):
            with pytest.raises(NotFoundError, match="run `audit-logging setup"):
                reader.export(tmp_path / "x", method=method)
    assert [each for each in tmp_path.iterdir() if each.name != "home"] == []
