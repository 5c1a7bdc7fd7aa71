"""Sorting more than fits into memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_logging.query.export import sorting
from audit_logging.query.export.page import UNSEALED
from audit_logging.query.export.sorting import Copies, Sorter

EVENTS = st.lists(
    st.tuples(
        st.sampled_from([b"1", b"2", b"3"]),
        st.sampled_from([b"v", b"w", UNSEALED[0]]),
        st.integers(1, 5),
        st.sampled_from([b"{}", b'{"a":1}', b'{"b":1}' * 4]),
    ).map(lambda event: event if event[1] != UNSEALED[0] else (event[0], *UNSEALED, event[3])),
    max_size=60,
)


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorting, "RUN_BYTES", 30)
        patch.setattr(sorting, "CHUNK_BYTES", 12)
        patch.setattr(sorting, "MOST_RUNS", 3)
        yield


@settings(max_examples=200)
@given(EVENTS, st.integers(1, 10))
def test_all_events_come_back_in_order(events, size):
    """However they come, and however many runs they make."""
    with Sorter(None) as sorter:
        for start in range(0, len(events), size):
            sorter.add(events[start : start + size])
        found = [event for batch in sorter.batches() for event in batch]
    assert found == sorted(events)


@given(EVENTS, st.integers(1, 10))
def test_identical_copies_are_left_out_across_batches(events, size):
    """And nothing else: neither what differs in a byte nor what bears no seal."""
    events = sorted(events)
    copies = Copies()
    found = []
    for start in range(0, len(events), size):
        found += copies.without(events[start : start + size])
    sealed = [event for event in events if event[1:3] != UNSEALED]
    assert [event for event in found if event[1:3] != UNSEALED] == sorted(set(sealed))
    assert [event for event in found if event[1:3] == UNSEALED] == [e for e in events if e[1:3] == UNSEALED]
    assert copies.left_out == len(sealed) - len(set(sealed))


def test_its_file_has_no_name_and_is_where_it_was_told(tmp_path):
    """Whatever ends the process, nothing of it stays."""
    with Sorter(tmp_path) as sorter:
        sorter.add([(b"1", b"w", n, b"x" * 20) for n in range(10)])
        assert list(tmp_path.iterdir()) == []
        assert sorter._file is not None
