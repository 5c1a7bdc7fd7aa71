"""A real snapshot, rolled back on a server that may keep some."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.local import LocalServer
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.opensearch.client import Client
from audit_logging.query import AuditReader
from audit_logging.settings import Settings

pytestmark = pytest.mark.server


@pytest.fixture
def snapshots():
    """A directory that the account of the server may write, whoever runs the tests."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        yield directory


@pytest.mark.usefixtures("signing")
def test_a_stream_that_was_rolled_back_lacks_its_end(snapshots, tmp_path):
    with LocalServer(settings={"path.repo": [snapshots]}, in_memory=True) as server:
        settings = Settings.load(**server.settings(), home=tmp_path)
        client = Client(settings)
        with AuditAdmin(settings=settings) as admin:
            admin.setup(append_only=False)
        trail = Trail(settings)
        for _ in range(20):
            trail.emit("user.login", {"user_id": "u-1"})
        assert trail.flush(20)
        client.request("PUT", "/_snapshot/kept", body={"type": "fs", "settings": {"location": snapshots}})
        of_the_stream = {"indices": settings.stream, "include_global_state": False}
        whole = {"wait_for_completion": True}
        client.request("PUT", "/_snapshot/kept/early", params=whole, body=of_the_stream)
        for _ in range(20):
            trail.emit("user.logout", {"user_id": "u-1"})
        writer, last = trail.writer_id, trail._writer.sequence
        assert trail.shutdown(20) == 0
        client.request("POST", f"/{settings.stream}/_refresh")
        with AuditReader(settings=settings) as reader:
            assert reader.verify().findings == ()
            client.request("DELETE", f"/_data_stream/{settings.stream}")
            client.request("POST", "/_snapshot/kept/early/_restore", params=whole, body=of_the_stream)
            (finding,) = reader.verify().findings
        client.close()
    assert (finding.kind, finding.writer, finding.last) == ("truncated", writer, last + 1)
    assert finding.sequence == last - 20 + 1
