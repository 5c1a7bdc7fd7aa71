"""An export that is killed, again and again, at any moment: nothing is lost and nothing doubled."""

from __future__ import annotations

import gzip
import multiprocessing
import os
import random
import signal
import sys
import threading

import pytest

from audit_logging.query import AuditReader
from audit_logging.query.export import parts, view
from audit_logging.query.export.check import check_export
from audit_logging.query.export.manifest import manifest_path

from .trail import event

pytestmark = pytest.mark.server

KILLS = 25
"""Of each of the two exports: fifty in all."""

FOR_EVER = 1 << 60


ANYWHERE, WRITING = "", ("outfile.py", "export_state.py")


def export_until(calls, where, settings, path, options, counted=None):
    """Export in small parts; at the call of a function with this number, C functions included, the process is killed.

    Counted are those that are called in modules whose name ends in *where*.
    """
    view.LARGEST_PAGE, parts.LARGEST_PART = 7, 10
    left = [calls]

    def count(frame, _event, _arg):
        if frame.f_code.co_filename.endswith(where):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    with AuditReader(settings=settings) as reader:
        reader.count()  # what is imported late is imported now
        threading.setprofile(count)
        sys.setprofile(count)
        reader.export(path, **options)
        sys.setprofile(None)
    if counted is not None:
        counted.value = calls - left[0]


@pytest.fixture(scope="module")
def processes():
    """Children that have everything imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["opensearchpy", __name__])
    return context


@pytest.fixture
def quiet(trail):
    """A stream to which nothing is added, of three writers and two backing indices, some of it there twice."""
    rng = random.Random(7)
    stored = []
    for n in range(600):
        moment = f"2026-03-01T{rng.randrange(24):02}:{rng.randrange(60):02}:00.{n % 3:06}Z"
        stored.append(trail.seal(event(f"e{n}", moment, user__id=f"u-{n}"), f"w{n % 3}"))
    trail.store(*stored[:400])
    trail.rollover()
    trail.store(*stored[350:])
    return trail.settings.model_copy(update={"audit_exports": False})


def run(processes, *arguments):
    child = processes.Process(target=export_until, args=arguments)
    child.start()
    child.join(60)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode == 0


def content(path):
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


@pytest.mark.parametrize(
    ("name", "options"),
    [("x.ndjson", {}), ("x.json.gz", {"format": "json", "method": "scroll"})],
    ids=["ndjson-pit", "json-gzip-scroll"],
)
def test_an_export_killed_again_and_again_is_the_undisturbed_one(quiet, processes, tmp_path, name, options):
    (tmp_path / "undisturbed").mkdir()
    undisturbed = tmp_path / "undisturbed" / name
    whole = {where: processes.Value("q") for where in (ANYWHERE, WRITING)}
    for where, counted in whole.items():
        assert run(processes, FOR_EVER, where, quiet, undisturbed, options, counted)
    path = tmp_path / name
    rng = random.Random(20260301)
    kills = resumed = 0
    while kills < KILLS or not path.exists():
        where = rng.choice([*whole])  # half of the moments while the file and its state are written
        calls = rng.randrange(1, whole[where].value // 2) if kills < KILLS else FOR_EVER
        if not run(processes, calls, where, quiet, path, options):
            kills += 1
            resumed += path.with_name(f"{name}.state").exists()
        elif kills < KILLS:  # it came to its end: once more from the beginning
            assert content(path) == content(undisturbed)
            path.unlink()
    assert content(path) == content(undisturbed)
    seals_aside = [each for each in check_export(manifest_path(path)) if "seal" not in each and "follow" not in each]
    assert seals_aside == []  # the tests' own seals are none
    assert resumed > KILLS * 3 // 4
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_file()) == [name, f"{name}.manifest.json"]
