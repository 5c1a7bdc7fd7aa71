"""What every test may ask for. ``opensearch_server`` comes from the library's own pytest plugin."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING
from uuid import uuid4

import hypothesis
import pytest

from audit_logging.errors import NotFoundError
from audit_logging.opensearch.client import Client
from audit_logging.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# A busy machine is no reason for a property to fail.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")

# A shell that runs the tests in the background lets them, and all they start, ignore interrupts; some test just those.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# So that a test can count the events that it emits; those about signatures and verifications switch them on.
os.environ.setdefault("AUDIT_SIGNING", "false")
os.environ.setdefault("AUDIT_AUDIT_VERIFICATIONS", "false")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take the files with the slowest tests first, so that no worker is left alone with them at the end."""
    rank: dict[Path, int] = {}
    for item in items:
        kind = 0 if item.get_closest_marker("slow") else 1 if item.get_closest_marker("server") else 2
        rank[item.path] = min(kind, rank.get(item.path, kind))
    items.sort(key=lambda item: rank[item.path])


@pytest.fixture(autouse=True)
def _the_librarys_log_is_on() -> None:
    """Undo what another test's ``dictConfig`` did: by default it disables every logger that is there already."""
    log = logging.getLogger("audit_logging")
    log.disabled, log.propagate = False, True
    log.setLevel(logging.NOTSET)


@pytest.fixture
def stream(opensearch_server) -> Iterator[str]:
    """A name that no other test uses. Everything whose name begins with it is removed afterwards."""
    name = f"audit-test-{uuid4().hex[:12]}"
    yield name
    client = Client(Settings.load(**opensearch_server.settings()))
    for path in (f"_data_stream/{name}*", f"_index_template/{name}*", f"_component_template/{name}*", f"{name}*"):
        try:
            client.request("DELETE", f"/{path}")
        except NotFoundError:
            continue
    client.close()


@pytest.fixture
def settings(opensearch_server, stream: str, tmp_path: Path) -> Settings:
    """Settings for that stream, with a home of the test's own."""
    return Settings.load(**opensearch_server.settings(), stream=stream, home=tmp_path / "home")


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    """A client of the server, closed afterwards."""
    client = Client(settings)
    yield client
    client.close()


@pytest.fixture
def program():
    """Start Python programs, with pipes to talk to them; they are gone afterwards."""
    started = []

    def start(script, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Without measuring coverage: that takes a lock of its own at every call, which a fork may find held.
            env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
            | {"PYTHONUNBUFFERED": "1"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
