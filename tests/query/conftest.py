"""Streams to read from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from audit_logging.query import AuditReader

from .trail import Trail

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def trail(settings, client) -> Trail:
    """An empty stream that has been set up."""
    return Trail(settings, client)


@pytest.fixture
def reader(settings) -> Iterator[AuditReader]:
    with AuditReader(settings=settings) as reader:
        yield reader
