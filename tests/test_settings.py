"""Settings: keyword over environment over default, and a mistake is one clear sentence."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from audit_logging.errors import SettingsError
from audit_logging.settings import Settings, default_home


def test_a_keyword_wins_over_the_environment_and_that_over_the_default(monkeypatch):
    """Lists and mappings can be written in a variable."""
    monkeypatch.setenv("AUDIT_SERVICE", "env")
    monkeypatch.setenv("AUDIT_OPENSEARCH_URL", "http://a:9200, http://b:9200")
    monkeypatch.setenv("AUDIT_SEVERITY_OVERRIDES", "user.login=critical, data.accessed=warning")
    monkeypatch.setenv("AUDIT_REDACT_KEYS", "iban,bic")
    monkeypatch.setenv("AUDIT_TRUSTED_PROXIES", "10.0.0.0/8")
    settings = Settings.load(service="keyword")
    assert settings.service == "keyword"
    assert settings.opensearch_url == ("http://a:9200", "http://b:9200")
    assert settings.severity_overrides == {"user.login": "critical", "data.accessed": "warning"}
    assert settings.redact_keys == {"iban", "bic"}
    assert str(settings.trusted_proxies[0]) == "10.0.0.0/8"
    assert settings.environment == "production"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"strem": "x"}, "no setting 'strem'; did you mean 'stream'"),
        ({"quux": 1}, "see docs/settings.md"),
        ({"stream": "Audit"}, r"'stream' \(or AUDIT_STREAM\) is wrong: .*lower-case"),
        ({"stream": "audit-*"}, "stream"),
        ({"opensearch_url": "localhost:9200"}, r"http\(s\)://host:port"),
        ({"opensearch_url": "https://user:secret@host"}, "opensearch_password"),
        ({"durability": "maybe"}, "'durability'"),
        ({"spool_max_bytes": 1}, "'spool_max_bytes'"),
        ({"severity_overrides": {"a.b": "loud"}}, "severity_overrides"),
    ],
)
def test_a_wrong_setting_is_named_with_a_remedy(given, sentence):
    """And a secret in it is not repeated."""
    with pytest.raises(SettingsError, match=sentence) as caught:
        Settings.load(**given)
    assert "secret" not in str(caught.value).replace("opensearch_password", "")


def test_secrets_are_not_in_the_repr():
    """Settings end in logs."""
    assert "hunter2" not in repr(Settings.load(opensearch_password="hunter2"))


def test_directories_follow_the_home(monkeypatch):
    """The state directory of the user, unless told otherwise."""
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert default_home() == Path("/somewhere/audit-logging")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_home() == Path.home() / ".local/state/audit-logging"
    assert Settings.load(home="/h").spool_path == Path("/h/spool")
    assert Settings.load(home="/h", spool_dir="/s").spool_path == Path("/s")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("home", [None, "", "relative", "/"])
def test_user_without_a_home_has_a_default_home_all_the_same(home):
    """As an arbitrary uid in a container: no entry in passwd, no HOME, no temporary directory."""
    script = """
        import os, tempfile
        from audit_logging.opensearch.disk import check_spool
        from audit_logging.settings import Settings

        os.setuid(54321)
        tempfile._candidate_tempdir_list = lambda: ["/proc/nowhere"]
        settings = Settings.load()
        print(settings.home, settings.spool_path)
        list(check_spool(settings))
    """
    # Without measuring coverage: whoever the process becomes may not write the file.
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"HOME", "XDG_STATE_HOME"} and not name.startswith("COV")
    }
    given = {} if home is None else {"HOME": home}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=kept | given, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == "/var/lib/audit-logging /var/lib/audit-logging/spool\n"
