"""`audit-logging erase`."""

import io
import json

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.settings import Settings


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIT_HOME", str(tmp_path))
    monkeypatch.setenv("AUDIT_ERASABLE_FIELDS", "user_name")
    monkeypatch.delenv("AUDIT_OPENSEARCH_URL", raising=False)
    trail = Trail(Settings.load(console=False))
    trail.emit("user.login", {"user_id": "u-42", "user_name": "Bob"})
    trail.shutdown(0)
    return tmp_path


def test_it_destroys_the_key_and_names_the_certificate(audit_logging, home):
    ended = audit_logging("erase", "u-42", "--yes", "--json", "--reason", "request 7")
    assert ended.code == 0
    told = json.loads(ended.out)
    assert told["had_key"]
    assert audit_logging("erase", "u-42", "--yes").out.startswith("There was no key")


def test_it_asks_first(audit_logging, home, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    ended = audit_logging("erase", "u-42")
    assert ended.code == 130
    assert "unreadable for ever" in ended.err
    assert json.loads(audit_logging("erase", "u-42", "--yes", "--json").out)["had_key"]


def test_without_a_key_store_it_says_so(audit_logging, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIT_HOME", str(tmp_path))
    ended = audit_logging("erase", "u-42", "--yes")
    assert ended.code == 2
    assert "Nothing was erased" in ended.err
