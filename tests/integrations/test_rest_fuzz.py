"""Whatever is asked of the REST interface, it answers as its own description says, and nothing that it must not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import audit_logging as audit
from audit_logging.integrations.fastapi import EXAMPLE
from tests.integrations.rest import application
from tests.integrations.web_server import serve
from tests.query.trail import Trail, event

pytestmark = pytest.mark.server

# A description says less than the filter checks (that a time is one, say), so valid may still be refused in words.
CONFIGURATION = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 404, 422]
"""
OPTIONS = "--checks all --phases examples,coverage,fuzzing --max-examples 25 --generation-deterministic --no-color"
LONGEST_URL = 1 << 24
"""Bytes. uvicorn itself, before the application, refuses what is longer than 64 KiB, and not as a problem."""

FOREIGN = "of-another-tenant"


class Watched:
    """Wraps an application and keeps what it must not have said."""

    def __init__(self, app, forbidden):
        self.app, self.forbidden = app, [each.encode() for each in forbidden]
        self.said = []
        self.statuses = []

    async def __call__(self, scope, receive, send):
        async def watched(message):
            if scope["path"].startswith("/admin/"):
                if "status" in message:
                    self.statuses.append(message["status"])
                self.said += [each for each in self.forbidden if each in message.get("body", b"")]
            await send(message)

        await self.app(scope, receive, watched)


def test_no_request_gets_what_is_not_described(settings, client, tmp_path):
    """Thousands of requests by a reader who is confined to a tenant, in a real uvicorn, on a trail of two tenants."""
    trail = Trail(settings, client)
    for tenant, note in (("acme", "own"), ("evil", FOREIGN)):
        for number in range(20):
            trail.add(event(f"{tenant}-{number}", organization__id=tenant, message=note, user__id=note))
    trail.add(event(EXAMPLE["event"]["id"], organization__id="acme"))
    app = Watched(
        application(settings, max_limit=10), [FOREIGN, "Traceback", *settings.opensearch_url, settings.stream]
    )
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    tool = [Path(sys.executable).with_name("st"), "--config-file", tmp_path / "schemathesis.toml", "run"]
    with audit.record_events(on_invalid="record") as events:
        with serve(app, h11_max_incomplete_event_size=LONGEST_URL) as (host, port):
            url = f"http://{host}:{port}/openapi.json"
            fuzzing = subprocess.run(
                [*tool, url, "--header", "x-user: ann", *OPTIONS.split()],
                cwd=tmp_path,
                env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
                capture_output=True,
                check=False,
            )
        readings = [each["audit"]["metadata"] for each in events if each["event"]["action"] == "audit.searched"]
    assert fuzzing.returncode == 0, fuzzing.stdout.decode()
    assert app.said == []
    assert len(app.statuses) > 1000
    assert {200, 404, 405, 422} <= set(app.statuses) <= {200, 401, 403, 404, 405, 422}
    assert {each["query"] for each in readings} == {"search", "get", "statistics", "export"}
    assert all(each["filter"]["organization_id"] == ["acme"] for each in readings)
    assert len(readings) >= app.statuses.count(200)
