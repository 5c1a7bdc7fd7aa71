"""`verify` and `prove` as a user types them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from audit_logging.integrity.sealed_event import read_sealed_event
from audit_logging.settings import Settings
from tests.integrity.chains import KEYS, author, edited, writer_id
from tests.query.test_verify import keep_public_key, store
from tests.query.trail import Trail

CHECKER = Path(__file__).parents[2] / "docs/check_proof.py"


@pytest.fixture(autouse=True)
def _signs(monkeypatch):
    monkeypatch.setenv("AUDIT_SIGNING", "true")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home whose keys are those of the chains that tests make."""
    monkeypatch.setenv("AUDIT_HOME", str(tmp_path / "home"))
    keep_public_key(Settings.load())
    return tmp_path


class TestFiles:
    def write(self, path, documents):
        path.write_bytes(b"".join(document + b"\n" for document in documents))
        return str(path)

    def test_a_clean_export_exits_with_0(self, audit_logging, home):
        documents = author(1).life(9).written
        one, two = self.write(home / "a.ndjson", documents[:6]), self.write(home / "b.ndjson", documents[4:])
        result = audit_logging("verify", "--export", one, two)
        assert (result.code, result.err) == (0, "")
        assert result.out.splitlines() == [
            "Note: 2 events are identical second copies, which count once.",
            "14 events of 1 writers, 3 of them signed: no finding.",
        ]

    def test_a_finding_exits_with_1_and_is_told_for_people_and_scripts(self, audit_logging, home):
        documents = author(1).life(9).written
        path = self.write(home / "a.ndjson", [edited(documents[0], message="\x1b[31m"), *documents[1:]])
        result = audit_logging("verify", "--export", path)
        assert result.code == 1
        assert "edited" in result.out
        assert "\x1b" not in result.out
        found = json.loads(audit_logging("verify", "--export", path, "--json").out)
        assert (found["ok"], found["scope"], found["keys"]) == (False, "chain", [KEYS.signing.id])
        first = found["findings"][0]
        assert first.keys() >= {"kind", "event_id", "writer", "sequence"}
        assert (first["kind"], first["writer"], first["sequence"]) == ("edited", writer_id(1), 1)

    def test_a_key_and_heads_can_be_given(self, audit_logging, home):
        one = author(1).life(9)
        path = self.write(home / "a.ndjson", one.written[:5])
        heads = self.write(home / "heads", [one.written[0], one.written[-1]])
        key = str(next((home / "home/signing").glob("*.pub")))
        assert "truncated" in audit_logging("verify", "--export", path, "--checkpoints", heads).out
        assert audit_logging("verify", "--export", path, "--public-key", key).code == 0
        assert audit_logging("verify", "--export", path, "--public-key", path).code == 2

    def test_wrong_use_is_told(self, audit_logging, home):
        path = self.write(home / "a.ndjson", [])
        assert "--export" in audit_logging("verify", path).err
        assert audit_logging("verify", "--export", path, "--from-last").code == 2
        assert "leave the other filters out" in audit_logging("verify", "--export", path, "--user", "u").err
        assert audit_logging("verify", "--export", str(home / "nowhere")).code == 2


@pytest.mark.server
class TestStream:
    @pytest.fixture
    def cli(self, audit_logging, home, settings, client):
        trail = Trail(settings, client)
        store(trail, author(1).life(9).written)

        def cli(*arguments):
            return audit_logging(*arguments, "--url", settings.opensearch_url[0], "--stream", settings.stream)

        return cli

    def test_a_stream_is_verified_and_gone_on_with(self, cli):
        assert json.loads(cli("verify", "--json").out)["events"] == 12
        assert json.loads(cli("verify", "--json", "--from-last").out)["events"] == 12
        result = cli("verify", "--json", "--from-last")
        assert (result.code, json.loads(result.out)["events"]) == (0, 0)
        assert json.loads(cli("verify", "--json", "--user", "u-3").out)["scope"] == "content"

    def test_a_proof_is_written_and_checked_alone(self, cli, home):
        place = read_sealed_event(author(1).life(9).written[2]).place
        result = cli("prove", place, "--out", str(home / "p.json"))
        assert (result.code, result.out) == (0, "")
        assert f"signed by the key {KEYS.signing.id}" in result.err
        key = next((home / "home/signing").glob("*.pub"))
        checked = subprocess.run(
            [sys.executable, "-I", CHECKER, home / "p.json", key], capture_output=True, check=False
        )
        assert checked.returncode == 0
        told = json.loads(cli("prove", place, "--out", str(home / "q.json"), "--json").out)
        assert told == {
            "event_id": place,
            "out": str(home / "q.json"),
            "events": told["events"],
            "key": KEYS.signing.id,
        }
        assert json.loads(cli("prove", place).out) == json.loads((home / "p.json").read_text())

    def test_what_cannot_be_proven_is_one_sentence(self, cli):
        result = cli("prove", "no-such-event")
        assert (result.code, result.out) == (3, "")
        assert "There is no event 'no-such-event'" in result.err
