"""The accounts: every event that was emitted is in one place, whatever happened."""

import os
import shutil
import tempfile
from pathlib import Path

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from audit_logging.shipping.accounts import Balance, take_accounts
from audit_logging.shipping.dead_letters import DeadLetters
from audit_logging.spool import closed
from audit_logging.spool.closed import ClosedWriters
from audit_logging.spool.directory import SpoolDirectory
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
        self.quarantined, self.dead = set(), set()
        self.is_closed = False

    @property
    def balance(self):
        aside = sum(sequence > self.acknowledged for sequence in self.quarantined | self.dead)
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
        self.before, closed.MOST_BYTES = closed.MOST_BYTES, 600
        self.lines, closed._KEPT_LINES = closed._KEPT_LINES, 2

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
        free = set(range(writer.acknowledged + 1, writer.emitted + 1)) - writer.quarantined - writer.dead
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
TestHistory.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
