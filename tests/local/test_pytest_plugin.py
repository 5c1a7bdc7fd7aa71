"""The `opensearch_server` fixture, as a user's project sees it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from audit_logging.local.state import State
from tests.waiting import until_ended

TESTS = """
import os, pathlib, urllib.request, pytest

@pytest.mark.parametrize("number", range(4))
def test_one(opensearch_server, number, tmp_path_factory):
    assert urllib.request.urlopen(opensearch_server.url).status == 200
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{os.environ.get('PYTEST_XDIST_WORKER')} {opensearch_server.settings()['opensearch_url'][0]}\\n")
"""


@pytest.fixture
def run_pytest(tmp_path, monkeypatch):
    """Run a user's tests; return (worker, url) of each."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    project = tmp_path / "project"
    project.mkdir()
    (project / "test_user.py").write_text(TESTS)

    def run(*arguments: str, **environment: str) -> set[tuple[str, str]]:
        command = [sys.executable, "-m", "pytest", "-q", "-W", "error", f"--basetemp={tmp_path / 'base'}", *arguments]
        notes = tmp_path / "notes"
        environment = {**os.environ, "NOTES": str(notes), **environment}
        ended = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert re.search(r"4 passed", ended.stdout)
        return {tuple(line.split()) for line in notes.read_text().splitlines()}

    return run


@pytest.mark.server
def test_all_workers_share_one_server_that_ends_with_the_session(run_pytest, tmp_path, monkeypatch):
    monkeypatch.delenv("AUDIT_OPENSEARCH_URL", raising=False)
    seen = run_pytest("-n", "2", "--dist", "load")
    assert {worker for worker, _ in seen} == {"gw0", "gw1"}
    assert len({url for _, url in seen}) == 1
    state = State.read(next((tmp_path / "base").glob("*.json")))
    assert state is not None
    until_ended(state.supervisor)
    until_ended(state.server_pid)
    assert not Path(state.directory).exists()


@pytest.mark.server
def test_the_configured_server_is_used_where_there_is_one(run_pytest, opensearch_server):
    assert run_pytest("-p", "no:xdist", AUDIT_OPENSEARCH_URL=opensearch_server.url) == {("None", opensearch_server.url)}


@pytest.mark.server
def test_without_workers_the_fixture_is_a_server_of_the_session(opensearch_server):
    settings = opensearch_server.settings()
    assert settings["opensearch_url"][0].rstrip("/") == opensearch_server.url.rstrip("/")


def test_loading_the_plugin_imports_nothing_heavy():
    code = (
        "import sys, json; import pytest, audit_logging; before = set(sys.modules);"
        "import audit_logging.integrations.pytest; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    added = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert {name for name in added if not name.startswith("audit_logging.integrations")} == set()
