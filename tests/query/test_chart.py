"""Statistics as a picture."""

from __future__ import annotations

import datetime as dt
from xml.etree.ElementTree import fromstring

from hypothesis import given
from hypothesis import strategies as st

from audit_logging.query.report.chart import _round_up, change, svg
from audit_logging.query.results import Before, Bucket, Interval, Statistics

SVG = "{http://www.w3.org/2000/svg}"
START = dt.datetime(2026, 3, 1, tzinfo=dt.timezone.utc)


def statistics(**given):
    plain = dict(by="user", total=9, buckets=(), other=0, missing=0, distinct=0, distinct_exact=True)
    return Statistics(**{**plain, **given})


def texts(picture):
    return [text.text or "" for text in fromstring(picture).iter(f"{SVG}text")]


def bars(picture):
    return [float(bar.get("width")) for bar in fromstring(picture).iter(f"{SVG}rect") if bar.get("rx") == "2"]


def test_a_bar_is_as_long_as_its_count_and_the_rest_is_a_number():
    picture = svg(
        statistics(buckets=(Bucket(key="a", count=400), Bucket(key="b", count=100)), other=9999, missing=1234)
    )
    longest, quarter = bars(picture)
    assert abs(longest / quarter - 4) < 0.01
    assert {"a", "b", "400", "100", "(others)", "9,999", "(none)", "1,234"} <= set(texts(picture))


def test_the_period_before_is_marked_and_told():
    before = Before(since=START, until=START + dt.timedelta(days=1), total=50)
    picture = svg(statistics(buckets=(Bucket(key="a", count=150, before=100),), before=before))
    assert picture.count('class="before"') == 1
    assert "150 (+50 %)" in texts(picture)
    assert any("50 events in the period before" in text for text in texts(picture))


def test_time_is_a_column_a_step():
    steps = tuple(Interval(start=START + dt.timedelta(hours=n), count=n) for n in range(48))
    picture = svg(statistics(histogram=steps, interval="1h", timezone="Europe/Prague"))
    names = [title.text for title in fromstring(picture).iter(f"{SVG}title")]
    assert names[:2] == ["2026-03-01 01:00: 0", "2026-03-01 02:00: 1"]
    assert len(names) == 48
    assert "03-01 01:00" in texts(picture)
    assert {"50", "25", "0"} <= set(texts(picture))


@given(st.text(max_size=60), st.integers(0, 2**53), st.integers(0, 2**53))
def test_whatever_an_event_holds_the_picture_is_well_formed_and_runs_nothing(key, count, before):
    picture = svg(statistics(buckets=(Bucket(key=key, count=count, before=before),)))
    tree = fromstring(picture)
    assert {node.tag.removeprefix(SVG) for node in tree.iter()} <= {"svg", "style", "rect", "text", "title", "path"}
    assert all(not name.startswith("on") and "href" not in name for node in tree.iter() for name in node.attrib)
    assert all(float(node.get("width")) <= 860 for node in tree.iter(f"{SVG}rect"))


def test_marks_of_direction_and_markup_stay_text():
    picture = svg(statistics(buckets=(Bucket(key="\u202e</text><script>x</script>", count=1),)))
    assert "\u202e" not in picture
    assert "<script>" not in picture


def test_axes_end_on_round_numbers():
    assert [_round_up(most) for most in (0, 1, 2, 3, 7, 10, 11, 99, 100, 101, 166_667)] == [
        2, 2, 2, 5, 10, 10, 20, 100, 100, 200, 200_000,
    ]  # fmt: skip
    assert change(5, 0) == "new"
