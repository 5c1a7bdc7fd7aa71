"""`audit-logging server`, each command as a process of its own."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from audit_logging.local import find_running
from audit_logging.local.detached import take_down
from audit_logging.local.state import State, state_file
from audit_logging.opensearch.client import Client
from audit_logging.settings import Settings
from tests.waiting import until_ended


def written_state(home):
    state = State.read(state_file(home, "life"))
    assert state is not None
    return state


def running(home):
    server = find_running(home, "life")
    assert server is not None
    return server


@pytest.fixture(scope="module")
def taken_down(home):
    """A test that fails half-way leaves no server behind."""
    yield
    take_down(home, "life")


@pytest.mark.server
@pytest.mark.usefixtures("taken_down")
class TestLife:
    """One server, from `up` to `down`; the tests of this class build on each other."""

    NAME = ("--name", "life")

    @pytest.fixture
    def client(self, home):
        client = Client(Settings.load(**running(home).settings()))
        yield client
        client.close()

    def test_up_prints_nothing_but_json_once_it_answers(self, command, home):
        ended = command("server", "up", "--version", "2.19.4", "--heap", "256m", *self.NAME, "--json")
        facts = json.loads(ended.stdout)
        assert ended.returncode == 0
        assert "Starting OpenSearch 2.19.4" in ended.stderr
        assert facts["url"] == running(home).url
        assert (facts["name"], facts["version"]) == ("life", "2.19.4")
        assert "-Xmx256m" in Path(f"/proc/{facts['pid']}/cmdline").read_text()

    def test_up_again_says_that_it_runs_and_what_to_type_next(self, command, client):
        ended = command("server", "up", *self.NAME)
        assert ended.returncode == 0
        assert f"OpenSearch 2.19.4 runs already at {client.urls[0]}" in ended.stdout
        assert "audit-logging setup" in ended.stdout
        assert "audit-logging server down --name life" in ended.stdout
        assert f"--url {client.urls[0]}" in ended.stderr
        assert "Starting" not in ended.stderr

    def test_up_tells_when_another_server_is_configured(self, command):
        ended = command("server", "up", *self.NAME, AUDIT_OPENSEARCH_URL="http://other.example:9200")
        assert "commands use AUDIT_OPENSEARCH_URL (http://other.example:9200)" in ended.stderr

    @pytest.mark.parametrize("other", [("--version", "3.8.0"), ("--secure",), ("--port", "1")])
    def test_asking_for_another_one_under_its_name_is_refused(self, command, other):
        ended = command("server", "up", *self.NAME, *other, "--json")
        assert (ended.returncode, ended.stdout) == (3, "")
        assert "stop it first with `audit-logging server down --name life`" in ended.stderr

    def test_status_says_where(self, command, client):
        ended = command("server", "status", *self.NAME)
        assert f"OpenSearch 2.19.4 answers at {client.urls[0]}" in ended.stdout
        facts = json.loads(command("server", "status", *self.NAME, "--json").stdout)
        assert (facts["running"], facts["answers"], facts["url"]) == (True, True, client.urls[0])

    def test_logs_prints_the_end_of_the_log(self, command):
        whole = command("server", "logs", *self.NAME, "-n", "100000").stdout
        assert "started" in whole
        assert command("server", "logs", *self.NAME, "-n", "2").stdout.splitlines() == whole.splitlines()[-2:]

    def test_after_a_crash_the_log_is_there_and_up_goes_on_with_the_data(self, command, client, home):
        client.request("PUT", "/kept/_doc/1", params={"refresh": True}, body={"a": 1})
        state = written_state(home)
        os.kill(state.server_pid, signal.SIGKILL)
        until_ended(state.supervisor)
        assert find_running(home, "life") is None
        assert command("server", "status", *self.NAME).returncode == 3
        assert "started" in command("server", "logs", "--follow", *self.NAME).stdout

        ended = command("server", "up", "--version", "2.19.4", *self.NAME)
        assert ended.returncode == 0
        assert client.request("GET", "/kept/_doc/1")["_source"] == {"a": 1}

    def test_down_leaves_nothing_and_twice_is_harmless(self, command, home):
        state = written_state(home)
        ended = command("server", "down", *self.NAME)
        assert (ended.returncode, ended.stderr) == (0, "Stopped; its data is removed.\n")
        until_ended(state.server_pid)
        assert not Path(state.directory).exists()
        again = command("server", "down", *self.NAME)
        assert (again.returncode, again.stderr) == (0, "No local server called 'life' runs: nothing to stop.\n")


class TestNoServer:
    def test_status_is_exit_code_3_and_says_how_to_start_one(self, command):
        ended = command("server", "status")
        assert (ended.returncode, ended.stdout) == (3, "")
        assert "start it with `audit-logging server up`" in ended.stderr

    def test_status_json_says_that_none_runs(self, command):
        ended = command("server", "status", "--json")
        assert (ended.returncode, json.loads(ended.stdout)) == (3, {"name": "default", "running": False})

    def test_logs_says_that_there_are_none(self, command):
        ended = command("server", "logs", "--name", "never")
        assert ended.returncode == 3
        assert "`audit-logging server up --name never`" in ended.stderr

    @pytest.mark.parametrize(
        ("wrong", "code", "words"),
        [
            (("--heap", "much"), 2, "no size of a heap"),
            (("--version", "newest"), 2, "no version of OpenSearch"),
            (("--name", "../x"), 2, "no name for a server"),
            (("--secure", "--version", "2.18.0"), 3, "has no opensearch-security 2.18.0.0"),
        ],
    )
    def test_what_cannot_be_is_one_sentence(self, command, wrong, code, words):
        ended = command("server", "up", *wrong)
        assert ended.returncode == code
        assert words in ended.stderr
        assert code == 3 or ended.stderr.startswith("Error: "), "nothing is said to start before it is refused"

    def test_a_port_in_use_is_named(self, command, tmp_path):
        import socket

        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            ended = command("server", "up", "--port", str(taken.getsockname()[1]))
        assert ended.returncode == 3
        assert "cannot be used (Address already in use): name another" in ended.stderr
