"""What is fetched is believed only when it verifies, and is there completely or not at all."""

from __future__ import annotations

import signal
import sys

import pytest

from audit_logging.errors import LocalServerError
from audit_logging.local.distribution import core_package
from audit_logging.local.download import Package, fetch

SMALL = Package("org.opensearch.plugin", "opensearch-job-scheduler", "2.19.4.0")
"""3 MB, and not pinned: held against the checksum that the registry publishes."""


@pytest.fixture(scope="module")
def genuine(tmp_path_factory):
    return fetch(SMALL, tmp_path_factory.mktemp("genuine"))


@pytest.fixture
def cached(genuine, tmp_path):
    """The small package in a cache of the test's own."""
    cache = tmp_path / "home" / "cache"
    cache.mkdir(parents=True)
    for path in genuine.parent.glob(f"{genuine.name}*"):
        (cache / path.name).write_bytes(path.read_bytes())
    return cache / genuine.name


@pytest.fixture
def no_network(monkeypatch):
    """Every connection would go through a proxy at which nobody listens."""
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)


def test_the_published_checksum_is_kept_beside_the_download(genuine):
    assert {path.suffix for path in genuine.parent.glob(f"{genuine.name}.*")} <= {".sha512", ".sha1"}
    assert not list(genuine.parent.glob(".fetch-*"))


def test_a_cached_download_needs_no_network(cached, no_network):
    assert fetch(SMALL, cached.parents[1]) == cached


@pytest.mark.parametrize("damage", ["truncated", "tampered", "without its checksum"])
def test_a_damaged_cache_is_deleted_and_fetched_anew_the_next_time(cached, genuine, damage):
    content = cached.read_bytes()
    if damage == "truncated":
        cached.write_bytes(content[:-1])
    elif damage == "tampered":
        cached.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    else:
        for checksum in cached.parent.glob("*.zip.*"):
            checksum.unlink()
    with pytest.raises(LocalServerError, match=r"does not match its SHA512 checksum .* was deleted: run this again"):
        fetch(SMALL, cached.parents[1])
    assert not cached.exists()
    assert fetch(SMALL, cached.parents[1]).read_bytes() == genuine.read_bytes()


def test_a_tampered_download_of_a_pinned_version_is_deleted(tmp_path):
    (tmp_path / "cache").mkdir()
    fake = tmp_path / "cache" / "opensearch-3.8.0.zip"
    fake.write_bytes(b"not what was published")
    with pytest.raises(LocalServerError, match="SHA256"):
        fetch(core_package("3.8.0"), tmp_path)
    assert not fake.exists()


def test_without_network_one_sentence_says_what_to_do(tmp_path, no_network):
    with pytest.raises(LocalServerError, match=r"registry does not answer .*proxy variables.*AUDIT_OPENSEARCH_URL"):
        fetch(SMALL, tmp_path)
    assert not list((tmp_path / "cache").glob(".fetch-*"))


def test_an_unknown_version_names_some_that_are_there(tmp_path):
    with pytest.raises(LocalServerError, match=r"no opensearch 2\.19\.99 \(it lists .*2\.19\.1.*known to work"):
        fetch(core_package("2.19.99"), tmp_path)


@pytest.mark.parametrize("version", ["latest", "../../etc", "3.8.0/..", "", "3"])
def test_a_malformed_version_is_refused(version):
    with pytest.raises(LocalServerError, match="no version of OpenSearch"):
        core_package(version)


def test_a_home_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LocalServerError, match="set AUDIT_HOME"):
        fetch(SMALL, tmp_path / "file" / "home")


def test_a_killed_download_leaves_nothing_that_is_believed(script, tmp_path):
    """Killed when the first bytes are there, whatever the rest did until the signal came."""
    fetching = script(
        "import sys, threading; from pathlib import Path; from audit_logging.local import download\n"
        "from audit_logging.local.distribution import core_package\n"
        "def fetch(): download.fetch(core_package('2.19.4'), Path(sys.argv[1]))\n"
        "home = Path(sys.argv[1])\n"
        "fetching = threading.Thread(target=fetch, daemon=True)\n"
        "fetching.start()\n"
        "def begun(): return [p for p in home.glob('cache/.fetch-*/**/*.zip') if p.stat().st_size > 1000]\n"
        "while fetching.is_alive() and not begun(): pass\n"
        "print('true', flush=True); sys.stdin.read()".replace("sys.argv[1]", repr(str(tmp_path)))
    )
    assert fetching.report() is True
    fetching.end(signal.SIGKILL)
    complete = tmp_path / "cache" / "opensearch-2.19.4.zip"
    left = complete.exists(), bool(list((tmp_path / "cache").glob(".fetch-*")))
    assert left in {(False, True), (True, False)}
    assert fetch(SMALL, tmp_path).exists()
    assert not list((tmp_path / "cache").glob(".fetch-*"))


def test_without_its_client_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jgo.maven", None)
    with pytest.raises(LocalServerError, match=r"pip install 'opensearch-audit-logging\[local\]'"):
        fetch(SMALL, tmp_path)


def test_a_disk_that_refuses_is_named(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jgo.maven.PythonResolver.download", full)
    with pytest.raises(LocalServerError, match=r"cannot be stored \(No space left on device\): free some space"):
        fetch(SMALL, tmp_path)


def test_a_progress_bar_shows_on_request(tmp_path, capsys):
    fetch(SMALL, tmp_path, progress=True)
    assert "Fetching opensearch-job-scheduler" in capsys.readouterr().err
