"""What a trail that signs writes of its own: begin, checkpoints, end, what it adopted; and where else heads go."""

import datetime as dt
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import orjson
import pytest

from audit_logging.capture import trail as trails
from audit_logging.capture.trail import Trail
from audit_logging.errors import SettingsError
from audit_logging.integrity.heads import Heads
from audit_logging.integrity.judgement import View
from audit_logging.integrity.keys import TrustedKeys
from audit_logging.integrity.sealed_event import read_sealed_event
from audit_logging.integrity.signature import is_signed
from audit_logging.integrity.verification import Verification
from audit_logging.settings import Settings
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.reader import SpoolReader
from tests.integrity.chains import author
from tests.waiting import is_in, until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path):
    """A trail that signs, and leaves everything in the spool."""
    return Settings.load(home=tmp_path / "home", signing=True, console=False, ship=False)


def spooled(settings):
    """Return the events in the spool, by writer."""
    found = {}
    for path in SpoolDirectory(settings.spool_path, settings.stream).writers():
        records = SpoolReader(path).read(1 << 30)
        found[path.name] = [read_sealed_event(record.payload) for record in records]
    return found


def own(events):
    return [event.own for event in events]


class TestChain:
    def test_it_begins_and_ends_with_signed_events_and_one_without_events_leaves_nothing(self, settings):
        trail = Trail(settings)
        assert trail.shutdown(1) == 0
        assert not settings.spool_path.exists()
        trail.emit("user.login", {"user_id": "u-1"})
        assert trail.shutdown(1) == 3
        [events] = spooled(settings).values()
        assert own(events) == ["audit.started", "", "audit.stopped"]
        keys = TrustedKeys.beside(settings.signing_key_path)
        assert [is_signed(event, keys) for event in events] == [True, False, True]
        assert events[0].metadata["chain"] == events[0].writer
        assert events[0].metadata["checkpoint_seconds"] == "300.0"
        assert [event.time for event in events] == sorted(event.time for event in events)

    def test_the_context_of_the_first_event_is_not_that_of_the_begin(self, settings):
        import audit_logging as audit

        trail = Trail(settings)
        with audit.context(user_id="u-1", organization_id="acme"):
            trail.emit("user.login", {})
        [(started, login)] = spooled(settings).values()
        assert "user" not in orjson.loads(started.document)
        assert orjson.loads(login.document)["user"]["id"] == "u-1"
        trail.shutdown(0)

    def test_without_signing_there_is_nothing_of_it(self, settings):
        trail = Trail(settings.model_copy(update={"signing": False}))
        trail.emit("user.login", {})
        trail.shutdown(1)
        assert [own(events) for events in spooled(settings).values()] == [[""]]
        assert not settings.signing_key_path.exists()
        assert not (settings.spool_path / "heads").exists()

    def test_threads_that_begin_together_begin_one_chain(self, settings):
        trail = Trail(settings)
        barrier = threading.Barrier(8)

        def emit():
            barrier.wait()
            for _ in range(20):
                trail.emit("user.login", {})

        threads = [threading.Thread(target=emit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        trail.shutdown(1)
        [events] = spooled(settings).values()
        assert own(events) == ["audit.started", *[""] * 160, "audit.stopped"]
        assert [event.sequence for event in events] == list(range(1, 163))

    def test_who_emits_while_another_shuts_down_begins_another_chain(self, settings):
        trail = Trail(settings)
        go_on = threading.Event()
        emitted = []

        def emit():
            while not go_on.is_set():
                emitted.append(trail.emit("user.login", {}))

        thread = threading.Thread(target=emit)
        thread.start()
        for _ in range(20):
            count = len(emitted)
            until(lambda count=count: len(emitted) > count)
            trail.shutdown(1)
        go_on.set()
        thread.join()
        trail.shutdown(1)
        chains = spooled(settings).values()
        assert len(chains) > 10
        assert {(own(events)[0], own(events)[-1]) for events in chains} == {("audit.started", "audit.stopped")}
        assert sum(own(events).count("") for events in chains) == len(emitted)

    @pytest.mark.parametrize("part", ["DocumentBuilder", "Writer", "HealthProbe", "Checkpoints", "Signer"])
    def test_who_emits_while_the_next_chain_is_made_begins_it_or_is_in_the_last(self, settings, monkeypatch, part):
        trail = Trail(settings)
        trail.emit("user.login", {})
        make = getattr(trails, part)

        def make_meanwhile(*arguments):
            thread.start()
            until(lambda: not thread.is_alive() or is_in(thread, "_start_chain", "_begin"))  # where it waits for this
            return make(*arguments)

        thread = threading.Thread(target=trail.emit, args=("user.login", {}))
        monkeypatch.setattr(trails, part, make_meanwhile)
        trail.shutdown(1)
        monkeypatch.undo()
        thread.join()
        trail.shutdown(1)
        chains = spooled(settings).values()
        assert {(own(events)[0], own(events)[-1]) for events in chains} == {("audit.started", "audit.stopped")}
        assert sum(own(events).count("") for events in chains) == 2

    def test_a_full_spool_refuses_events_and_not_the_end(self, settings):
        trail = Trail(settings.model_copy(update={"spool_max_bytes": 1 << 20, "spool_block_seconds": 0.0}))
        with pytest.raises(Exception, match="is full"):
            for _ in range(5000):
                trail.emit("user.login", {"note": "n" * 1000})
        trail._checkpoint()
        trail.shutdown(0)
        [events] = spooled(settings).values()
        assert own(events)[-2:] == ["audit.checkpoint", "audit.stopped"]

    def test_an_imported_event_of_a_writers_is_not_one_of_this_chain(self, settings):
        trail = Trail(settings)
        trail.emit("audit.stopped", {"metadata": {"chain": "f" * 20}}, origin={})
        trail.shutdown(0)
        [events] = spooled(settings).values()
        assert [bool(event.signature) for event in events] == [True, False, True]


class TestForks:
    def test_a_child_has_a_chain_of_its_own_with_its_own_checkpoints(self, settings):
        code = f"""
import os
from pathlib import Path
import audit_logging as audit
from audit_logging.capture.configuration import current_trail
from tests.integrity.chains import author
from tests.waiting import is_in, until
audit.configure(home={str(settings.home)!r}, signing=True, console=False, ship=False, checkpoint_seconds=1)
log = audit.get_logger()
log.user_login(user_id="parent")
child = os.fork()
log.user_login(user_id="both")
own = f"{{current_trail().writer_id}}/*.seg"
until(lambda: any(b"audit.checkpoint" in each.read_bytes() for each in Path({str(settings.spool_path)!r}).rglob(own)))
audit.shutdown()
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)
        parent, child = sorted(map(own, spooled(settings).values()), key=len, reverse=True)
        assert parent == ["audit.started", "", "", "audit.checkpoint", "audit.stopped"]
        assert child == ["audit.started", "", "audit.checkpoint", "audit.stopped"]


class TestCheckpoints:
    def test_they_come_in_silence_too(self, settings):
        trail = Trail(settings.model_copy(update={"checkpoint_seconds": 0.1}))
        trail.emit("user.login", {})
        writer = trail.writer_id
        until(lambda: own(spooled(settings)[writer]).count("audit.checkpoint") >= 2)
        trail.shutdown(1)
        assert "audit-logging-checkpoints" not in {thread.name for thread in threading.enumerate()}

    def test_one_vouches_for_writers_that_ended_beside_it(self, settings):
        living, short = Trail(settings), Trail(settings)
        living.emit("user.login", {})
        writer = short.writer_id
        short.emit("user.login", {})
        short.shutdown(1)
        living._checkpoint()
        *_, checkpoint = spooled(settings)[living.writer_id]
        [head] = checkpoint.metadata["heads"]
        last = spooled(settings)[writer][-1]
        assert (head["writer"], head["sequence"], head["hash"]) == (writer, 3, last.hash)
        assert (head["ended"], head["shipped"]) == (True, False)
        assert [each.writer for each in Heads(settings.spool_path, settings.stream)] == [living.writer_id]
        living.shutdown(0)

    def test_heads_that_the_first_event_has_no_room_for_follow_in_checkpoints(self, settings, monkeypatch):
        monkeypatch.setattr("audit_logging.capture.trail.MOST_HEADS_AT_START", 3)
        monkeypatch.setattr("audit_logging.capture.trail.MOST_HEADS", 4)
        heads = Heads(settings.spool_path, settings.stream)
        dead = [author(number).life(stop=False) for number in range(12)]  # as an earlier version left them
        for one in dead:
            heads.keep(one.writer, one.written[-2])
        trail = Trail(settings)
        trail.emit("user.login", {})
        trail._checkpoint()
        trail._checkpoint()
        events = [event for event in spooled(settings)[trail.writer_id] if event.own]
        told = [[head["writer"] for head in event.metadata.get("heads", ())] for event in events]
        assert own(events) == ["audit.started", *["audit.checkpoint"] * 4]
        assert [len(each) for each in told] == [3, 4, 4, 1, 0]
        assert sorted(writer for each in told for writer in each) == sorted(one.writer for one in dead)
        trail.shutdown(0)

    def test_a_second_file_and_a_command_are_given_every_signed_event(self, settings, tmp_path):
        second, third = tmp_path / "deep/second", tmp_path / "third"
        told = {"checkpoint_file": second, "checkpoint_command": f"tee -a {third}"}
        trail = Trail(settings.model_copy(update=told))
        trail.emit("user.login", {})
        trail._checkpoint()
        trail.shutdown(5)
        [events] = spooled(settings).values()
        signed = [event.document for event in events if event.own]
        assert second.read_bytes().splitlines() == signed
        assert third.read_bytes().splitlines() == signed
        assert stat.S_IMODE(second.stat().st_mode) == 0o600

    @pytest.mark.parametrize(
        ("command", "told"), [("false", "ended with 1"), ("/no/such/thing", "failed"), ("sleep 60", "failed")]
    )
    def test_a_command_that_fails_is_told_of_and_costs_nothing(self, settings, caplog, monkeypatch, command, told):
        monkeypatch.setattr("audit_logging.capture.checkpoints.COMMAND_SECONDS", 0.1)
        trail = Trail(settings.model_copy(update={"checkpoint_command": command}))
        trail.emit("user.login", {})
        trail.shutdown(5)
        assert told in caplog.text

    def test_a_second_place_that_is_away_is_told_of_and_costs_nothing(self, settings, caplog, tmp_path):
        (tmp_path / "file").write_text("")
        trail = Trail(settings.model_copy(update={"checkpoint_file": tmp_path / "file" / "below"}))
        trail.emit("user.login", {})
        trail.shutdown(1)
        assert "could not be kept in a second place" in caplog.text
        assert [len(events) for events in spooled(settings).values()] == [3]


class TestKey:
    def test_it_is_private_and_of_one_mind_in_all_processes(self, settings):
        trails = [Trail(settings) for _ in range(3)]
        assert stat.S_IMODE(settings.signing_key_path.stat().st_mode) == 0o600
        assert len({trail._key.id for trail in trails}) == 1

    def test_one_that_cannot_be_used_ends_it_where_signing_was_asked_for(self, settings):
        settings.signing_key_path.parent.mkdir(parents=True)
        settings.signing_key_path.write_text("no key")
        with pytest.raises(SettingsError, match="no signing key"):
            Trail(settings)

    def test_else_the_trail_goes_on_and_says_so(self, settings, caplog):
        settings.signing_key_path.parent.mkdir(parents=True)
        settings.signing_key_path.write_text("no key")
        trail = Trail(settings.model_copy(update={"signing": None}))
        trail.emit("user.login", {})
        assert "Nothing is signed" in caplog.text
        assert [own(events) for events in spooled(settings).values()] == [[""]]
        trail.shutdown(0)


class TestManyDeadWriters:
    def kill(self, settings, count):
        """Let a process begin *count* writers, one after the other, and kill it."""
        child = os.fork()
        if child == 0:
            trails = [Trail(settings) for _ in range(count)]
            for trail in trails:
                trail.emit("user.login", {})
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)

    def test_each_head_is_signed_once_however_many_writers_follow(self, settings):
        Trail(settings)  # makes the key
        self.kill(settings, 60)
        trail = Trail(settings)
        trail.emit("user.login", {})
        told = [
            head["writer"]
            for events in spooled(settings).values()
            for event in events
            if event.own
            for head in event.metadata.get("heads", ())
        ]
        assert sorted(told) == sorted(set(spooled(settings)) - {trail.writer_id})
        trail.shutdown(0)

    def test_the_first_event_does_not_grow_with_dead_writers(self, settings):
        Trail(settings)
        sizes = []
        for count in (2, 60):
            self.kill(settings, count)
            trail = Trail(settings)
            trail.emit("user.login", {})
            sizes.append(len(spooled(settings)[trail.writer_id][0].document))
            trail.shutdown(0)
        assert abs(sizes[1] - sizes[0]) < 50

    def test_the_first_emit_reads_a_bounded_number_of_heads(self, settings, monkeypatch):
        heads = Heads(settings.spool_path, settings.stream)
        for number in range(200):
            one = author(number).life(stop=False)
            heads.keep(one.writer, one.written[0])
        read = []
        monkeypatch.setattr(
            "audit_logging.integrity.heads.read_sealed_event",
            lambda document: read.append(1) or read_sealed_event(document),
        )
        trail = Trail(settings)
        trail.emit("user.login", {})
        assert len(read) == trails.MOST_HEADS_AT_START
        trail.shutdown(0)

    def test_a_writer_that_vanishes_is_named_as_long_as_a_later_one_is_there(self, settings):
        Trail(settings)
        self.kill(settings, 5)
        trail = Trail(settings)
        trail.emit("user.login", {})
        trail.shutdown(0)
        stored = spooled(settings)
        for gone in stored:
            left = [events for writer, events in stored.items() if writer != gone]
            verification = Verification(TrustedKeys.beside(settings.signing_key_path))
            for event in (event for events in left for event in events):
                verification.add(event.document)
            now = dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=1)
            found = verification.verdict(View(now, dt.timedelta(days=90), to_end=False)).findings
            named = [finding.writer for finding in found if finding.kind == "vanished"]
            assert named == ([gone] if gone != trail_writer(stored) else [])


def trail_writer(stored):
    """Return the last writer, of which no later one can know."""
    return max(stored, key=lambda writer: stored[writer][0].time)


class TestDeadWriters:
    def kill_one(self, settings, count=4):
        child = os.fork()
        if child == 0:
            trail = Trail(settings)
            for _ in range(count):
                trail.emit("user.login", {})
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)

    def test_their_end_is_told_once_by_who_ships_them(self, settings):
        self.kill_one(settings)
        [(dead, events)] = spooled(settings).items()
        trail = Trail(settings)
        trail.tell_of_closed_writer(events[-1].document)
        told = spooled(settings)[trail.writer_id]
        assert own(told) == ["audit.started", "audit.writer_closed"]
        assert {"writer": dead, "sequence": 5, "hash": events[-1].hash}.items() <= told[-1].metadata.items()
        assert dead not in {head.writer for head in Heads(settings.spool_path, settings.stream)}
        trail.tell_of_closed_writer(told[-1].document)
        trail.shutdown(0)

    @pytest.mark.parametrize("payload", [b"", b"{}", b"no json"])
    def test_what_bears_no_seal_is_passed_over(self, settings, payload, caplog):
        caplog.set_level(logging.ERROR)
        trail = Trail(settings)
        trail.tell_of_closed_writer(payload)
        assert trail.shutdown(0) == 0
        assert not caplog.records
