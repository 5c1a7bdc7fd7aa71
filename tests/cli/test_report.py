"""`audit-logging report` as an auditor and as cron call it."""

import datetime as dt
import fcntl
import stat

import orjson
import pytest

from audit_logging.capture.trail import Trail
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.opensearch.client import Client

pytestmark = pytest.mark.server

TODAY = dt.datetime.now(dt.timezone.utc).date()


@pytest.fixture
def cli(audit_logging, settings):
    with AuditAdmin(settings=settings) as admin:
        admin.setup()
    trail = Trail(settings)
    for number in range(5):
        trail.emit("user.login", {"user_id": f"u-{number % 2}", "outcome": "failure"})
    assert trail.shutdown(20) == 0
    client = Client(settings)
    client.request("POST", f"/{settings.stream}/_refresh")
    client.close()
    return lambda *arguments: audit_logging(
        *arguments, "--url", settings.opensearch_url[0], "--stream", settings.stream
    )


def test_a_period_becomes_a_private_page(cli, tmp_path):
    out = tmp_path / "report.html"
    ended = cli("report", "--period", f"{TODAY:%Y-%m}", "--out", str(out))
    assert ended.code == 0
    assert f"5 events, to {out}." in ended.out
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "failed log-ins" in out.read_text()


def test_a_person_becomes_a_page_and_a_file_of_events(cli, tmp_path):
    out = tmp_path / "person.html"
    assert cli("report", "--subject", "u-0", "--out", str(out)).code == 0
    events = [orjson.loads(line) for line in out.with_suffix(".ndjson").read_bytes().splitlines()]
    assert [event["user"]["id"] for event in events] == ["u-0"] * 3
    assert "What the trail holds about u-0" in out.read_text()


def test_a_scheduled_run_makes_up_what_is_missing_and_nothing_twice(cli, settings, tmp_path):
    directory = tmp_path / "reports"
    every = ("report", "--every", "day", "--out-dir", str(directory))
    assert cli(*every, "--catch-up", "3").code == 0
    names = [f"{settings.stream}-report-{TODAY - dt.timedelta(days=days)}.html" for days in (3, 2, 1)]
    assert sorted(path.name for path in directory.glob("*.html")) == names
    (directory / names[1]).unlink()
    kept = (directory / names[0]).stat().st_mtime_ns
    ended = cli(*every, "--catch-up", "3")
    assert ended.out.count("Wrote") == 1
    assert (directory / names[0]).stat().st_mtime_ns == kept
    assert "No report was missing" in cli(*every, "--catch-up", "3").out


def test_two_scheduled_runs_at_once_are_one(cli, tmp_path):
    directory = tmp_path / "reports"
    directory.mkdir()
    with (directory / ".audit-logging-reports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = cli("report", "--every", "day", "--out-dir", str(directory))
    assert ended.code == 0
    assert "Another run" in ended.err
    assert not list(directory.glob("*.html"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--period", "2026-Q3"], "--out"),
        (["--out", "x.html"], "--period or --subject"),
        (["--every", "day"], "--out-dir"),
        (["--period", "soon", "--out", "x.html"], "no period"),
        (["--period", "2026-Q3", "--out", "/nowhere/at/all.html"], "choose another place"),
    ],
)
def test_wrong_use_is_told_in_one_sentence(cli, arguments, sentence):
    ended = cli("report", *arguments)
    assert ended.code == 2
    assert sentence in ended.err


def test_json_names_each_report(cli, tmp_path):
    out = tmp_path / "person.html"
    [one] = orjson.loads(cli("report", "--subject", "u-0", "--out", str(out), "--json").out)["reports"]
    data = str(out.with_suffix(".ndjson"))
    assert one == {"out": str(out), "period": None, "subject": "u-0", "events": 3, "data": data}
    arguments = ("report", "--every", "day", "--catch-up", "2", "--out-dir", str(tmp_path / "days"), "--json")
    reports = orjson.loads(cli(*arguments).out)["reports"]
    assert [each["events"] for each in reports] == [0, 0]
    assert orjson.loads(cli(*arguments).out) == {"reports": []}
