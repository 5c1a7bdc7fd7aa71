"""What the faults on the way to the server share."""

import pytest

from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.shipping import backoff
from tests.faults.programs import Programs
from tests.faults.proxy import FaultProxy


@pytest.fixture
def prepared(settings, monkeypatch):
    """Settings of a stream that is set up; what fails is tried again soon."""
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.02)
    monkeypatch.setattr(backoff, "LONGEST_SECONDS", 0.5)
    AuditAdmin(settings=settings).setup()
    return settings


@pytest.fixture
def proxy(prepared):
    with FaultProxy(prepared.opensearch_url[0]) as proxy:
        yield proxy


@pytest.fixture
def through_proxy(prepared, proxy):
    """Settings that lead through the proxy, in small batches."""
    small = {"batch_seconds": 0.01, "batch_max_bytes": 20_000, "opensearch_timeout_seconds": 1.0}
    return prepared.model_copy(update={"opensearch_url": (proxy.url,), **small})


@pytest.fixture
def programs(settings):
    """Programs of many processes on a stream that is set up."""
    AuditAdmin(settings=settings).setup()
    return Programs(settings)
