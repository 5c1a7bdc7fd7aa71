"""The thread of checkpoints where it cannot do what it should."""

import threading

from audit_logging.capture import checkpoints
from audit_logging.capture.checkpoints import Checkpoints


def test_a_process_that_is_exiting_goes_on_without(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    made = Checkpoints(0.01, lambda: None, "cat")
    made.start()
    made.stop(1)


def test_a_command_that_is_too_slow_is_told_of_and_nobody_waits(monkeypatch, caplog):
    monkeypatch.setattr(checkpoints, "_MOST_WAITING", 2)
    monkeypatch.setattr(checkpoints, "COMMAND_SECONDS", 0.2)
    made = Checkpoints(60, lambda: None, "sleep 60")
    for _ in range(3):
        made.tell(b"{}")
    assert "too slow" in caplog.text
    made.start()
    made.stop(10)
    assert caplog.text.count("failed") == 2


def test_without_a_command_nothing_is_kept():
    made = Checkpoints(60, lambda: None, None)
    for _ in range(5000):
        made.tell(b"{}")
    made.stop(0)
