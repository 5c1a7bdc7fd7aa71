"""The lanes: several requests under way, in order, through mistakes, and out of the way when it is time to end."""

import logging
import threading
import time

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.errors import UnreachableError
from audit_logging.shipping import shipper as module
from audit_logging.shipping.delivery import Delivery
from audit_logging.shipping.shipper import SMALLEST_BATCH_BYTES, Shipper
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.refusals import Refusals
from tests.faults.reckoning import reckon
from tests.shipping.spools import write_spool
from tests.waiting import until

pytestmark = pytest.mark.server


def emit(trail, count):
    return [trail.emit("user.login", {"user_id": f"u-{number}"}) for number in range(count)]


def leave_behind(settings, count):
    trail = Trail(settings.model_copy(update={"opensearch_url": ()}))
    ids = emit(trail, count)
    trail.shutdown(0)
    return ids


def directory_of(settings):
    return SpoolDirectory(settings.spool_path, settings.stream)


def test_several_requests_are_under_way_at_a_time(proxy, through_proxy, prepared):
    """None of these three is answered before all of them have come."""
    together = threading.Barrier(3, timeout=20)

    def meet(handler, body):
        together.wait()
        return False

    proxy.faults.extend([meet] * 3)
    ids = leave_behind(prepared, 30)
    three = through_proxy.model_copy(update={"batches_in_flight": 3, "batch_max_bytes": 6000})
    shipper = Shipper(three, directory_of(three), None)
    shipper.start()
    assert shipper.finish(20)
    assert not together.broken
    reckon(prepared, ids)


def test_what_overtakes_is_not_acknowledged_before_what_went_first(proxy, through_proxy, prepared):
    """The first request is answered last; until then the cursor stays, and afterwards it is at the end."""
    held, release = threading.Event(), threading.Event()

    def hold_the_first(handler, body):
        if b'-1"}}' in body.partition(b"\n")[0]:
            held.set()
            release.wait(20)
        return False

    proxy.chance = lambda: hold_the_first
    small = through_proxy.model_copy(update={"batch_max_bytes": 2000, "batch_seconds": 0.0})
    trail = Trail(small)
    emit(trail, 40)
    assert held.wait(20)
    until(lambda: len(proxy.bulk_requests) >= 4)
    (writer,) = directory_of(small).writers()
    assert SpoolReader(writer).acknowledged == 0
    release.set()
    assert trail.flush(20)
    assert trail.shutdown(5) == 0


def test_a_mistake_of_its_own_stops_nothing(through_proxy, prepared, monkeypatch, caplog):
    """The batch is delivered again, and the mistake is told of."""
    deliver, failing = Delivery.deliver, [KeyError("mistake"), KeyError("mistake")]

    def fail_twice(*arguments):
        if failing:
            raise failing.pop()
        return deliver(*arguments)

    monkeypatch.setattr(Delivery, "deliver", fail_twice)
    trail = Trail(through_proxy)
    with caplog.at_level(logging.ERROR, "audit_logging"):
        ids = emit(trail, 5)
        assert trail.flush(20)
    assert trail.shutdown(5) == 0
    assert "failed (KeyError: 'mistake'); retrying" in caplog.text
    reckon(prepared, ids)


def test_a_mistake_does_not_outlive_the_end(through_proxy, prepared, monkeypatch):
    """Shutdown is bounded even then, and the events stay."""
    monkeypatch.setattr(Delivery, "deliver", lambda *_: 1 / 0)
    trail = Trail(through_proxy)
    emit(trail, 5)
    assert trail.shutdown(0.2) == 5


def test_secrets_that_come_late_are_waited_for(through_proxy, prepared, tmp_path, caplog):
    """A container may start before its secrets are mounted."""
    file = tmp_path / "token"
    ids = leave_behind(prepared, 5)
    late = through_proxy.model_copy(update={"opensearch_token_file": file})
    shipper = Shipper(late, directory_of(late), None)
    with caplog.at_level(logging.ERROR, "audit_logging"):
        shipper.start()
        until(lambda: "opensearch_token_file" in caplog.text)
    file.write_text("any")
    assert shipper.finish(20)
    reckon(prepared, ids)

    file.unlink()
    leave_behind(prepared, 1)
    shipper = Shipper(late, directory_of(late), None)
    shipper.start()
    assert not shipper.finish(0.1)


def test_a_request_that_hangs_delays_no_end_and_touches_no_spool_afterwards(proxy, through_proxy, prepared):
    """Another process may ship it by then."""
    held, release, answered = threading.Event(), threading.Event(), threading.Event()

    def hang(handler, body):
        held.set()
        release.wait(20)
        proxy.forward(handler.command, handler.path, handler.headers, body)
        handler.answer(
            200, b'{"items":[' + b",".join([b'{"create":{"status":201}}'] * (body.count(b"\n") // 2)) + b"]}"
        )
        answered.set()

    proxy.faults.append(hang)
    ids = leave_behind(prepared, 5)
    shipper = Shipper(through_proxy, directory_of(through_proxy), None)
    shipper.start()
    assert held.wait(20)
    began = time.monotonic()
    assert not shipper.finish(0.1)
    assert time.monotonic() - began < 5
    (writer,) = directory_of(prepared).writers()
    release.set()
    assert answered.wait(20)
    assert shipper.wait(20)
    assert SpoolReader(writer).acknowledged == 0

    after = Shipper(prepared, directory_of(prepared), None)
    after.start()
    assert after.finish(20)
    reckon(prepared, ids)


def test_a_refusal_that_comes_late_is_noted_by_nobody(proxy, through_proxy, prepared):
    """Another process may have the journal by then, and ask the server itself."""
    held, release = threading.Event(), threading.Event()
    refuse = proxy.items(400, "mapper_parsing_exception", every=1)

    def refuse_late(handler, body):
        held.set()
        release.wait(20)
        refuse(handler, body)

    proxy.faults.append(refuse_late)
    trail = Trail(through_proxy)
    ids = emit(trail, 1)
    assert held.wait(20)
    shipper = trail._shipper
    assert trail.shutdown(0.1) == 1
    (writer,) = directory_of(prepared).writers()
    release.set()
    assert shipper.wait(20)
    assert Refusals(writer).read() == {}
    assert len(proxy.bulk_requests) == 1

    after = Shipper(prepared, directory_of(prepared), None)
    after.start()
    assert after.finish(20)
    reckon(prepared, ids)


def test_more_dead_writers_than_may_be_held_at_a_time(prepared, monkeypatch):
    """One after the other."""
    monkeypatch.setattr(module, "MOST_ADOPTED", 2)
    ids = [event_id for _ in range(7) for event_id in leave_behind(prepared, 3)]
    shipper = Shipper(prepared, directory_of(prepared), None)
    shipper.start()
    assert shipper.finish(20)
    assert directory_of(prepared).writers() == []
    reckon(prepared, ids)


@pytest.mark.parametrize("most", [3, 400])
def test_an_idle_process_adopts_all_dead_writers_in_one_go(prepared, monkeypatch, most):
    """It looks for them once; no pause falls between two of them, however few may be held at a time."""
    monkeypatch.setattr(module, "ADOPTION_SECONDS", 3600.0)
    monkeypatch.setattr(module, "MOST_ADOPTED", most)
    ids = [written for _ in range(12) for written in leave_behind(prepared, 1)]
    living = Trail(prepared)
    ids += emit(living, 1)
    until(lambda: len(directory_of(prepared).writers()) == 1)
    assert living.shutdown(20) == 0
    reckon(prepared, ids)


def test_where_no_further_thread_can_start_one_goes_on_alone(prepared, monkeypatch):
    """As when the interpreter is exiting."""
    start = threading.Thread.start

    def start_the_first(thread):
        if thread.name.startswith("audit-logging-shipper-"):
            raise RuntimeError("can't start new thread at interpreter shutdown")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_the_first)
    ids = leave_behind(prepared, 5)
    shipper = Shipper(prepared, directory_of(prepared), None)
    shipper.start()
    assert shipper.finish(20)
    reckon(prepared, ids)


def test_batches_become_smaller_where_requests_are_too_large(prepared):
    """And not absurdly small."""
    shipper = Shipper(prepared, directory_of(prepared), None)
    shipper._narrow(2_000_000)
    assert shipper._batch_max_bytes == 1_000_000
    shipper._narrow(10)
    assert shipper._batch_max_bytes == SMALLEST_BATCH_BYTES


def test_a_look_up_that_cannot_tell_is_made_again(proxy, through_proxy, prepared, client):
    """A shard that is away knows nothing of what it holds; that is not a no."""
    tried = []
    request = module.Client.request

    def fail_first(self, method, path, **rest):
        if "_mget" in path and len(tried) < 3:
            tried.append(path)
            answers = [{}, [], {"docs": [{"_id": "x", "found": True}]}]
            return answers[len(tried) - 1]
        return request(self, method, path, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Client, "request", fail_first)
        proxy.faults.append(proxy.store_then())
        trail = Trail(through_proxy)
        ids = emit(trail, 10)
        assert trail.flush(20)
        assert trail.shutdown(5) == 0
    assert len(tried) == 3
    reckon(prepared, ids)


def test_an_empty_spool_makes_no_request(proxy, through_proxy):
    """A sidecar beside an idle application is no load."""
    write_spool(through_proxy.spool_path, [], stream=through_proxy.stream)
    shipper = Shipper(through_proxy, directory_of(through_proxy), None)
    shipper.start()
    assert shipper.finish(20)
    assert proxy.paths == []
    assert directory_of(through_proxy).writers() == []


def test_nobody_listens(prepared):
    """Finishing says that it was not through."""
    leave_behind(prepared, 1)
    away = prepared.model_copy(update={"opensearch_url": ("http://127.0.0.1:1",)})
    shipper = Shipper(away, directory_of(away), None)
    shipper.start()
    assert not shipper.finish(0.2)
    assert "No OpenSearch answers" in shipper.notices.last_problem
    assert UnreachableError.exit_code == 3
