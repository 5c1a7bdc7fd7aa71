"""The reading commands as a user types them, on a stream with a known trail."""

import datetime as dt

import orjson
import pytest

import audit_logging as audit
from audit_logging.cli.stats import _merged, _picture, _print_histogram
from audit_logging.opensearch.client import Client
from audit_logging.query.results import Interval, Statistics

pytestmark = pytest.mark.server

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.timezone.utc)


def test_search_prints_a_table_and_how_much_there_is(cli):
    """For people: newest first, one line an event."""
    result = cli("search", "--type", "user.*", "--limit", "4")
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].split() == ["time", "(UTC)", "severity", "type", "user", "from", "message"]
    assert len(lines) == 5
    assert "u-0 failed to log in" in lines[1]
    assert "4 of 10 events." in result.err


def test_search_pages_through_everything_once(cli):
    """For scripts: one object a page, with the cursor of the next."""
    seen, cursor = [], None
    while True:
        more = ("--cursor", cursor) if cursor else ()
        page = orjson.loads(cli("search", "--json", "--limit", "4", "--oldest-first", *more).out)
        seen += [event["event"]["id"] for event in page["events"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert (len(seen), len(set(seen)), page["total"]) == (11, 11, 11)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--user", "u-1"], 3),
        (["--user", "u-1", "--user", "u-2"], 6),
        (["--outcome", "failure", "--category", "authentication"], 5),
        (["--not-outcome", "failure"], 6),
        (["--severity", "warning"], 5),
        (["--ip", "203.0.113.0/29"], 8),
        (["--type", "data.*", "--metadata", "resource=[bold]r"], 1),
        (["--resource", "[bold]r"], 1),
        (["--text", "alert"], 1),
        (["--since", "-1h", "--until", "now"], 11),
        (["--until", "2020-01-01"], 0),
    ],
)
def test_count_counts_what_the_filters_say(cli, filters, expected):
    """Every option reaches the query."""
    assert orjson.loads(cli("count", "--json", *filters).out) == {"count": expected}
    assert cli("count", *filters).out == f"{expected}\n"


def test_hostile_contents_stay_text(cli):
    """No escape sequence, bidi mark or markup of an event reaches the terminal."""
    out = cli("search", "--type", "data.accessed").out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "[red]alert[/red]" in out
    assert "\x1b" not in cli("stats", "--by", "user").out


def test_a_search_is_in_the_trail_that_it_searched(cli, trail, monkeypatch):
    """With the setting on, from the very next search."""
    monkeypatch.setenv("AUDIT_AUDIT_SEARCHES", "true")
    monkeypatch.setenv("AUDIT_HOME", str(trail.home))
    assert cli("search", "--user", "u-1").code == 0
    assert audit.shutdown(20) == 0
    client = Client(trail)
    client.request("POST", f"/{trail.stream}/_refresh")
    client.close()
    monkeypatch.setenv("AUDIT_AUDIT_SEARCHES", "false")
    [found] = orjson.loads(cli("search", "--type", "audit.searched", "--json").out)["events"]
    assert found["audit"]["metadata"]["filter"] == {"user": ["u-1"]}


def test_nothing_found_says_so(cli):
    """And what to try."""
    assert "Widen --since" in cli("search", "--until", "2020-01-01").out
    assert "doctor" in cli("search", "--user", "nobody").out
    assert "doctor" in cli("stats", "--user", "nobody").out


def test_stats_are_a_table_with_bars_and_json(cli, tmp_path):
    """By a field, and over time."""
    result = cli("stats", "--by", "outcome", "--interval", "1d")
    assert result.code == 0
    assert "failure" in result.out
    assert "█" in result.out
    statistics = orjson.loads(cli("stats", "--by", "outcome", "--json").out)
    assert {bucket["key"]: bucket["count"] for bucket in statistics["buckets"]} == {"success": 6, "failure": 5}
    most = cli("stats", "--by", "user", "--top", "1")
    assert "(others)" in most.out
    assert "About 4 different values" in most.err


def test_stats_are_compared_with_the_period_before(cli):
    """All is new: the trail is a minute old."""
    compared = cli("stats", "--by", "outcome", "--since", "-1h", "--compare")
    assert compared.out.splitlines()[0].split() == ["outcome", "events", "before", "change"]
    assert compared.out.splitlines()[1].split()[:4] == ["success", "6", "0", "new"]
    assert "The period before: 0." in compared.err
    assert cli("stats", "--compare").code == 2


def test_stats_over_many_steps_are_one_picture(cli):
    """A line a minute would be too many: the shape is what counts."""
    out = cli("stats", "--since", "-1h", "--interval", "1s").out
    assert "█" in out
    steps = tuple(Interval(start=dt.datetime(2026, 3, 1, n // 24, n % 24), count=n) for n in range(1, 24))
    assert _merged(steps, 10) == [1 + 2 + 3, 4 + 5 + 6, 7 + 8 + 9, 33, 42, 51, 60, 45]
    assert _picture([0, 1, 64]) == ["  █"] * 7 + [" ▁█"]
    many = tuple(Interval(start=NOON + dt.timedelta(minutes=n), count=n % 9) for n in range(500))
    shown = Statistics(by="user", total=1, buckets=(), other=0, missing=0, distinct=0, distinct_exact=True)
    _print_histogram(shown.model_copy(update={"histogram": many, "interval": "1m"}))


def test_a_chart_is_a_private_file(cli, tmp_path):
    """It tells of people; and it is an SVG or nothing."""
    target = tmp_path / "chart.svg"
    assert cli("stats", "--by", "user", "--interval", "1h", "--chart", str(target)).code == 0
    assert target.read_text().startswith("<svg")
    assert "\x1b" not in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o600
    assert "ends in .svg" in cli("stats", "--chart", "chart.png").err
    assert "choose another place" in cli("stats", "--chart", "/nowhere/chart.svg").err


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["search", "--since", "soon"], 2, "'soon' is not a time"),
        (["search", "--since", ""], 2, "is not a time"),
        (["search", "--ip", "999.1.1.1"], 2, "--ip is wrong: '999.1.1.1' is no address"),
        (["search", "--metadata", "novalue"], 2, "PATH=VALUE"),
        (["search", "--cursor", "abc"], 2, "cursor"),
        (["search", "--severity", "loud"], 2, "--severity is wrong"),
        (["stats", "--interval", "often"], 2, "interval"),
        (["stats", "--timezone", "Mars"], 2, "no time zone known here"),
        (["show", "x", "--context", "long"], 2, "is no duration"),
        (["show", "nowhere"], 1, "There is no event 'nowhere'"),
        (["export", "--out", "/nowhere/t.ndjson"], 2, "choose another place"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(cli, arguments, code, sentence):
    """No traceback, ever."""
    result = cli(*arguments)
    assert result.code == code
    assert sentence in result.err
    assert "Traceback" not in result.err


def test_an_unreachable_server_and_a_missing_stream_are_exit_code_3(audit_logging, settings):
    """Each with what to do."""
    away = audit_logging("search", "--url", "http://127.0.0.1:1")
    assert (away.code, "audit-logging server up" in away.err) == (3, True)
    missing = audit_logging("count", "--url", settings.opensearch_url[0], "--stream", f"{settings.stream}-not-there")
    assert (missing.code, "audit-logging setup" in missing.err) == (3, True)
