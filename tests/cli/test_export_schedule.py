"""`audit-logging export --every`, as cron calls it."""

from __future__ import annotations

import datetime as dt
import fcntl
import gzip
import stat

import orjson
import pytest

from audit_logging.query.export import parts
from audit_logging.query.export.check import check_export
from audit_logging.query.export.outfile import PartFile
from tests.query.trail import Trail, altered, event

pytestmark = pytest.mark.server

TODAY = dt.datetime.now(dt.timezone.utc).date()
DAYS = [TODAY - dt.timedelta(days=days) for days in (3, 2, 1)]


def at(day, number):
    return event(f"{day}-{number}", f"{day}T10:00:00.{number:06}Z", user__id=f"u-{number % 2}")


@pytest.fixture
def trail(settings, client):
    trail = Trail(settings, client)
    trail.add(*(at(day, number) for day in (*DAYS, TODAY) for number in range(8)))
    return trail


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "exports"


@pytest.fixture
def export(audit_logging, settings, monkeypatch, trail, directory):
    """Run the command for the last three days."""
    monkeypatch.setenv("AUDIT_HOME", str(settings.home))

    def export(*more):
        where = ("--url", settings.opensearch_url[0], "--stream", settings.stream)
        scheduled = ("--every", "day", "--out-dir", str(directory), "--catch-up", "3")
        return audit_logging("export", *where, *scheduled, *more)

    return export


def name(settings, day, more=""):
    return f"{settings.stream}-{day}{more}.ndjson.gz"


def ids_in(path):
    with gzip.open(path) as lines:
        return [orjson.loads(line)["event"]["id"] for line in lines]


def test_each_day_has_a_private_file_that_proves_itself(export, directory, settings):
    ended = export("--json")
    assert ended.code == 0
    assert [orjson.loads(line)["events"] for line in ended.out.splitlines()] == [8, 8, 8]
    for day in DAYS:
        path = directory / name(settings, day)
        assert ids_in(path) == [f"{day}-{number}" for number in range(8)]
        manifest = path.with_name(f"{path.name}.manifest.json")
        assert list(check_export(manifest)) == []
        assert {stat.S_IMODE(each.stat().st_mode) for each in (path, manifest)} == {0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_what_is_missing_is_made_up_and_nothing_is_made_twice(export, directory, settings):
    assert export().code == 0
    kept, lost, without_manifest = (directory / name(settings, day) for day in DAYS)
    lost.unlink()
    without_manifest.with_name(f"{without_manifest.name}.manifest.json").unlink()
    before = kept.stat().st_ino
    assert export().out.count("Exported 8 events") == 2
    assert kept.stat().st_ino == before
    assert len(ids_in(lost)) == 8
    ended = export()
    assert (ended.code, ended.out, ended.err) == (0, f"There was nothing to do in {directory}.\n", "")


def test_events_that_came_late_get_a_further_file(export, directory, settings, trail):
    """What was made is evidence, and stays as it is."""
    assert export().code == 0
    first = directory / name(settings, DAYS[1])
    before = first.read_bytes()
    trail.add(at(DAYS[1], 100))
    assert f"1 events of {DAYS[1]} came after {first.name} was made." in export().err
    assert first.read_bytes() == before
    assert ids_in(directory / name(settings, DAYS[1], "+2"))[-1] == f"{DAYS[1]}-100"
    assert "nothing to do" in export().out
    assert len(list(directory.glob("*.gz"))) == 4


def test_a_run_that_broke_off_is_gone_on_with(export, directory, settings, monkeypatch):
    monkeypatch.setattr(parts, "LARGEST_PART", 3)
    checkpoint, calls = PartFile.checkpoint, []

    def dying(part_file):
        checkpoint(part_file)
        calls.append(part_file)
        if len(calls) == 2:
            raise SystemExit(137)

    with monkeypatch.context() as dies:
        dies.setattr(PartFile, "checkpoint", dying)
        assert export().code == 137
    path = directory / name(settings, DAYS[0])
    assert not path.exists()
    assert path.with_name(f"{path.name}.state").exists()
    ended = export()
    assert ended.code == 0
    assert "Going on with the export" in ended.err
    assert ids_in(path) == [f"{DAYS[0]}-{number}" for number in range(8)]
    assert len(orjson.loads(path.with_name(f"{path.name}.manifest.json").read_bytes())["resumed"]) == 1


def test_two_runs_at_once_are_one(export, directory):
    directory.mkdir()
    with (directory / ".audit-logging-exports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = export()
    assert (ended.code, ended.err) == (0, f"Another run is writing exports into {directory}.\n")
    assert not list(directory.glob("*.gz"))


def test_a_file_that_the_disk_did_not_keep_is_set_aside_and_made_again(export, directory, settings, monkeypatch):
    finish = PartFile.finish

    def garbling(part_file):
        finish(part_file)
        content = bytearray(part_file.path.read_bytes())
        content[-1] ^= 1
        part_file.path.write_bytes(content)

    with monkeypatch.context() as garbles:
        garbles.setattr(PartFile, "finish", garbling)
        ended = export()
    assert ended.code == 4
    assert "is not what was written" in ended.err
    path = directory / name(settings, DAYS[0])
    assert path.with_name(f"{path.name}.damaged").exists()
    assert export().code == 0
    assert len(ids_in(path)) == 8


def test_what_is_not_what_was_sealed_is_kept_and_told(export, directory, settings, trail):
    """The file is as good as the trail, and whoever gets cron's mail has to know."""
    trail.store(altered(trail.seal(at(DAYS[0], 100), "w2"), message="forged"))
    ended = export()
    assert ended.code == 1
    assert f"{DAYS[0]}.ndjson.gz, event 9: its content does not have the hash of its seal" in ended.err
    assert [len(ids_in(directory / name(settings, day))) for day in DAYS] == [9, 8, 8]
    assert export().code == 0


def test_a_directory_belongs_to_one_kind_of_export(export, directory, settings):
    assert export("--user", "u-1").code == 0
    assert len(ids_in(directory / name(settings, DAYS[0]))) == 4
    ended = export()
    assert ended.code == 2
    assert "is an export with other filters" in ended.err


@pytest.mark.parametrize("more", [("--since", "-1d"), ("--out", "x")])
def test_wrong_use_is_told_in_one_sentence(export, more):
    ended = export(*more)
    assert ended.code == 2
    assert "--every" in ended.err


def test_a_directory_that_cannot_be_made(audit_logging, settings):
    ended = audit_logging(
        *("export", "--url", settings.opensearch_url[0], "--every", "day", "--out-dir", "/proc/nowhere"),
    )
    assert ended.code == 2
    assert "give another directory with --out-dir" in ended.err
