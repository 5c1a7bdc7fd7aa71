"""A rollover exactly between send and lost answer: the same ``_id`` would be accepted once more."""

import logging
import threading

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.integrity.stand_in import stand_in
from audit_logging.shipping.batch import document_id
from audit_logging.shipping.shipper import Shipper
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.refusals import Refusals
from audit_logging.spool.sent import Sent
from tests.faults.reckoning import reckon

pytestmark = pytest.mark.server


def copies(client, settings):
    """Return how many documents the stream holds, physically."""
    client.request("POST", f"/{settings.stream}/_refresh")
    return client.request("GET", f"/{settings.stream}/_count")["count"]


@pytest.fixture
def roll_over(client, prepared):
    """Roll the stream over; not twice at the same moment, which OpenSearch refuses."""
    lock = threading.Lock()

    def roll_over():
        with lock:
            client.request("POST", f"/{prepared.stream}/_rollover")

    return roll_over


def emit(trail, count):
    return [trail.emit("user.login", {"user_id": f"u-{number}"}) for number in range(count)]


def test_what_was_stored_before_a_rollover_is_found_and_not_sent_again(
    proxy, through_proxy, prepared, client, roll_over
):
    """The role may look, so there is one copy, physically."""
    trail = Trail(through_proxy)
    proxy.faults.extend([proxy.store_then(roll_over)] * 3)
    ids = emit(trail, 200)
    assert trail.flush(30)
    assert trail.shutdown(5) == 0
    reckon(prepared, ids)
    assert copies(client, prepared) == 200
    assert len(client.request("GET", f"/_data_stream/{prepared.stream}")["data_streams"][0]["indices"]) == 4


def test_a_rollover_between_look_up_and_second_attempt_changes_nothing(
    proxy, through_proxy, prepared, client, roll_over
):
    """What was not stored at the look-up is stored once, wherever the second attempt lands."""
    trail = Trail(through_proxy)

    def roll_over_first(handler, body):
        roll_over()
        return False

    proxy.faults.extend([proxy.drop, roll_over_first, proxy.store_then(), roll_over_first] * 2)
    ids = emit(trail, 100)
    assert trail.flush(30)
    assert trail.shutdown(5) == 0
    reckon(prepared, ids)
    assert copies(client, prepared) == 100


@pytest.mark.parametrize("count_before", [0, 1])
def test_items_that_a_failing_server_may_have_stored_are_looked_up(
    proxy, through_proxy, prepared, client, roll_over, count_before
):
    """A 500 of one item is as uncertain as a broken connection; what was stored before is not stored again either."""

    def store_and_claim_failure(handler, body):
        proxy.forward(handler.command, handler.path, handler.headers, body)
        roll_over()
        count = body.count(b"\n") // 2
        item = b'{"create":{"status":500,"error":{"type":"scripted"}}}'
        handler.answer(200, b'{"items":[' + b",".join([item] * count) + b"]}")

    trail = Trail(through_proxy)
    ids = emit(trail, count_before)
    assert trail.flush(30)
    proxy.faults.append(store_and_claim_failure)
    ids += emit(trail, 1 if count_before else 30)
    assert trail.flush(30)
    assert trail.shutdown(5) == 0
    reckon(prepared, ids)
    assert copies(client, prepared) == len(ids)


@pytest.mark.parametrize("hidden", [("_data_stream", "_mget"), ("_mget",)])
def test_where_the_role_may_not_look_a_reader_still_sees_one(
    hidden, proxy, through_proxy, prepared, client, roll_over, caplog
):
    """It is sent again, which makes a second copy, and that is said once."""
    proxy.forbidden = hidden
    trail = Trail(through_proxy)
    proxy.faults.extend([proxy.store_then(roll_over)] * 2)
    with caplog.at_level(logging.INFO, "audit_logging"):
        ids = emit(trail, 50)
        assert trail.flush(30)
        assert trail.shutdown(5) == 0
    reckon(prepared, ids)
    assert copies(client, prepared) > 50
    assert caplog.text.count("may not look") == 1


def test_a_process_that_dies_leaves_word_of_what_it_may_have_sent(proxy, through_proxy, prepared, client, roll_over):
    """The next to ship its spool looks up what the dead one stored before a rollover."""
    directory = SpoolDirectory(through_proxy.spool_path, through_proxy.stream)
    trail = Trail(through_proxy)
    proxy.chance, proxy.forbidden = proxy.store_then, ("_mget",)
    ids = emit(trail, 100)
    assert not trail.flush(1)
    trail.shutdown(0)  # in the middle of attempts whose answers are lost
    assert copies(client, prepared) > 0
    roll_over()
    proxy.chance, proxy.forbidden = None, ()
    shipper = Shipper(through_proxy, directory, None)
    shipper.start()
    assert shipper.finish(30)
    reckon(prepared, ids)
    assert copies(client, prepared) == 100
    assert directory.writers() == []


def test_a_stand_in_that_was_stored_before_its_shipper_was_killed(prepared, client, roll_over):
    """And a rollover came before the next one: it is looked up, though the refusal alone had been noted."""
    trail = Trail(prepared.model_copy(update={"opensearch_url": ()}))
    ids = emit(trail, 2)
    trail.shutdown(0)
    directory = SpoolDirectory(prepared.spool_path, prepared.stream)
    (path,) = directory.writers()
    first, _ = SpoolReader(path).read(1 << 20)
    Sent(path).note(1, None)
    Refusals(path).note("refused", {1: "why"})
    refused = stand_in(first.payload, "why")
    client.request("PUT", f"/{prepared.stream}/_create/{document_id(path.name, 1)}", body=refused)
    roll_over()
    shipper = Shipper(prepared, directory, None)
    shipper.start()
    assert shipper.finish(30)
    reckon(prepared, ids, poison=ids[:1])
    assert copies(client, prepared) == 2
