"""The journal of refused events, and the mark of what may have been sent."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.spool.refusals import REFUSALS, Refusal, Refusals
from audit_logging.spool.sent import SENT, Sent

from .conftest import fill


def test_the_last_that_was_noted_counts(tmp_path):
    """Refused, and then where it went."""
    journal = Refusals(tmp_path)
    assert journal.read() == {}
    journal.note("refused", {7: "why", 9: "other"})
    journal.note("quarantined", {7: "why"})
    assert Refusals(tmp_path).read() == {7: Refusal("quarantined", "why"), 9: Refusal("refused", "other")}
    assert (tmp_path / REFUSALS).stat().st_mode & 0o777 == 0o600


@given(st.integers(0, 200), st.text(max_size=30))
def test_a_torn_line_spoils_no_other(tmp_path_factory, cut, reason):
    """What is cut was never built on; what is written after it stands alone."""
    path = tmp_path_factory.mktemp("journal")
    journal = Refusals(path)
    journal.note("refused", {1: "first"})
    whole = (path / REFUSALS).read_bytes()
    journal.note("refused", {2: reason})
    data = (path / REFUSALS).read_bytes()
    (path / REFUSALS).write_bytes(data[: max(len(whole), len(data) - cut)])
    journal = Refusals(path)
    journal.note("dead", {3: "third"})
    found = Refusals(path).read()
    assert found[1] == Refusal("refused", "first")
    assert found[3] == Refusal("dead", "third")
    assert found.get(2) in (None, Refusal("refused", reason))


def test_refusals_are_noted_on_a_full_disk(small_disk):
    """Until the room that was made for them is used up; what is noted then is an error, and spoils nothing."""
    Refusals.create(small_disk)
    fill(small_disk)
    journal = Refusals(small_disk)
    noted = {}
    with pytest.raises(OSError, match=r"not written whole|No space"):
        for sequence in range(1, 1000):
            journal.note("refused", {sequence: "why " * 20})
            noted[sequence] = Refusal("refused", "why " * 20)
    assert len(noted) > 100
    assert Refusals(small_disk).read() == noted


def test_threads_note_side_by_side(tmp_path):
    """The shipper has several requests under way."""
    Refusals.create(tmp_path)
    journal = Refusals(tmp_path)
    threads = [threading.Thread(target=journal.note, args=("refused", {number: "why"})) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Refusals(tmp_path).read().keys() == set(range(50))


def test_a_disk_that_refuses_is_an_error(tmp_path):
    """Nothing may build on a refusal that is not noted."""
    with pytest.raises(OSError):
        Refusals(tmp_path / "gone").note("refused", {1: "why"})


def test_the_mark_is_read_back(tmp_path):
    """By the next process."""
    mark = Sent(tmp_path)
    assert (mark.sequence, mark.since) == (0, None)
    mark.note(7, ".ds-a-000001")
    assert (Sent(tmp_path).sequence, Sent(tmp_path).since) == (7, ".ds-a-000001")
    mark.note(9, None)
    assert (Sent(tmp_path).sequence, Sent(tmp_path).since) == (9, None)
    assert (tmp_path / SENT).stat().st_mode & 0o777 == 0o600


def test_a_mark_that_cannot_be_written_or_read_stops_nothing(tmp_path):
    """Shipping is what makes room on a full disk."""
    Sent(tmp_path / "gone").note(7, "x")
    (tmp_path / SENT).write_text("garbage")
    assert Sent(tmp_path).sequence == 0


def test_the_mark_moves_on_a_full_disk(small_disk):
    """Where shipping is what makes room, the next process must still know what may have been sent."""
    Sent.create(small_disk)
    fill(small_disk)
    index = ".ds-" + "x" * 240 + "-000001"
    for sequence in (7, 7, 8):
        Sent(small_disk).note(sequence, index)
    assert (Sent(small_disk).sequence, Sent(small_disk).since) == (8, index)


def test_the_mark_that_was_written_last_counts(tmp_path):
    """The backing index may be known no more, though the sequence is the same."""
    mark = Sent(tmp_path)
    for since in (".ds-a-000001", None, ".ds-a-000002", None):
        mark.note(7, since)
        assert Sent(tmp_path).since == since
