"""No alarm where nothing was done: a hundred lives with crashes, forks and rollovers, verified as they go on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.query import AuditReader

pytestmark = pytest.mark.server

GROUPS, LIVES = 5, 20


@pytest.fixture
def environment(monkeypatch, settings):
    """The environment of the writers."""
    monkeypatch.setenv("AUDIT_SIGNING", "true")
    own = {
        "AUDIT_OPENSEARCH_URL": settings.opensearch_url[0],
        "AUDIT_STREAM": settings.stream,
        "AUDIT_HOME": str(settings.home),
        "AUDIT_SIGNING": "true",
    }
    return {**os.environ, **own}


def verify(settings, *, from_last=False):
    with AuditReader(settings=settings) as reader:
        return reader.verify(from_last=from_last)


def test_a_hundred_lives_raise_no_alarm(settings, client, environment):
    with AuditAdmin(settings=settings) as admin:
        admin.setup()
    for group in range(GROUPS):
        command = [sys.executable, "-m", "tests.tampering.lives", str(group), str(LIVES)]
        subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], check=True, timeout=60)
        # Some of it waits in spools now, of the living and the dead.
        report = verify(settings)
        assert report.findings == (), f"group {group}, before shipping"
        ship = [sys.executable, "-m", "audit_logging", "ship", "--once"]
        subprocess.run(ship, env=environment, check=True, timeout=60, capture_output=True)
        client.request("POST", f"/{settings.stream}/_rollover")
        report = verify(settings, from_last=group % 2 == 1)
        assert report.findings == (), f"group {group}, after shipping"
    report = verify(settings)
    assert report.findings == ()
    assert report.writers >= GROUPS * LIVES
    assert verify(settings.model_copy(update={"spool_dir": settings.home / "elsewhere"})).findings == ()
    assert not [path for path in settings.spool_path.iterdir() if len(path.name) == 20]


def test_who_comes_next_closes_what_was_killed_and_leaves_nothing(settings, client, environment):
    """The end of the dead one, and of the one that closed it, are shipped as well."""
    with AuditAdmin(settings=settings) as admin:
        admin.setup()
    killed = "import audit_logging as a, os; a.get_logger().user_login(user_id='u'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", killed], env={**environment, "AUDIT_SHIP": "false"}, check=False, timeout=30)
    [dead] = [path.name for path in settings.spool_path.iterdir() if len(path.name) == 20]
    following = "import audit_logging as a; a.get_logger().user_login(user_id='u'); assert a.shutdown(20) == 0"
    subprocess.run([sys.executable, "-c", following], env=environment, check=True, timeout=30)
    assert not [path for path in settings.spool_path.iterdir() if len(path.name) == 20]
    client.request("POST", f"/{settings.stream}/_refresh")
    with AuditReader(settings=settings) as reader:
        types = [(event.event_type, event.get("audit.metadata.writer")) for event in reader.scan()]
        assert sorted(kind for kind, _ in types).count("audit.started") == 2
        assert ("audit.writer_closed", dead) in types
        assert [kind for kind, _ in types].count("audit.stopped") == 1
        report = reader.verify()
    assert (report.findings, {note.kind for note in report.notes}) == ((), set())
