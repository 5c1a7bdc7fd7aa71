"""The demo, as a newcomer runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import httpx
import pytest

from audit_logging.cli import demo as story
from audit_logging.cli.demo_shop import run_shop
from audit_logging.errors import LocalServerError
from audit_logging.local import find_running
from audit_logging.local.detached import take_down
from audit_logging.local.guarded import guarded_directory
from audit_logging.local.places import demo_directory
from audit_logging.settings import default_home
from tests.local.conftest import names_in
from tests.waiting import PATIENCE_SECONDS, until_ended

DEMO = [sys.executable, "-m", "audit_logging", "demo", "--requests"]


@pytest.fixture
def environment(settings):
    """A server that is there already, and a stream of the test's own."""
    return {
        **os.environ,
        "AUDIT_OPENSEARCH_URL": settings.opensearch_url[0],
        "AUDIT_STREAM": settings.stream,
        "AUDIT_HOME": str(settings.home),
    }


@pytest.fixture
def empty_home(tmp_path, monkeypatch):
    """A home without a server, but with what the machine has fetched and unpacked; no OpenSearch is configured."""
    home = tmp_path / "home"
    for kind, pattern in (("cache", "*.zip*"), ("local", "opensearch-*")):
        (home / kind).mkdir(parents=True)
        for there in (default_home() / kind).glob(pattern):
            (home / kind / there.name).symlink_to(there)
    for name in [name for name in os.environ if name.startswith("AUDIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AUDIT_HOME", str(home))
    yield home
    take_down(home, "default")


def processes_with(variable):
    """Return the ids of the processes whose environment began with *variable*."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                if variable.encode() in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
            except OSError:
                continue
    return found


@pytest.mark.server
def test_it_tells_the_whole_story(environment, client, settings):
    """Set-up, requests, search, statistics, export, what to type next; and the events are really there."""
    result = subprocess.run([*DEMO, "60"], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    for words in ("audit-logging setup", "user.login", "api.call", "192.0.2.66", "Exported", "doctor"):
        assert words in result.stdout + result.stderr
    assert "server down" not in result.stdout  # that server is not ours to stop
    found = client.request("POST", f"/{settings.stream}/_search", body={"size": 0, "aggs": AGGREGATIONS})[
        "aggregations"
    ]
    assert found["calls"]["doc_count"] == 60
    assert {bucket["key"] for bucket in found["addresses"]["buckets"]} >= {"192.0.2.66", "198.51.100.23"}
    assert "127.0.0.1" not in {bucket["key"] for bucket in found["addresses"]["buckets"]}
    assert processes_with(f"AUDIT_STREAM={settings.stream}") == []


AGGREGATIONS = {
    "calls": {"filter": {"term": {"event.action": "api.call"}}},
    "addresses": {"terms": {"field": "source.ip", "size": 100}},
}


@pytest.mark.server
@pytest.mark.parametrize(
    ("marker", "number", "whole_group", "code"),
    [
        ("Set up the stream", signal.SIGINT, True, 130),
        ("The shop is open", signal.SIGINT, True, 130),
        ("The shop is open", signal.SIGINT, False, 130),
        ("The shop is open", signal.SIGTERM, False, 143),
        ("The shop is open", signal.SIGKILL, False, -9),
        ("audit-logging search", signal.SIGINT, True, 130),
    ],
)
def test_however_it_ends_it_leaves_no_process_behind(environment, settings, marker, number, whole_group, code):
    """Ctrl-C in the terminal, or a signal to the demo alone, at any moment."""
    count = "60" if "search" in marker else "100000"
    with subprocess.Popen(
        [*DEMO, count],
        env={**environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        assert any(marker in line for line in demo.stdout)
        started = processes_with(f"AUDIT_STREAM={settings.stream}")
        (os.killpg if whole_group else os.kill)(demo.pid, number)
        _, errors = demo.communicate(timeout=PATIENCE_SECONDS)
    assert demo.returncode == code
    assert "Traceback" not in errors
    if number == signal.SIGKILL:  # then nobody waits for them
        for pid in started:
            until_ended(pid)
        assert len(names_in(demo_directory(settings.home))) == 2  # the folder and its guard
        with guarded_directory(demo_directory(settings.home), "demo-"):  # as the next demo begins
            pass
    assert processes_with(f"AUDIT_STREAM={settings.stream}") == []
    assert names_in(demo_directory(settings.home)) == []


@pytest.mark.server
def test_it_brings_its_own_server_and_takes_it_away(empty_home):
    """Without any OpenSearch configured: one is started, and gone afterwards."""
    result = subprocess.run([*DEMO, "20"], capture_output=True, text=True, timeout=180, check=False)
    assert result.returncode == 0, result.stderr
    assert "audit-logging demo --keep" in result.stdout
    url = next(line for line in result.stdout.splitlines() if "answers at" in line).split()[-1].rstrip(".")
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=5)
    assert processes_with(f"AUDIT_HOME={empty_home}") == []


@pytest.mark.server
def test_it_keeps_the_server_when_told_to_and_uses_it_the_next_time(empty_home):
    """Other commands then find it by themselves; it says how to stop it."""
    result = subprocess.run([*DEMO, "20", "--keep"], capture_output=True, text=True, timeout=180, check=False)
    assert result.returncode == 0, result.stderr
    assert "audit-logging server down" in result.stdout
    running = find_running(empty_home)
    assert running is not None
    command = [sys.executable, "-m", "audit_logging", "count", "--type", "api.call"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "20"
    with story._server(keep=False) as (variables, last_words):
        assert variables["AUDIT_OPENSEARCH_URL"] == running.url
        assert "server down" in last_words
    assert find_running(empty_home) == running


INTERRUPTED = """
import os, signal, subprocess, sys

class Interrupted(subprocess.Popen):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        signal.raise_signal(signal.SIGINT)

from audit_logging.cli import demo
sys.executable = sys.argv[1]
if sys.argv[2] == "in the middle of its start":
    subprocess.Popen = Interrupted
demo._run("server up", dict(os.environ))
"""


@pytest.mark.parametrize("moment", ["in the middle of its start", "as soon as it runs"])
def test_an_interrupted_command_ends_with_all_that_it_started(tmp_path, moment):
    """Such as the launcher that `server up` asks for its options."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nsleep 600 &\necho $!\nkill -INT $PPID\nwait\n")
    python.chmod(0o755)
    demo = subprocess.Popen(
        [sys.executable, "-u", "-c", INTERRUPTED, python, moment],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with demo:
        assert demo.stdout is not None
        assert demo.stdout.readline() == "$ audit-logging server up\n"
        started = demo.stdout.readline()
        demo.wait(PATIENCE_SECONDS)
    if started:  # otherwise it was ended before it could start anything
        until_ended(int(started))


def test_a_shop_that_cannot_start_says_why(tmp_path):
    """In one sentence, its own last words."""
    (tmp_path / "fastapi.py").write_text("raise ImportError('fastapi is broken')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "AUDIT_SPOOL_DIR": str(tmp_path / "spool")}
    with (
        pytest.raises(LocalServerError, match=r"The shop ended: ImportError: fastapi is broken"),
        run_shop(environment) as url,
    ):
        httpx.get(url, timeout=PATIENCE_SECONDS)


def test_a_shop_that_does_not_answer_says_so(tmp_path, monkeypatch):
    """It is ended all the same. No directory for temporary files is needed, which a container may lack."""
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "missing")])
    monkeypatch.setattr("tempfile.tempdir", None)
    environment = {**os.environ, "AUDIT_SPOOL_DIR": str(tmp_path / "spool")}
    with (
        pytest.raises(LocalServerError, match=r"The shop does not answer \(ReadTimeout\)"),
        run_shop(environment),
    ):
        raise httpx.ReadTimeout("too late")
    assert processes_with(f"AUDIT_SPOOL_DIR={tmp_path / 'spool'}") == []


@pytest.mark.parametrize("missing", ["httpx", "uvicorn"])
def test_without_its_extra_it_says_what_to_install(missing, monkeypatch, audit_logging):
    """Before anything is started."""
    find = story.importlib.util.find_spec
    monkeypatch.setattr(story.importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    ended = audit_logging("demo")
    assert (ended.code, ended.out) == (3, "")
    assert f"The demo needs {missing}: pip install 'opensearch-audit-logging[demo]'" in ended.err
