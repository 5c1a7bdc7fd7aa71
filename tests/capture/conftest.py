"""Each test begins without a trail and without context."""

import pytest
import structlog

from audit_logging.capture.configuration import swap_trail


@pytest.fixture(autouse=True)
def no_trail(tmp_path, monkeypatch):
    """A home of the test's own; whatever trail the test made is shut down, and structlog is as it was."""
    monkeypatch.setenv("AUDIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AUDIT_OPENSEARCH_URL", raising=False)
    before = swap_trail(None)
    structlog.contextvars.clear_contextvars()
    yield
    made = swap_trail(before)
    if made is not None:
        made.shutdown(5)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()
