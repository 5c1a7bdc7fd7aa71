"""The accounts: every event that was emitted is in one place, whatever happened."""

import datetime as dt
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from zlib import crc32

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from audit_logging.errors import SettingsError
from audit_logging.shipping.accounts import Balance, take_accounts
from audit_logging.shipping.concern import concerns
from audit_logging.shipping.dead_letters import DeadLetters
from audit_logging.spool import closed
from audit_logging.spool.closed import ClosedWriters
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.lock import FileLock
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.refusals import Refusals
from audit_logging.spool.segment import Record, encode_record
from audit_logging.spool.writer import SpoolWriter

WRITER = "0123456789abcdef0123"
SEGMENT_BYTES = 4096


def sealed(writer, sequence, size=0):
    """What stands in a spool, in short."""
    return orjson.dumps(
        {
            "@timestamp": "2026-01-01T00:00:00.000000Z",
            "audit": {"integrity": {"sequence": sequence, "writer": writer}},
            "host": {"name": os.uname().nodename},
            "message": "x" * size,
            "process": {"pid": os.getpid()},
            "service": {"name": "shop"},
        }
    )


class Living:
    """A writer as its own process and its shipper see it, and what the accounts should say of it."""

    def __init__(self, spool, number):
        self.id = f"{number:020x}"
        self.home = spool.create(self.id)
        self.spool = SpoolWriter(self.home.path, self.id, SEGMENT_BYTES)
        self.emitted = self.acknowledged = 0
        self.quarantined, self.dead, self.replayed = set(), set(), set()
        self.is_closed = False

    @property
    def balance(self):
        aside = sum(sequence > self.acknowledged for sequence in self.quarantined | self.dead | self.replayed)
        waiting = self.emitted - self.acknowledged - aside
        elsewhere = waiting + len(self.quarantined) + len(self.dead)
        return Balance(self.emitted, self.emitted - elsewhere, waiting, len(self.quarantined), len(self.dead), 0)


class History(RuleBasedStateMachine):
    """Writers come, write, are shipped, refused, killed, adopted and closed, in any order."""

    def __init__(self):
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        self.directory = SpoolDirectory(self.path / "spool")
        self.letters = DeadLetters(self.directory.dead_letters, "audit-events")
        self.writers = []
        self.before, closed.MOST_BYTES = closed.MOST_BYTES, 100
        self.lines, closed._KEPT_LINES = closed._KEPT_LINES, 1

    def teardown(self):
        for writer in self.open_ones():
            writer.home.release()
        closed.MOST_BYTES, closed._KEPT_LINES = self.before, self.lines
        shutil.rmtree(self.path)

    def open_ones(self):
        return [writer for writer in self.writers if not writer.is_closed]

    def pick(self, data, among=None):
        return data.draw(st.sampled_from(among or self.open_ones()))

    @initialize()
    def begin_with_one(self):
        self.begin()

    @rule()
    def begin(self):
        self.writers.append(Living(self.directory, len(self.writers)))

    @precondition(open_ones)
    @rule(data=st.data(), count=st.integers(1, 12), size=st.integers(0, 1500))
    def append(self, data, count, size):
        writer = self.pick(data)
        if writer.spool is None:
            return
        for _ in range(count):
            writer.emitted += 1
            writer.spool.append(sealed(writer.id, writer.emitted, size))

    def behind(self, data, writer):
        free = (
            set(range(writer.acknowledged + 1, writer.emitted + 1)) - writer.quarantined - writer.dead - writer.replayed
        )
        return data.draw(st.sampled_from(sorted(free))) if free else None

    @precondition(open_ones)
    @rule(data=st.data())
    def acknowledge(self, data):
        writer = self.pick(data)
        writer.acknowledged = data.draw(st.integers(writer.acknowledged, writer.emitted))
        if writer.acknowledged:
            SpoolReader(writer.home.path).acknowledge(writer.acknowledged)

    @precondition(open_ones)
    @rule(data=st.data(), fate=st.sampled_from(["refused", "quarantined", "kept", "dead"]))
    def refuse(self, data, fate):
        """As far as its shipper comes: the refusal noted, then quarantined, or a letter kept, and that noted."""
        writer = self.pick(data)
        if (sequence := self.behind(data, writer)) is None:
            return
        journal = Refusals(writer.home.path)
        journal.note("refused", {sequence: "why"})
        if fate in ("kept", "dead"):
            self.letters.keep(Record(sequence, sealed(writer.id, sequence)), writer.id, "why")
        if fate in ("quarantined", "dead"):
            journal.note(fate, {sequence: "why"})
            (writer.quarantined if fate == "quarantined" else writer.dead).add(sequence)

    @precondition(lambda self: any(writer.dead for writer in self.writers))
    @rule(data=st.data(), is_killed=st.booleans())
    def replay(self, data, is_killed):
        writer = self.pick(data, [writer for writer in self.writers if writer.dead])
        sequence = data.draw(st.sampled_from(sorted(writer.dead)))
        self.letters._note_replayed(f"{writer.id}-{sequence}")
        if not is_killed:
            self.letters.file_of(f"{writer.id}-{sequence}").unlink()
        writer.dead.discard(sequence)
        writer.replayed.add(sequence)

    @precondition(open_ones)
    @rule(data=st.data(), cut=st.integers(0, 200))
    def crash(self, data, cut):
        """Its process is killed in the middle of a write."""
        writer = self.pick(data)
        if writer.spool is None:
            return
        writer.spool.close()
        writer.spool = None
        writer.home.release()
        for segment in sorted(writer.home.path.glob("*.seg"))[-1:]:
            with segment.open("ab") as file:
                file.write(encode_record(sealed(writer.id, writer.emitted + 1))[:cut])

    @precondition(open_ones)
    @rule(data=st.data(), is_killed=st.booleans())
    def close(self, data, is_killed):
        """Whoever shipped the last of it removes it; one that is killed over that leaves it to the next."""
        writer = self.pick(data)
        if writer.spool is not None or not writer.home.take_over() or not writer.home.take_shipping():
            return
        writer.acknowledged = writer.emitted
        SpoolReader(writer.home.path).acknowledge(writer.emitted)
        if is_killed:
            ClosedWriters(self.directory.path).note(writer.home.path)
            writer.home.release()
        else:
            writer.home.remove()
            writer.is_closed = True

    @invariant()
    def everything_is_somewhere(self):
        for quick in (False, True):
            accounts = take_accounts(self.directory.path, quick=quick)
            found = {account.writer: account.balance for account in accounts.writers}
            assert found == {writer.id: writer.balance for writer in self.open_ones()}
            assert accounts.balanced
            assert accounts.total == sum((writer.balance for writer in self.writers), Balance())
            assert sum(account.writers for account in accounts.closed) == len(self.writers) - len(self.open_ones())
        total = accounts.total
        assert total.emitted == total.indexed + total.in_spool + total.quarantined + total.dead


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@pytest.fixture
def left(tmp_path):
    """A spool as two processes left it: one that lives, and one that was killed."""
    directory = SpoolDirectory(tmp_path)
    return Living(directory, 1), Living(directory, 2)


def append(living, count, size=0):
    for _ in range(count):
        living.emitted += 1
        living.spool.append(sealed(living.id, living.emitted, size))


class TestWriters:
    def test_who_lives_who_died_and_who_was_adopted(self, left, tmp_path):
        """By the lock, which the kernel takes from the dead; and by the process that their events name."""
        alive, dead = left
        for each in left:
            append(each, 2)
        dead.home.release()
        first, second = take_accounts(tmp_path).writers
        assert (first.state, second.state) == ("alive", "dead")
        assert (first.service, first.host, first.pid) == ("shop", os.uname().nodename, os.getpid())
        gone = subprocess.Popen(["true"])
        gone.wait()
        third = Living(SpoolDirectory(tmp_path), 3)
        third.spool.append(sealed(third.id, 1).replace(b'"pid":%d' % os.getpid(), b'"pid":%d' % gone.pid))
        assert take_accounts(tmp_path).writers[2].state == "adopted"
        assert alive.home.take_over()
        third.home.release()

    def test_looking_takes_no_lock(self, left, tmp_path):
        """Whoever is to adopt the dead can, before, meanwhile and afterwards."""
        _, dead = left
        dead.home.release()
        take_accounts(tmp_path)
        assert [each.writer for each in SpoolDirectory(tmp_path).adopt()] == [dead.id]

    def test_what_waits_is_measured_and_dated(self, left, tmp_path):
        """By the event's own time, but not before its writer was born, nor in the future."""
        alive, _ = left
        append(alive, 40, size=500)
        SpoolReader(alive.home.path).acknowledge(39)
        first, second = take_accounts(tmp_path).writers
        born = (alive.home.path / "stream").stat().st_mtime
        assert first.waiting_since.timestamp() == pytest.approx(born, abs=1e-3)
        assert 500 < first.waiting_bytes < 800 < first.kept_bytes
        assert (first.acknowledged, first.acknowledged_at is not None) == (39, True)
        assert (second.waiting_since, second.acknowledged_at, second.service) == (None, None, None)

    def test_what_is_missing_is_lost_and_unbalanced(self, left, tmp_path):
        """A segment that somebody deleted, a dead letter too."""
        alive, dead = left
        append(alive, 40, size=500)
        sorted(alive.home.path.glob("*.seg"))[2].unlink()
        append(dead, 1)
        Refusals(dead.home.path).note("dead", {1: "why"})
        accounts = take_accounts(tmp_path)
        assert not accounts.balanced
        assert [account.balance.lost > 0 for account in accounts.writers] == [True, True]
        total = accounts.total
        assert total.emitted == total.in_spool + total.lost == 41
        assert [found.kind for found in concerns(accounts, 1 << 30)] == ["lost", "lost"]

    def test_a_letter_whose_writer_is_forgotten_is_counted(self, tmp_path):
        """It came from another spool, or a file was lost."""
        letters = DeadLetters(SpoolDirectory(tmp_path).dead_letters, "audit-events")
        letters.keep(Record(7, b"{}"), WRITER, "why")
        accounts = take_accounts(tmp_path)
        assert (accounts.total, accounts.balanced) == (Balance(emitted=1, dead=1), True)
        assert [found.kind for found in concerns(accounts, 1 << 30)] == ["dead letters"]

    def test_a_full_disk_loses_the_line_of_a_closed_writer_alone(self, left, tmp_path):
        """The directory goes all the same: that makes room."""
        alive, _ = left
        (tmp_path / closed.CLOSED).mkdir()
        alive.home.remove()
        assert not alive.home.path.exists()

    def test_lines_that_are_torn_or_foreign_are_passed_over(self, left, tmp_path):
        """And the next one stands alone."""
        (tmp_path / closed.CLOSED).write_bytes(b'[]\n{"writer":"x"}\n{"wri')
        alive, _ = left
        append(alive, 3)
        SpoolReader(alive.home.path).acknowledge(3)
        alive.home.remove()
        (account,) = take_accounts(tmp_path).closed
        assert (account.writer, account.balance.indexed) == (alive.id, 3)

    def test_many_closed_writers_become_a_sum_but_for_those_with_letters(self, tmp_path, monkeypatch):
        """A server that recycles its workers for years must not fill the disk with them."""
        monkeypatch.setattr(closed, "MOST_BYTES", 1000)
        monkeypatch.setattr(closed, "_KEPT_LINES", 3)
        directory = SpoolDirectory(tmp_path)
        for number in range(30):
            living = Living(directory, number)
            append(living, 2)
            SpoolReader(living.home.path).acknowledge(2)
            if number == 4:
                DeadLetters(directory.dead_letters, "audit-events").keep(Record(1, b"{}"), living.id, "why")
                Refusals(living.home.path).note("dead", {1: "why"})
            elif number == 5:  # killed before its directory went, so that it comes once more
                ClosedWriters(tmp_path).note(living.home.path)
                living.home.release()
                continue
            living.home.remove()
        assert (tmp_path / closed.CLOSED).stat().st_size < 2000
        accounts = take_accounts(tmp_path)
        assert accounts.total == Balance(emitted=60, indexed=59, dead=1)
        assert sum(account.writers for account in accounts.closed) == 29
        assert [account.writer for account in accounts.writers] == [f"{5:020x}"]
        (dead,) = (account for account in accounts.closed if account.balance.dead)
        assert (dead.writer, dead.dead_sequences) == (f"{4:020x}", (1,))

    def test_a_line_is_not_waited_for_for_ever(self, left, tmp_path, monkeypatch):
        """Whoever holds the lock may have been stopped."""
        monkeypatch.setattr(closed, "_LOCK_SECONDS", 0.0)
        holder = FileLock()
        (tmp_path / "closed.lock").touch()
        assert holder.take(tmp_path / "closed.lock")
        left[0].home.remove()
        assert not left[0].home.path.exists()
        assert take_accounts(tmp_path).closed == ()
        holder.release()

    def test_another_users_spool_is_refused_in_words(self, tmp_path, monkeypatch):
        """An empty account would be a lie."""
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(SettingsError, match="cannot be read by this user"):
            take_accounts(tmp_path)


class TestConcerns:
    @pytest.fixture
    def accounts(self, left, tmp_path):
        alive, dead = left
        append(alive, 10, size=500)
        append(dead, 1)
        dead.home.release()
        return take_accounts(tmp_path)

    def kinds(self, accounts, limit=1 << 30, after=0):
        now = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=after)
        return [found.kind for found in concerns(accounts, limit, now)]

    def test_what_waits_for_a_moment_is_none(self, accounts):
        assert self.kinds(accounts) == []

    def test_what_waits_long_is_one(self, accounts):
        """By who could have moved it."""
        assert self.kinds(accounts, after=61) == ["stuck", "abandoned"]

    def test_a_spool_that_is_nearly_full_is_one(self, accounts):
        assert self.kinds(accounts, limit=6000) == ["full"]
        assert "100%" in next(concerns(accounts, accounts.writers[0].kept_bytes)).sentence

    def test_one_that_moves_slowly_is_none(self, accounts, left, tmp_path):
        """Something was acknowledged just now."""
        SpoolReader(left[0].home.path).acknowledge(1)
        moved = dt.datetime.now(dt.timezone.utc).timestamp() + 50
        os.utime(left[0].home.path / "cursor", (moved, moved))
        assert self.kinds(take_accounts(tmp_path), after=100) == ["abandoned"]

    def test_a_segment_of_another_version_is_one(self, left, tmp_path):
        """The look goes on."""
        append(left[0], 1)
        (segment,) = left[0].home.path.glob("*.seg")
        data = bytearray(segment.read_bytes())
        data[8:10] = b"\0\x09"
        data[38:42] = crc32(data[:38]).to_bytes(4, "big")
        segment.write_bytes(data)
        for quick in (False, True):
            accounts = take_accounts(tmp_path, quick=quick)
            assert "unreadable" in self.kinds(accounts)
            assert not accounts.balanced
