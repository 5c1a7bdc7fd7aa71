"""Ids are unique in every process, and sorted; times are what the clock says."""

import datetime as dt
import os
import threading
import time
import uuid

from audit_logging.events.identity import new_event_id, now


class TestEventIds:
    def test_are_uuids_of_version_7_with_the_time_in_front(self):
        """Any library reads the version, the variant and the milliseconds."""
        before = time.time_ns() // 1_000_000
        parsed = uuid.UUID(new_event_id())
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert before <= parsed.int >> 80 <= time.time_ns() // 1_000_000

    def test_are_unique_across_threads_and_sorted_within_one(self):
        """Also within a millisecond."""
        drawn = [[] for _ in range(4)]
        threads = [
            threading.Thread(target=lambda ids=ids: ids.extend(new_event_id() for _ in range(5000))) for ids in drawn
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({event_id for ids in drawn for event_id in ids}) == 20_000
        assert all(ids == sorted(ids) for ids in drawn)

    def test_a_forked_child_draws_others(self):
        """Parent and child go on from the same memory and share no random part, hence no id."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, new_event_id().encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            assert pipe.read()[14:23] != new_event_id()[14:23]


def test_now_is_the_clock_across_seconds(monkeypatch):
    """The remembered second is never told for another, back or forth."""
    for moment in (
        1_700_000_000_000_000_000,
        1_700_000_000_999_999_999,
        1_700_000_001_000_000_000,
        1_600_000_000_000_001_000,
    ):
        monkeypatch.setattr(time, "time_ns", lambda moment=moment: moment)
        expected = dt.datetime.fromtimestamp(moment // 10**9, dt.timezone.utc).replace(
            microsecond=moment // 1000 % 10**6
        )
        assert now() == expected.isoformat(timespec="microseconds").replace("+00:00", "Z")
