"""An export is itself an event of the trail."""

import sys

import orjson
import pytest

import audit_logging as audit
from audit_logging.capture.configuration import swap_trail
from audit_logging.errors import ExportNotRecordedError
from audit_logging.query import AuditReader
from audit_logging.query.export import view
from audit_logging.spool.directory import SpoolDirectory

from .trail import event

pytestmark = pytest.mark.server


@pytest.fixture(autouse=True)
def no_trail_yet():
    before = swap_trail(None)
    yield
    made = swap_trail(before)
    if made is not None:
        made.shutdown(5)


@pytest.fixture
def stored(trail):
    return trail.add(*(event(f"e{n}", f"2026-03-01T12:00:{n:02}.000000Z", user__id="u-1") for n in range(20)))


@pytest.fixture
def reader(settings):
    with AuditReader(settings=settings) as reader:
        yield reader


def recorded(reader):
    reader._client.request("POST", f"/{reader.settings.stream}/_refresh")
    return [found.document for found in reader.scan(event_type="audit.exported")]


def test_the_trail_tells_who_exported_what_and_the_sum_of_it(stored, reader, tmp_path):
    """From a shell, where no trail is configured: by a writer of its own, that is gone when the export is."""
    report = reader.export(tmp_path / "x", user_id="u-1", since="2026-03-01")
    [found] = recorded(reader)
    assert found["event"]["id"] == report.event_id
    assert found["event"]["outcome"] == "success"
    assert found["user"]["name"]
    metadata = found["audit"]["metadata"]
    assert metadata["resource"] == reader.settings.stream
    assert metadata["filter"] == {"user_id": ["u-1"], "since": "2026-03-01T00:00:00Z"}
    assert (metadata["record_count"], metadata["sha256"]) == (20, report.sha256)
    assert metadata["file"] == str(tmp_path / "x")
    assert orjson.loads(report.manifest.read_bytes())["event_id"] == report.event_id
    assert SpoolDirectory(reader.settings.spool_path).writers() == []


def test_an_application_exports_for_the_user_of_the_context_and_by_its_own_writer(stored, reader, tmp_path):
    audit.configure(stream=reader.settings.stream, home=tmp_path / "app", service="shop")
    with audit.record_events(stream=reader.settings.stream) as events, audit.context(user_id="u-9"):
        reader.export(tmp_path / "x")
    assert events.one("audit.exported")["user"] == {"id": "u-9"}
    assert events.one("audit.exported")["audit"]["metadata"]["host"]
    assert recorded(reader) == []


def test_the_trail_of_another_stream_is_not_told(stored, reader, tmp_path):
    with audit.record_events(stream="another") as events:
        reader.export(tmp_path / "x")
    assert events == []
    assert len(recorded(reader)) == 1


def test_it_can_be_switched_off(stored, settings, tmp_path):
    with AuditReader(settings=settings.model_copy(update={"audit_exports": False})) as reader:
        assert reader.export(tmp_path / "x").event_id is None
        assert recorded(reader) == []


def test_an_export_that_cannot_be_recorded_is_kept_and_says_so(stored, settings, tmp_path):
    (tmp_path / "not-a-directory").write_text("")
    with AuditReader(settings=settings.model_copy(update={"spool_dir": tmp_path / "not-a-directory"})) as reader:
        with pytest.raises(ExportNotRecordedError, match=r"The export is complete, but .* SHA-256") as raised:
            reader.export(tmp_path / "x")
        report = raised.value.report
        assert (report.events, report.event_id) == (20, None)
        assert len((tmp_path / "x").read_bytes().splitlines()) == 20
        assert orjson.loads(report.manifest.read_bytes())["event_id"] is None
        assert raised.value.exit_code == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_what_left_before_an_export_was_stopped_is_recorded_too(stored, reader, monkeypatch, capfdbinary, error):
    """Else `export --out - | head` would read the trail unseen."""
    monkeypatch.setattr(view, "LARGEST_PAGE", 3)
    write = sys.stdout.buffer.write
    written = []

    class Pipe:
        class buffer:
            @staticmethod
            def write(data):
                if data and len(written) == 3:
                    raise error
                written.append(data)
                return write(data)

            @staticmethod
            def flush():
                pass

    monkeypatch.setattr(sys, "stdout", Pipe)
    with pytest.raises(error):
        reader.export("-", unordered=True)
    [found] = recorded(reader)
    assert found["event"]["outcome"] == "failure"
    assert error.__name__ in found["event"]["reason"]
    # Three pages left, and of the fourth some events may have: they count as read.
    assert found["audit"]["metadata"]["record_count"] == 12
