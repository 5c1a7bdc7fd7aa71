"""What the tests of shipping share: a trail that ships through a proxy."""

import pytest

from audit_logging.capture.trail import Trail
from tests.faults.conftest import prepared, proxy  # noqa: F401 - fixtures


@pytest.fixture
def through_proxy(prepared, proxy):  # noqa: F811
    """Settings that lead through the proxy, without waiting for batches to fill."""
    return prepared.model_copy(update={"opensearch_url": (proxy.url,), "batch_seconds": 0.02})


@pytest.fixture
def trail(through_proxy):
    trail = Trail(through_proxy)
    yield trail
    assert trail.shutdown(5) == 0
