"""Each cause once in a while."""

import logging

from audit_logging.shipping import notices as module
from audit_logging.shipping.notices import INTERVAL_SECONDS, Notices


def test_a_cause_is_told_once_an_interval_and_says_how_often_it_was_held_back(caplog):
    """An outage of hours must not fill a disk with what it says of itself."""
    now = [0.0]
    notices = Notices(lambda: now[0])
    with caplog.at_level(logging.INFO, "audit_logging"):
        for _ in range(3):
            notices.tell(logging.WARNING, "down", "it is down")
        notices.tell(logging.WARNING, "full", "it is full")
        now[0] = INTERVAL_SECONDS
        notices.tell(logging.WARNING, "down", "it is still down")
    assert caplog.messages == ["it is down", "it is full", "it is still down (held back 2 more like it)"]


def test_what_is_worth_saying_once_is_said_once(caplog):
    """However long the process lives."""
    notices = Notices(lambda: 0.0)
    with caplog.at_level(logging.INFO, "audit_logging"):
        notices.once(logging.INFO, "blind", "may not look")
        notices.once(logging.INFO, "blind", "may not look")
    assert caplog.messages == ["may not look"]


def test_causes_that_never_repeat_do_not_fill_the_memory(monkeypatch):
    """A proxy may put a random id into each of its errors."""
    monkeypatch.setattr(module, "_MOST_CAUSES", 10)
    notices = Notices(lambda: 0.0)
    for number in range(1000):
        notices.tell(logging.DEBUG, f"cause {number}", "…")
    assert len(notices._told) <= 10
