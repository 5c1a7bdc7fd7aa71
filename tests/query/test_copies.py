"""Where identical copies can lie at all."""

from __future__ import annotations

from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from audit_logging.query.copies import shared

RANGES = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 8)).map(lambda pair: (pair[0], sum(pair))), max_size=6)


@given(RANGES)
@example([(1, 5), (5, 9)])
@example([(1, 20), (2, 3), (3, 4), (10, 12)])
def test_exactly_what_two_ranges_cover_is_shared(ranges):
    cover = Counter(number for low, high in ranges for number in range(low, high + 1))
    found = [number for low, high in shared(ranges) for number in range(low, high + 1)]
    assert found == sorted(number for number, times in cover.items() if times > 1)
