"""An event may hold anything; whatever shows it, on a terminal or in a file for people, shows text."""

from __future__ import annotations

import csv
import io
import json

import pytest

from audit_logging.integrations.admin import AuditAdmin
from audit_logging.query.export.formats import Csv
from tests.query.trail import Trail, event

pytestmark = pytest.mark.server

HOSTILE = "=1+1\x1b[31m\x9b31m\u202e\u2028<script>alert(1)</script>\x7f\ud800".encode("utf-8", "replace").decode()
SHOWN = {
    "search": ("search",),
    "search, JSON": ("search", "--json"),
    "tail": ("tail",),
    "tail, JSON": ("tail", "--json"),
    "show": ("show", "e-0", "--context", "5m"),
    "show, JSON": ("show", "e-0", "--json"),
    "stats": ("stats", "--by", "user"),
    "stats, JSON": ("stats", "--by", "user", "--json"),
    "hold list": ("hold", "list"),
    "hold list, JSON": ("hold", "list", "--json"),
    "retention plan": ("retention", "plan"),
    "retention plan, JSON": ("retention", "plan", "--json"),
    "an error": ("show", HOSTILE),
    "no such filter": ("search", "--outcome", HOSTILE),
}


@pytest.fixture(scope="module")
def hostile(opensearch_server, tmp_path_factory):
    """Yield the settings of a stream whose every text is hostile, a hold's included."""
    from audit_logging.opensearch.client import Client
    from audit_logging.settings import Settings

    settings = Settings.load(
        **opensearch_server.settings(), stream="audit-test-hostile", home=tmp_path_factory.mktemp("home")
    )
    client = Client(settings)
    texts = dict.fromkeys(("user__id", "user__name", "user__target__id", "message", "event__reason"), HOSTILE)
    changes = [{"field": HOSTILE, "before": HOSTILE, "after": "x"}]
    Trail(settings, client).add(
        *(event(f"e-{number}", event_type="admin.role_change", audit__changes=changes, **texts) for number in range(3))
    )
    with AuditAdmin(settings=settings) as admin:
        admin.place_hold(reason=HOSTILE, person=HOSTILE, user_id=HOSTILE)
    yield settings
    for path in ("_data_stream", "_index_template", "_component_template"):
        client.request("DELETE", f"/{path}/{settings.stream}*")
    client.close()


@pytest.fixture
def cli(audit_logging, hostile, monkeypatch):
    monkeypatch.setenv("AUDIT_HOME", str(hostile.home))
    monkeypatch.setenv("AUDIT_OPENSEARCH_URL", hostile.opensearch_url[0])
    monkeypatch.setenv("AUDIT_STREAM", hostile.stream)
    return audit_logging


def is_text(shown):
    return all(line.isprintable() for line in shown.split("\n"))


@pytest.mark.parametrize("name", SHOWN)
def test_a_terminal_gets_text(cli, name):
    ended = cli(*SHOWN[name])
    assert is_text(ended.out)
    assert is_text(ended.err)
    assert "alert(1)" in ended.out + ended.err
    if name.endswith("JSON"):
        json.loads(f"[{','.join(ended.out.splitlines())}]" if name.startswith("tail") else ended.out)


def test_the_values_in_json_are_those_of_the_events(cli):
    assert (
        json.loads(cli("search", "--limit", "1", "--type", "admin.*", "--json").out)["events"][0]["message"] == HOSTILE
    )


def test_a_table_for_spreadsheets_runs_nothing(cli, tmp_path):
    assert cli("export", "--format", "csv", "--type", "admin.*", "--out", str(tmp_path / "t.csv")).code == 0
    header, *rows = csv.reader(io.StringIO((tmp_path / "t.csv").read_bytes().decode(), newline=""))
    assert header == [*Csv.columns, "document"]
    for row in rows:
        assert row[header.index("user_id")].startswith("'=1+1\\x1b")
        assert all(cell.isprintable() for cell in row[:-1])
        assert json.loads(row[-1])["message"] == HOSTILE


def test_a_page_and_its_file_about_a_person_hold_text(cli, tmp_path):
    assert cli("report", "--subject", HOSTILE, "--out", str(tmp_path / "s.html")).code == 0
    assert cli("report", "--period", "2026-Q1", "--out", str(tmp_path / "r.html")).code == 0
    lines = (tmp_path / "s.ndjson").read_text()
    assert is_text(lines)
    assert json.loads(lines.splitlines()[-1])["message"] == HOSTILE
    for page in (tmp_path / "s.html", tmp_path / "r.html"):
        assert is_text(page.read_text())
        assert "<script" not in page.read_text()
