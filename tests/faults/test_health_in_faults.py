"""Health and the exit message in every fault: true within two seconds, and over when the fault is over."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import suppress

import pytest

from audit_logging.capture import configuration, custody
from audit_logging.capture.trail import Trail
from audit_logging.errors import NotFoundError
from audit_logging.shipping.accounts import take_accounts
from audit_logging.shipping.source import Source
from tests.spool.conftest import fill, small_disk
from tests.waiting import until

pytestmark = pytest.mark.server

NOTICED_SECONDS = 2.0

__all__ = ["small_disk"]  # a fixture


def emit(trail, count=5):
    return [trail.emit("user.login", {"user_id": f"u-{number}"}) for number in range(count)]


def kinds(trail):
    return [reason.kind for reason in trail.health().reasons]


def noticed(trail, kind, status):
    """Return the reason once health names it, which must not take longer than it may."""
    began = time.monotonic()
    until(lambda: kind in kinds(trail))
    assert time.monotonic() - began < NOTICED_SECONDS
    found = trail.health()
    assert found.status == status
    return next(reason for reason in found.reasons if reason.kind == kind)


def assert_the_end_is_true(trail, caplog):
    """What is said to remain, and nothing else, is in the spool."""
    remaining = configuration._close(trail, 0.2)
    in_spool = take_accounts(trail.settings.spool_path).total.in_spool
    assert remaining == in_spool
    assert (f"{remaining} audit events remain in the spool" in caplog.text) == bool(remaining)


@pytest.fixture
def trail(through_proxy, monkeypatch):
    monkeypatch.setattr(custody, "REMEMBERED_SECONDS", 1.0)
    signing = {"signing": True, "checkpoint_seconds": 1.0}
    trail = Trail(through_proxy.model_copy(update=signing))
    yield trail
    trail.shutdown(0)


def test_without_a_fault_it_is_ok(trail, caplog):
    emit(trail)
    assert trail.flush(20)
    assert trail.health().status == "ok"
    assert_the_end_is_true(trail, caplog)


def test_refused_credentials(trail, proxy, caplog):
    proxy.authorization = "Bearer another"
    emit(trail)
    assert "401" in noticed(trail, "credentials", "degraded").sentence
    assert_the_end_is_true(trail, caplog)


def test_a_removed_spool(trail, proxy, caplog):
    proxy.chance = lambda: proxy.status(503)
    emit(trail)
    shutil.rmtree(trail.settings.spool_path)
    noticed(trail, "spool removed", "failing")
    until(lambda: "spool removed" not in kinds(trail))
    shutil.rmtree(trail.settings.spool_path)
    assert_the_end_is_true(trail, caplog)


def test_a_spool_that_cannot_be_restored(trail, proxy, caplog):
    proxy.chance = lambda: proxy.status(503)
    emit(trail)
    waiting = trail.health().waiting
    shutil.rmtree(trail.settings.spool_path)
    trail.settings.spool_path.touch()
    noticed(trail, "spool removed", "failing")
    assert configuration._close(trail, 0.2) == 0
    assert "remain in the spool" not in caplog.text
    assert f"{waiting} audit events" in caplog.text
    assert "are lost" in caplog.text


def test_threads_that_cannot_be_started(trail, caplog, monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        emit(trail)
        assert "can't start new thread" in noticed(trail, "shipper stopped", "failing").sentence
    until(lambda: trail.health().status == "ok")
    assert trail.flush(20)
    assert_the_end_is_true(trail, caplog)


def test_threads_that_cannot_be_started_until_the_end(trail, caplog, monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    emit(trail)
    noticed(trail, "shipper stopped", "failing")
    assert_the_end_is_true(trail, caplog)


def test_a_batch_that_cannot_be_settled(trail, caplog, monkeypatch):
    """The lanes that are left work on."""
    with monkeypatch.context() as broken:
        broken.setattr(Source, "settle", lambda *_: 1 / 0)
        emit(trail)
        assert "ZeroDivisionError" in noticed(trail, "stuck", "degraded").sentence
    until(lambda: trail.health().status == "ok")
    assert_the_end_is_true(trail, caplog)


def test_a_missing_signing_key(trail, caplog):
    emit(trail)
    assert trail.flush(20)
    path = trail.settings.signing_key_path
    key = path.read_bytes()
    path.unlink()
    assert str(path) in noticed(trail, "signing", "degraded").sentence
    path.write_bytes(key)
    assert trail.health().status == "ok"
    assert_the_end_is_true(trail, caplog)


def test_a_second_place_that_cannot_be_written(through_proxy, tmp_path, caplog):
    """Checkpoints come every second."""
    (tmp_path / "file").touch()
    settings = {"signing": True, "checkpoint_seconds": 1.0, "checkpoint_file": tmp_path / "file" / "heads.log"}
    trail = Trail(through_proxy.model_copy(update=settings))
    emit(trail)
    noticed(trail, "signing", "degraded")
    assert_the_end_is_true(trail, caplog)


def test_a_full_disk(through_proxy, proxy, small_disk, caplog):
    proxy.chance = lambda: proxy.status(503)
    trail = Trail(through_proxy.model_copy(update={"spool_dir": small_disk / "spool"}))
    emit(trail)
    filler = fill(small_disk)
    noticed(trail, "disk", "failing")
    filler.unlink()
    assert_the_end_is_true(trail, caplog)


def test_a_deleted_stream(trail, client, prepared, caplog):
    """Whether or not an ordinary index of its name came to be in its place."""
    template = client.request("GET", f"/_index_template/{prepared.stream}")["index_templates"][0]["index_template"]
    emit(trail)
    assert trail.flush(20)
    client.request("DELETE", f"/_data_stream/{prepared.stream}")
    client.request("DELETE", f"/_index_template/{prepared.stream}")
    emit(trail)
    noticed(trail, "stream", "degraded")
    with suppress(NotFoundError):
        client.request("DELETE", f"/{prepared.stream}")
    emit(trail)
    noticed(trail, "stream", "degraded")
    client.request("PUT", f"/_index_template/{prepared.stream}", body=template)
    client.request("PUT", f"/_data_stream/{prepared.stream}")
    assert trail.flush(20)
    assert trail.health().status == "ok"
    assert_the_end_is_true(trail, caplog)


def test_a_role_that_may_not_write(trail, proxy, caplog):
    """The security plugin answers 200, and forbids each event by itself."""
    forbidden = proxy.items(403, "security_exception", every=1)
    proxy.chance = lambda: forbidden
    emit(trail)
    assert "security_exception" in noticed(trail, "credentials", "degraded").sentence
    proxy.chance = lambda: None
    assert trail.flush(20)
    assert trail.health().status == "ok"
    assert_the_end_is_true(trail, caplog)
