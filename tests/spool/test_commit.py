"""The turn at the disk, with syncs that last as long as the test wants."""

import threading

from audit_logging.spool import commit
from audit_logging.spool.commit import GroupCommit
from tests.waiting import until


class Slow:
    """A commit whose first sync lasts until it is let go, and threads that share it once more after that."""

    def __init__(self, threads):
        self.commit = GroupCommit()
        self.letting_go = threading.Event()
        self.is_synced = False
        self.looks = 0
        self.threads = [threading.Thread(target=self.emit) for _ in range(threads)]

    def sync(self):
        self.letting_go.wait()
        self.is_synced = True
        return True

    def emit(self):
        while not self.is_synced:
            self.looks += 1
            self.commit.share(self.sync)


def test_who_waited_too_long_is_not_counted_twice(monkeypatch):
    """A sync may last longer than anybody waits before it looks again; each look leaves nothing behind."""
    monkeypatch.setattr(commit, "_LONGEST_WAIT_SECONDS", 0.001)
    slow = Slow(threads=5)
    for thread in slow.threads:
        thread.start()
    until(lambda: slow.looks > 100)
    assert len(slow.commit._waiting) <= 4
    slow.letting_go.set()
    for thread in slow.threads:
        thread.join()
    assert not slow.commit._waiting


def test_each_wakes_the_next(monkeypatch):
    """One that had looked in vain before is no gap in the chain: everybody goes on when the sync is done."""
    monkeypatch.setattr(commit, "_LONGEST_WAIT_SECONDS", 0.001)
    slow = Slow(threads=5)
    for thread in slow.threads:
        thread.start()
    until(lambda: slow.looks > 100)
    monkeypatch.setattr(commit, "_LONGEST_WAIT_SECONDS", 3600)
    until(lambda: len(slow.commit._waiting) == 4)
    slow.letting_go.set()
    for thread in slow.threads:
        thread.join(30)
        assert not thread.is_alive()
