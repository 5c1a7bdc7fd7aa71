"""A server that is killed, stopped, away from the start or overrun, while an application goes on emitting."""

import itertools
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.errors import OpenSearchError, UnreachableError
from audit_logging.local import LocalServer
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.opensearch.client import Client
from audit_logging.query.reader import AuditReader
from audit_logging.settings import Settings
from audit_logging.shipping import backoff
from tests.faults.reckoning import reckon
from tests.query.trail import Trail as HandmadeTrail
from tests.query.trail import event
from tests.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def server():
    """A server that may be harmed. Its write queue holds one request, so that it is easily overrun."""
    with LocalServer(settings={"thread_pool.write.queue_size": 1, "thread_pool.write.size": 1}) as server:
        yield server


@pytest.fixture
def settings(server, tmp_path, request, monkeypatch):
    monkeypatch.setattr(backoff, "LONGEST_SECONDS", 2.0)
    settings = Settings.load(
        **server.settings(),
        stream=f"fault-{abs(hash(request.node.name))}",
        home=tmp_path,
        opensearch_timeout_seconds=2.0,
        batch_seconds=0.02,
    )
    with AuditAdmin(settings=settings.model_copy(update={"opensearch_timeout_seconds": 30.0})) as admin:
        admin.setup()
    return settings


class Application(threading.Thread):
    """Emits without a pause until it is told to stop, and remembers the slowest call."""

    def __init__(self, trail):
        super().__init__()
        self.trail = trail
        self.ids = []
        self.slowest_seconds = 0.0
        self.leaving = threading.Event()

    def run(self):
        while not self.leaving.wait(0.002):
            began = time.perf_counter()
            self.ids.append(self.trail.emit("user.login", {"user_id": f"u-{len(self.ids)}"}))
            self.slowest_seconds = max(self.slowest_seconds, time.perf_counter() - began)

    def wait_for(self, count):
        """Return once it has emitted *count* more."""
        wanted = len(self.ids) + count
        until(lambda: len(self.ids) >= wanted or not self.is_alive())
        assert self.is_alive()

    def stop(self):
        self.leaving.set()
        self.join()


@pytest.fixture
def application(settings):
    trail = Trail(settings)
    application = Application(trail)
    application.start()
    yield application
    application.stop()
    trail.shutdown(5)


def all_is_there(application, settings):
    application.stop()
    assert application.trail.flush(60)
    reckon(settings.model_copy(update={"opensearch_timeout_seconds": 30.0}), application.ids)


def test_the_server_is_killed_and_comes_back(server, application, settings):
    """What it acknowledged is on its disk; what it did not is sent again."""
    application.wait_for(200)
    server.kill()
    application.wait_for(200)
    server.start()
    application.wait_for(100)
    all_is_there(application, settings)


def test_the_server_is_stopped_for_twenty_seconds(server, application, settings):
    """It accepts connections and answers nothing; afterwards it carries out what was sent to it meanwhile."""
    application.wait_for(100)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            application.wait_for(50)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    application.wait_for(100)
    all_is_there(application, settings)
    assert application.slowest_seconds < 1.0


def test_a_stopped_server_that_is_rolled_over_before_it_is_asked_again(server, application, settings):
    """What it carries out late, after our patience, is found before it is sent again."""
    application.wait_for(100)
    os.kill(server.pid, signal.SIGSTOP)
    application.wait_for(1500)
    os.kill(server.pid, signal.SIGCONT)
    client = Client(settings)
    until(lambda: client.request("POST", f"/{settings.stream}/_rollover", timeout=30), despite=OpenSearchError)
    application.wait_for(100)
    all_is_there(application, settings)
    client.close()


def test_a_write_queue_that_overflows(server, settings):
    """Really 429, from the server itself: what it turned away arrives, once."""
    crowd = settings.model_copy(update={"batches_in_flight": 8, "batch_max_bytes": 4096, "batch_seconds": 0.0})
    trails = [Trail(crowd) for _ in range(3)]
    ids = [trail.emit("user.login", {"user_id": f"u-{number}"}) for number in range(400) for trail in trails]
    assert all(trail.flush(60) for trail in trails)
    for trail in trails:
        assert trail.shutdown(5) == 0
    client = Client(settings)
    pools = client.request("GET", "/_nodes/stats/thread_pool", timeout=30)["nodes"].values()
    client.close()
    assert sum(node["thread_pool"]["write"]["rejected"] for node in pools) > 0
    reckon(settings.model_copy(update={"opensearch_timeout_seconds": 30.0}), ids)


def test_nobody_listens_at_first(server, settings):
    """An application may start before its server does: it emits as ever, and all ships later."""
    server.kill()
    trail = Trail(settings)
    ids = [trail.emit("user.login", {"user_id": f"u-{number}"}) for number in range(500)]
    assert not trail.flush(0.5)
    server.start()
    assert trail.flush(60)
    assert trail.shutdown(5) == 0
    reckon(settings.model_copy(update={"opensearch_timeout_seconds": 30.0}), ids)


@pytest.mark.parametrize("seed", [1])
def test_the_server_is_killed_at_a_moment_drawn_by(seed, server, application, settings):
    """In the middle of whatever it does."""
    application.wait_for(Random(seed).randrange(1, 300))
    server.kill()
    server.start()
    all_is_there(application, settings)


def test_a_restart_is_waited_out_by_who_follows_the_trail(server, settings):
    """Nothing is shown twice afterwards, and what came meanwhile follows."""
    waits = []
    settings = settings.model_copy(update={"opensearch_timeout_seconds": 30.0})
    client = Client(settings)
    trail = HandmadeTrail(settings, client)
    trail.add(event("before"))
    with AuditReader(settings=settings) as reader:
        following = reader.tail(last=1, poll_seconds=0.05, on_wait=waits.append)
        assert next(following).id == "before"
        trail.add(event("just before"))
        server.kill()
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(next, following)
            until(lambda: waits)
            server.start()
            trail.add(event("after"))
            assert coming.result(60).id == "just before"
        assert next(following).id == "after"
        assert followed_nothing_more(following)
    client.close()
    assert isinstance(waits[0], UnreachableError)
    assert waits[-1] is None


def followed_nothing_more(following):
    """Whether a few more looks find nothing."""
    looks = itertools.count()

    class EnoughError(Exception):
        pass

    def look_again(_):
        if next(looks) == 3:
            raise EnoughError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("audit_logging.query.reader.time.sleep", look_again)
        try:
            next(following)
        except EnoughError:
            return True
    return False
