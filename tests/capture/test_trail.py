"""The trail of a process: safe when the call returns, shipped in the background, bounded at the end."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

import audit_logging as audit
from audit_logging.capture.configuration import current_trail
from audit_logging.capture.trail import Trail
from audit_logging.errors import NotIndexedError, SettingsError, SpoolFullError
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.settings import Settings
from audit_logging.shipping.dead_letters import DeadLetters
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.segment import Record
from tests.faults.proxy import FaultProxy

log = audit.get_logger()


def waiting(spool):
    """Return how many events wait in the spool, over all writers."""
    return sum(SpoolReader(path).count_waiting() for path in SpoolDirectory(spool).writers())


class TestWithoutServer:
    def test_events_stay_in_the_spool_and_one_warning_says_so(self, tmp_path, caplog):
        """No opensearch_url: nothing is lost, somebody is told, once."""
        audit.configure(spool_dir=tmp_path / "spool")
        for _ in range(3):
            log.user_logout()
        assert waiting(tmp_path / "spool") == 3
        assert caplog.text.count("No opensearch_url is set") == 1
        assert not audit.flush(0.01)
        assert audit.shutdown() == 3
        assert waiting(tmp_path / "spool") == 3

    def test_a_process_that_only_writes_leaves_the_shipping_to_a_sidecar(self, tmp_path, caplog):
        """ship=False: no thread, no warning, no server needed; flush and indexed look at how far the sidecar is."""
        audit.configure(spool_dir=tmp_path, ship=False, indexed_timeout_seconds=20)
        log.user_logout()
        assert (current_trail()._shipper, caplog.text) == (None, "")
        assert not audit.flush(0.01)
        (claimed,) = SpoolDirectory(tmp_path).claim()
        reader = SpoolReader(claimed.path)

        stopping = threading.Event()

        def ship():
            while not stopping.wait(0.001):
                for record in reader.read(1 << 20):
                    reader.acknowledge(record.sequence)

        shipping = threading.Thread(target=ship)
        shipping.start()
        try:
            log.user_logout(durability="indexed")
        finally:
            stopping.set()
            shipping.join()
            claimed.release()
        assert audit.flush(0.01)
        assert audit.shutdown() == 0
        assert SpoolDirectory(tmp_path).writers() == []

    def test_emitting_before_configure_uses_the_environment(self, tmp_path, monkeypatch):
        """And after a shutdown it begins anew, as another writer."""
        monkeypatch.setenv("AUDIT_SPOOL_DIR", str(tmp_path / "spool"))
        monkeypatch.setenv("AUDIT_SERVICE", "from-environment")
        log.user_logout()
        assert current_trail().settings.service == "from-environment"
        assert audit.shutdown() == 1
        log.user_logout()
        assert waiting(tmp_path / "spool") == 2
        assert len(SpoolDirectory(tmp_path / "spool").writers()) == 2

    def test_a_process_that_emits_nothing_leaves_nothing(self, tmp_path):
        """No directory, no thread, nothing to flush."""
        assert audit.flush()
        assert audit.shutdown() == 0
        audit.configure(spool_dir=tmp_path / "spool", opensearch_url="http://127.0.0.1:1")
        assert audit.flush()
        assert audit.shutdown() == 0
        assert not (tmp_path / "spool").exists()

    def test_configure_twice_is_the_same_trail_or_an_error_that_names_the_difference(self, tmp_path):
        """replace=True swaps cleanly."""
        audit.configure(service="shop", spool_dir=tmp_path / "a")
        before = current_trail()
        audit.configure(service="shop", spool_dir=tmp_path / "a")
        assert current_trail() is before
        with pytest.raises(SettingsError, match=r"another service, spool_dir\..*replace=True"):
            audit.configure(service="other", spool_dir=tmp_path / "b")
        log.user_logout()
        audit.configure(service="other", spool_dir=tmp_path / "b", replace=True)
        log.user_logout()
        assert (waiting(tmp_path / "a"), waiting(tmp_path / "b")) == (1, 1)

    def test_a_full_spool_blocks_and_then_raises(self, tmp_path):
        """Nothing is dropped in silence; the error carries the event's id."""
        audit.configure(spool_dir=tmp_path, spool_max_bytes=1 << 16, spool_block_seconds=0.05)
        with pytest.raises(SpoolFullError, match="spool_max_bytes") as caught:
            for _ in range(1000):
                log.user_logout(note="x" * 1000)
        assert (caught.value.state, len(caught.value.event_id)) == ("refused", 36)

    @pytest.mark.parametrize("signing", [False, True])
    def test_a_full_spool_has_room_for_what_the_shipper_says(self, tmp_path, signing):
        """It is the shipper that makes room: should it wait for some, everybody would."""
        audit.configure(spool_dir=tmp_path, spool_max_bytes=1 << 16, spool_block_seconds=0, signing=signing)
        with pytest.raises(SpoolFullError):
            for _ in range(1000):
                log.user_logout(note="x" * 1000)
        count = waiting(tmp_path)
        letter = DeadLetters(tmp_path, "audit-events").keep(Record(7, b'{"event":{"action":"a.b"}}'), "w", "why")
        current_trail().tell_of_dead_letter(letter)
        assert waiting(tmp_path) == count + 1

    def test_a_full_spool_does_not_hold_up_the_event_loop(self, tmp_path):
        """The waiting happens in a thread; the loop goes on meanwhile."""
        audit.configure(spool_dir=tmp_path, spool_max_bytes=1 << 16, spool_block_seconds=0.2)
        with pytest.raises(SpoolFullError):
            for _ in range(1000):
                log.user_logout(note="x" * 1000)

        async def both():
            waiting = asyncio.create_task(log.aemit("user.logout", note="x" * 1000))
            turns = 0
            while not waiting.done():
                await asyncio.sleep(0)
                turns += 1
            with pytest.raises(SpoolFullError):
                await waiting
            return turns

        assert asyncio.run(both()) > 10

    def test_durabilities_are_checked(self, tmp_path):
        """A typo is an error at once, and indexed needs a server to be indexed by."""
        audit.configure(spool_dir=tmp_path)
        with pytest.raises(SettingsError, match="process, disk or indexed"):
            log.user_logout(durability="disc")
        with pytest.raises(SettingsError, match="opensearch_url"):
            log.user_logout(durability="indexed")
        log.user_logout(durability="disk")
        asyncio.run(log.aemit("user.logout", durability="disk"))
        assert waiting(tmp_path) == 2

    def test_indexed_raises_when_nothing_acknowledges_in_time(self, tmp_path):
        """Fail closed: the event is in the spool and the error says so."""
        audit.configure(spool_dir=tmp_path, opensearch_url="http://127.0.0.1:1", indexed_timeout_seconds=0.1)
        with pytest.raises(NotIndexedError, match="do not emit it again") as caught:
            log.user_logout(durability="indexed")
        assert caught.value.state == "spooled"
        assert audit.shutdown(0.1) == 1

    def test_an_enricher_of_the_application_is_run_and_may_fail(self, tmp_path, capsys):
        """A structlog processor like any other; its failure costs a mark and not the event."""

        def add_region(logger, method_name, event_dict):
            event_dict["region"] = "eu"
            return event_dict

        def broken(logger, method_name, event_dict):
            raise KeyError("no")

        audit.configure(spool_dir=tmp_path, processors=[add_region, broken], console=True)
        log.user_logout(user_id="u-\x1b[31m42")
        (path,) = SpoolDirectory(tmp_path).writers()
        (record,) = SpoolReader(path).read(1)
        assert b'"processor_error":"broken: KeyError","region":"eu"' in record.payload
        printed = capsys.readouterr().err
        assert "user.logout" in printed
        assert "u-�[31m42" in printed

    def test_threads_share_one_chain_without_gap_or_loss(self, tmp_path):
        """Order in the file is order in the chain."""
        import orjson

        audit.configure(spool_dir=tmp_path, segment_max_bytes=1 << 14)
        threads = [threading.Thread(target=lambda: [log.user_logout() for _ in range(100)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (path,) = SpoolDirectory(tmp_path).writers()
        seals = [orjson.loads(record.payload)["audit"]["integrity"] for record in SpoolReader(path).read(1 << 30)]
        assert [seal["sequence"] for seal in seals] == list(range(1, 801))
        assert all(after["previous"] == before["hash"] for before, after in zip(seals, seals[1:], strict=False))


def test_a_forked_child_tells_its_own_pid(tmp_path):
    """Nothing that the parent learnt of an event's document is told for the child."""
    import orjson

    audit.configure(spool_dir=tmp_path)
    for _ in range(2):
        log.user_logout(user_id="u-42")
    child = os.fork()
    if child == 0:
        log.user_logout(user_id="u-42")
        os._exit(0)
    os.waitpid(child, 0)
    events = [
        orjson.loads(record.payload)
        for path in SpoolDirectory(tmp_path).writers()
        for record in SpoolReader(path).read(1 << 20)
    ]
    assert sorted(event["process"]["pid"] for event in events) == sorted([os.getpid(), os.getpid(), child])


def run(script, **environment):
    """Run a script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.server
class TestWithServer:
    @pytest.fixture
    def given(self, settings):
        AuditAdmin(settings=settings).setup()
        chosen = {
            "opensearch_url": settings.opensearch_url,
            "stream": settings.stream,
            "spool_dir": settings.home / "s",
        }
        return {**chosen, "batch_seconds": 0.02}

    @pytest.fixture
    def environment(self, given):
        return {
            "AUDIT_OPENSEARCH_URL": given["opensearch_url"][0],
            "AUDIT_STREAM": given["stream"],
            "AUDIT_SPOOL_DIR": str(given["spool_dir"]),
        }

    def count(self, client, settings):
        client.request("POST", f"/{settings.stream}/_refresh")
        return client.request("GET", f"/{settings.stream}/_count")["count"]

    def test_flush_means_acknowledged_and_shutdown_leaves_nothing(self, given, client, settings):
        """The spool's directory of a finished writer is gone."""
        audit.configure(**given)
        for _ in range(50):
            log.user_logout()
        assert audit.flush(20)
        assert self.count(client, settings) == 50
        assert audit.shutdown() == 0
        assert SpoolDirectory(given["spool_dir"]).writers() == []

    def test_indexed_returns_when_acknowledged_and_raises_when_refused(self, given, client, settings):
        """A quarantined event counts as failed."""
        audit.configure(**given)
        asyncio.run(log.aemit("user.logout", durability="indexed"))
        assert self.count(client, settings) == 1
        with FaultProxy(given["opensearch_url"][0]) as proxy:
            proxy.faults.append(proxy.items(400, "mapper_parsing_exception", every=1))
            audit.configure(**{**given, "opensearch_url": proxy.url}, replace=True)
            with pytest.raises(NotIndexedError, match="mapper_parsing_exception") as caught:
                log.user_logout(durability="indexed")
            assert caught.value.state == "quarantined"
            audit.shutdown()

    def test_the_spool_of_a_killed_process_is_shipped_by_the_next(self, given, environment, client, settings):
        """kill -9 right after the call returned: the event is there, once."""
        script = """
            import os, signal
            import audit_logging as audit
            audit.configure(opensearch_url="http://127.0.0.1:1")
            for _ in range(10):
                audit.get_logger().user_logout(user_id="killed")
            os.kill(os.getpid(), signal.SIGKILL)
        """
        assert run(script, **environment).returncode == -signal.SIGKILL
        assert waiting(given["spool_dir"]) == 10
        audit.configure(**given)
        log.user_login(durability="indexed")
        trail = current_trail()
        assert trail._shipper is not None
        trail.shutdown(20)
        assert self.count(client, settings) == 11
        assert SpoolDirectory(given["spool_dir"]).writers() == []

    def test_the_spool_of_another_stream_is_left_to_its_own(self, given, tmp_path):
        """Two applications may share a spool directory; their events never end in each other's stream."""
        audit.configure(**{**given, "stream": f"{given['stream']}-other", "opensearch_url": "http://127.0.0.1:1"})
        log.user_logout()
        assert audit.shutdown(0.1) == 1
        audit.configure(**given, replace=True)
        log.user_logout(durability="indexed")
        assert audit.shutdown(20) == 0
        assert waiting(given["spool_dir"]) == 1

    def test_exit_ships_and_says_what_stays(self, environment, client, settings):
        """A program that just ends ships first; one whose server is away says where its events are."""
        script = "import audit_logging as audit; audit.get_logger().user_logout()"
        assert run(script, **environment).stderr == ""
        assert self.count(client, settings) == 1
        away = run(
            script,
            **environment | {"AUDIT_OPENSEARCH_URL": "http://127.0.0.1:1", "AUDIT_SHUTDOWN_TIMEOUT_SECONDS": "0.2"},
        )
        assert away.returncode == 0
        assert "1 audit events remain in the spool" in away.stderr

    def test_a_forked_child_is_a_writer_of_its_own(self, environment, client, settings):
        """Parent and children, os._exit among them: every event once, three writers, no lock kept."""
        script = """
            import os
            import audit_logging as audit
            log = audit.get_logger()
            log.user_logout(who="parent")
            for child in range(2):
                if os.fork() == 0:
                    log.user_logout(who=f"child {child}")
                    if child:
                        assert audit.flush(20)
                    os._exit(0)
            os.wait(), os.wait()
            log.user_logout(who="parent again")
        """
        result = run(script, **environment)
        assert (result.returncode, result.stderr) == (0, "")
        audit.configure(
            opensearch_url=settings.opensearch_url, stream=settings.stream, spool_dir=environment["AUDIT_SPOOL_DIR"]
        )
        log.user_logout(who="adopter", durability="indexed")
        audit.shutdown(20)
        assert self.count(client, settings) == 5
        answer = client.request("POST", f"/{settings.stream}/_search", body={"size": 10})
        seals = [hit["_source"]["audit"]["integrity"] for hit in answer["hits"]["hits"]]
        assert len({seal["writer"] for seal in seals}) == 4

    def test_a_wrong_password_or_a_wrong_address_does_not_touch_the_application(self, tmp_path, given):
        """The call costs the same; the events wait."""
        trail = Trail(Settings.load(**{**given, "opensearch_url": "http://127.0.0.1:1"}))
        for _ in range(10):
            trail.emit("user.logout", {})
        assert not trail.flush(0.1)
        assert trail.shutdown(0.1) == 10
