"""The demo, as a newcomer runs it."""

import os
import signal
import subprocess
import sys

import pytest

DEMO = [sys.executable, "-m", "audit_logging", "demo", "--requests", "60"]


@pytest.fixture
def environment(settings):
    """A server that is there already, and a stream of the test's own."""
    return {
        **os.environ,
        "AUDIT_OPENSEARCH_URL": settings.opensearch_url[0],
        "AUDIT_STREAM": settings.stream,
        "AUDIT_HOME": str(settings.home),
    }


@pytest.mark.server
def test_it_tells_the_whole_story(environment, client, settings):
    """Set-up, requests, search, statistics, export, what to type next; and the events are really there."""
    result = subprocess.run(DEMO, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    for words in ("audit-logging setup", "user.login", "api.call", "Exported", "audit-logging demo --keep"):
        assert words in result.stdout + result.stderr
    assert client.request("GET", f"/{settings.stream}/_count")["count"] > 60


@pytest.mark.server
def test_an_interrupt_leaves_no_process_behind(environment):
    """Ctrl-C while the shop is busy: both end, and quickly."""
    demo = subprocess.Popen(
        [*DEMO[:-1], "100000"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell that runs the tests in the background lets its children ignore interrupts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in demo.stdout:
        if "A web shop" in line:
            break
    os.killpg(demo.pid, signal.SIGINT)
    _, errors = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.pid, 0)


@pytest.mark.server
def test_it_brings_its_own_server_and_takes_it_away(tmp_path):
    """Without any OpenSearch configured: one is started, and gone afterwards."""
    environment = {name: value for name, value in os.environ.items() if name != "AUDIT_OPENSEARCH_URL"}
    environment["AUDIT_STREAM"] = "audit-events"
    result = subprocess.run(DEMO, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert result.returncode == 0, result.stderr
    url = next(line for line in result.stdout.splitlines() if "answers at" in line).split()[-1].rstrip(".")
    import urllib.error
    import urllib.request

    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=5)
