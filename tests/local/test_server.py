"""Servers: several at once, killed, restarted, refused; and what is left behind, namely nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from audit_logging.errors import LocalServerError
from audit_logging.local import LocalServer
from audit_logging.local.instance import free_port
from tests.local.conftest import is_running
from tests.waiting import until_ended

pytestmark = pytest.mark.server


def call(url: str, method: str, path: str, body: object = None) -> tuple[int, Any]:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"Content-Type": "application/json"})
    with connection.getresponse() as answer:
        decoded = json.loads(answer.read() or b"{}")
    connection.close()
    return answer.status, decoded


@pytest.fixture(scope="module")
def pair():
    """Two servers of two versions, side by side; the first has a setting of its own, the second its data in memory."""
    servers = LocalServer(settings={"thread_pool.write.queue_size": 17}), LocalServer("2.19.4", in_memory=True)
    try:
        for server in servers:
            server.start(wait=False)
        for server in servers:
            server.wait_until_ready()
        yield servers
    finally:
        for server in servers:
            server.stop()


class TestTwoAtOnce:
    def test_each_version_answers_on_its_own_ports(self, pair):
        versions = [call(server.url, "GET", "/")[1]["version"]["number"] for server in pair]
        assert versions == ["3.8.0", "2.19.4"]
        assert len({server.url for server in pair} | {server.transport_port for server in pair}) == 4

    def test_an_index_can_be_made_and_belongs_to_one_of_them(self, pair):
        first, second = pair
        for server in pair:
            assert call(server.url, "PUT", f"/made-{server.version}")[0] == 200
        assert call(first.url, "GET", "/made-2.19.4")[0] == 404
        assert call(second.url, "GET", "/made-3.8.0")[0] == 404

    def test_settings_reach_opensearch_yml(self, pair):
        _, node = call(pair[0].url, "GET", "/_nodes/_local/settings?flat_settings=true")
        (facts,) = node["nodes"].values()
        assert facts["settings"]["thread_pool.write.queue_size"] == "17"

    def test_only_the_loopback_address_is_bound(self, pair):
        _, node = call(pair[0].url, "GET", "/_nodes/_local/http,transport")
        (facts,) = node["nodes"].values()
        bound = facts["http"]["bound_address"] + facts["transport"]["bound_address"]
        assert {address.rpartition(":")[0] for address in bound} == {"127.0.0.1"}

    def test_it_is_no_root_process_and_its_directory_is_private(self, pair):
        for server in pair:
            owner = Path(f"/proc/{server.pid}").stat().st_uid
            assert owner != 0
            for path in (server.directory, server._instance.data, server.directory / "config"):
                assert path.stat().st_uid == owner
                assert stat.S_IMODE(path.stat().st_mode) == 0o700

    def test_a_killed_or_restarted_one_goes_on_with_its_data_and_url(self, pair):
        for server in pair:
            assert call(server.url, "PUT", "/kept/_doc/1?refresh=true", {"a": 1})[0] == 201
        before = [(server.url, server.pid) for server in pair]

        first, second = pair
        first.kill()
        assert not is_running(before[0][1])
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda action: action(), (first.start, second.restart)))

        for server, (url, pid) in zip(pair, before, strict=True):
            assert (server.url, server.pid == pid) == (url, False)
            assert call(server.url, "GET", "/kept/_doc/1")[1]["_source"] == {"a": 1}

    def test_starting_a_running_one_changes_nothing(self, pair):
        pid = pair[0].pid
        assert pair[0].start().pid == pid


class TestPorts:
    def test_a_port_in_use_is_named_in_one_sentence(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(LocalServerError, match=rf"Port {port} on 127\.0\.0\.1 cannot be used"):
                LocalServer(port=port).start()

    def test_another_free_port_is_taken_when_a_program_was_quicker(self):
        """Between the choice of a port and Java's start there are seconds."""
        launched = threading.Event()

        class Announcing(LocalServer):
            def _launch(self):
                super()._launch()
                launched.set()

        server = Announcing("2.19.4")
        with ThreadPoolExecutor(1) as pool, socket.socket() as thief:
            started = pool.submit(server.start)
            assert launched.wait(60)
            stolen = int(server.url.rpartition(":")[2])
            thief.bind(("127.0.0.1", stolen))
            thief.listen()
            started.result(120)
            try:
                assert int(server.url.rpartition(":")[2]) != stolen
                assert call(server.url, "GET", "/")[0] == 200
            finally:
                server.stop()


class TestFailures:
    def test_an_unknown_setting_is_named(self):
        with pytest.raises(LocalServerError, match=r"it does not know the setting no\.such\.setting"):
            LocalServer("2.19.4", settings={"no.such.setting": 1}).start()

    def test_a_heap_that_does_not_fit_is_explained_and_leaves_nothing(self):
        server = LocalServer("2.19.4", heap="900000g")
        with pytest.raises(LocalServerError, match="not enough memory for its heap"):
            server.start()
        with pytest.raises(LocalServerError, match=r"call start\(\) first"):
            server.directory  # noqa: B018

    @pytest.mark.parametrize("heap", ["512", "0m", "lots", "1g -Xmx9g"])
    def test_a_malformed_heap_is_refused(self, heap):
        with pytest.raises(LocalServerError, match="no size of a heap"):
            LocalServer(heap=heap)

    def test_time_running_out_is_explained(self):
        with pytest.raises(LocalServerError, match="did not answer in time"):
            LocalServer("2.19.4", start_seconds=0.1).start()

    def test_before_the_start_there_is_nothing_to_ask_for(self):
        server = LocalServer(port=free_port())
        for ask in (lambda: server.url, lambda: server.pid, lambda: server.log, server.kill, server.detach):
            with pytest.raises(LocalServerError, match=r"call start\(\) first"):
                ask()
        server.stop()


STARTS = """
import json, os, sys
from audit_logging.local import LocalServer
server = LocalServer("2.19.4", in_memory=True)
server.start(wait=False)
directories = [*map(str, server._instance.directories)]
facts = {"server": server.pid, "supervisor": server._supervision.pid, "directories": directories}
"""

STARTS_AND_WAITS = """
import json
from audit_logging.local import LocalServer

class Announcing(LocalServer):
    def _launch(self):
        super()._launch()
        directories = [*map(str, self._instance.directories)]
        facts = {"server": self.pid, "supervisor": self._supervision.pid, "directories": directories}
        print(json.dumps(facts), flush=True)

Announcing("2.19.4").start()
"""


class TestNothingIsLeftBehind:
    """``wait=False``: whether the server was ready makes no difference to its end."""

    def check_all_gone(self, facts):
        until_ended(facts["server"])
        until_ended(facts["supervisor"])
        assert not any(map(os.path.exists, facts["directories"]))

    def test_by_a_parent_that_was_killed(self, script):
        parent = script(STARTS + "print(json.dumps(facts), flush=True); sys.stdin.read()")
        facts = parent.report()
        assert is_running(facts["server"])
        parent.end(signal.SIGKILL)
        self.check_all_gone(facts)

    def test_by_a_killed_parent_whose_forked_child_lives_on(self, script):
        """The child holds every pipe of the parent open."""
        parent = script(
            STARTS
            + "facts['child'] = os.fork()\nif facts['child']: print(json.dumps(facts), flush=True)\nsys.stdin.read()"
        )
        facts = parent.report()
        parent.end(signal.SIGKILL)
        assert is_running(facts["child"])
        self.check_all_gone(facts)
        assert is_running(facts["child"])

    def test_by_ctrl_c_during_the_start(self, script):
        parent = script(STARTS_AND_WAITS)
        facts = parent.report()
        parent.end(signal.SIGINT)
        assert "KeyboardInterrupt" in parent.errors()
        self.check_all_gone(facts)

    def test_by_a_killed_supervisor(self, script):
        """The kernel kills the server then; only the directory stays, until the parent stops it."""
        parent = script(STARTS + "print(json.dumps(facts), flush=True); sys.stdin.readline(); server.stop()")
        facts = parent.report()
        os.kill(facts["supervisor"], signal.SIGKILL)
        until_ended(facts["server"])
        parent.process.communicate("\n", timeout=60)
        assert not any(map(os.path.exists, facts["directories"]))

    def test_by_a_server_detached_for_an_owner_that_ends(self, script):
        owner = script("import sys; sys.stdin.read()")
        parent = script(STARTS + f"server.detach(owner={owner.process.pid})\nprint(json.dumps(facts), flush=True)")
        facts = parent.report()
        assert parent.process.wait(60) == 0
        assert is_running(facts["server"])
        owner.end(signal.SIGKILL)
        self.check_all_gone(facts)
