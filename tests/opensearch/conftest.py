"""Fixtures around a stream that has been set up, and a server in front of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from audit_logging.opensearch.admin import AuditAdmin

from .front import Front

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.settings import Settings


@pytest.fixture
def admin(settings: Settings) -> Iterator[AuditAdmin]:
    """The administrator of the test's stream, which is not set up yet."""
    with AuditAdmin(settings=settings) as admin:
        yield admin


@pytest.fixture
def front(opensearch_server) -> Iterator[Front]:
    """A server that passes everything on to the real one, but for the paths it is told to answer itself."""
    with Front(opensearch_server.url) as front:
        yield front
