"""Fixtures for the tests of applications that audit. Registered as a pytest plugin, so nothing heavy is imported here.

``opensearch_server``
    A real OpenSearch for the whole session, shared by all workers of pytest-xdist: the one that
    ``AUDIT_OPENSEARCH_URL`` names, else one that is fetched and started when the first test asks for it.
``audit_events``
    What the code under test emitted, kept in memory: ``audit_events.one("user.login")["user"]["id"]``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.capture.recording import RecordedEvents
    from audit_logging.local import RunningServer
    from audit_logging.settings import Settings

SHARED_STATE = "audit-logging-opensearch.json"


class OpenSearchServer(Protocol):
    """A server for tests."""

    @property
    def url(self) -> str:
        """Its URL."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return the library's settings that lead to it: ``audit.configure(**opensearch_server.settings())``."""
        ...


@pytest.fixture
def audit_events() -> Iterator[RecordedEvents]:
    """Keep what the test emits in memory; values that do not validate raise."""
    from audit_logging.capture.recording import record_events

    with record_events() as events:
        yield events


@pytest.fixture(scope="session")
def opensearch_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSearchServer]:
    """Give a real OpenSearch: ``AUDIT_OPENSEARCH_URL``'s, or one that lives as long as this test session."""
    from audit_logging.settings import Settings

    settings = Settings.load()
    if settings.opensearch_url:
        yield _ConfiguredServer(settings)
    elif "PYTEST_XDIST_WORKER" in os.environ:
        yield _shared_by_workers(tmp_path_factory)
    else:
        from audit_logging.local import LocalServer

        with LocalServer(in_memory=True) as server:
            yield server


class _ConfiguredServer:
    """The server that the environment names."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.url = settings.opensearch_url[0]

    def settings(self) -> dict[str, Any]:
        everything = self._settings
        return {
            name: getattr(everything, name) for name in everything.model_fields_set if name.startswith("opensearch_")
        }


def _shared_by_workers(tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """Return the server of all workers, started by the first that comes here.

    It belongs to the process that started the workers: when that ends, however it ends, the server does. So it
    makes no difference which worker finishes, crashes or is replaced first.
    """
    from audit_logging.local.places import locked
    from audit_logging.local.server import LocalServer
    from audit_logging.local.state import State

    path = tmp_path_factory.getbasetemp().parent / SHARED_STATE
    with locked(path.with_suffix(".lock")):
        state = State.read(path)
        if state is None or not state.is_alive:
            state = LocalServer(in_memory=True).start().detach(owner=os.getppid())
            state.write(path)
    return state.running()
