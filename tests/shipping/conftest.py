"""What the tests of shipping share: a stream that is set up, a proxy before it, a trail that ships through the proxy."""

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.shipping import backoff
from tests.faults.proxy import FaultProxy


@pytest.fixture
def prepared(settings, monkeypatch):
    """Settings of a stream that is set up; what fails is tried again soon."""
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.02)
    AuditAdmin(settings=settings).setup()
    return settings


@pytest.fixture
def proxy(prepared):
    with FaultProxy(prepared.opensearch_url[0]) as proxy:
        yield proxy


@pytest.fixture
def through_proxy(prepared, proxy):
    """Settings that lead through the proxy, without waiting for batches to fill."""
    return prepared.model_copy(update={"opensearch_url": (proxy.url,), "batch_seconds": 0.02})


@pytest.fixture
def trail(through_proxy):
    trail = Trail(through_proxy)
    yield trail
    assert trail.shutdown(5) == 0
