"""What many dead writers left goes in few requests, and comes to the same as if each went alone."""

from __future__ import annotations

import json
import re

import pytest

from audit_logging.capture.trail import Trail
from audit_logging.shipping.shipper import Shipper
from audit_logging.spool.directory import SpoolDirectory
from tests.faults.reckoning import reckon

pytestmark = pytest.mark.server


def leave_behind(settings, writers, **facts):
    """Return the ids of what *writers* dead processes left, one event each beside what says that they began."""
    ids = []
    for number in range(writers):
        trail = Trail(settings.model_copy(update={"opensearch_url": ()}))
        ids.append(trail.emit("user.login", {"user_id": f"u-{number}", **facts}))
        trail.shutdown(0)
    return ids


def ship(settings, seconds=30):
    directory = SpoolDirectory(settings.spool_path, settings.stream)
    shipper = Shipper(settings, directory, None)
    shipper.start()
    assert shipper.finish(seconds)
    assert directory.writers() == []
    return shipper


def writers_in(request):
    return {json.loads(line)["create"]["_id"].partition("-")[0] for line in request.split(b"\n")[:-1:2]}


def copies(client, settings):
    client.request("POST", f"/{settings.stream}/_refresh")
    return client.request("GET", f"/{settings.stream}/_count")["count"]


def test_what_many_left_goes_in_few_requests(proxy, through_proxy, prepared):
    ids = leave_behind(prepared, 60)
    ship(through_proxy)
    reckon(prepared, ids)
    assert max(len(writers_in(request)) for request in proxy.bulk_requests) > 10
    assert len(proxy.bulk_requests) <= 15


@pytest.mark.parametrize("fault", ["store_then", "store_then_cut", "drop", "status", "html", "items", "delay"])
def test_a_request_of_many_that_fails_doubles_and_loses_nothing(proxy, through_proxy, prepared, client, fault):
    ids = leave_behind(prepared, 12)

    def roll_over():
        client.request("POST", f"/{prepared.stream}/_rollover")

    proxy.faults.append(
        {
            "store_then": proxy.store_then(roll_over),
            "store_then_cut": proxy.store_then_cut,
            "drop": proxy.drop,
            "status": proxy.store_then_status(503),
            "html": proxy.store_then_status(200),
            "items": proxy.items(429, "rejected_execution_exception"),
            "delay": proxy.delay(1.5),
        }[fault]
    )
    shipper = ship(through_proxy)
    found = reckon(prepared, ids)
    assert copies(client, prepared) == len(found) == shipper.shipped


def test_an_event_that_is_refused_takes_no_other_writer_with_it(proxy, through_proxy, prepared):
    ids = leave_behind(prepared, 9)
    poison = ids[4].encode()

    def refuse(handler, body):
        """Refuse the one event wherever it comes, and let the others pass."""
        if poison not in body or b"audit.quarantine" in body or b'"quarantine"' in body:
            return False
        lines = body.split(b"\n")[:-1]
        pairs = [lines[index : index + 2] for index in range(0, len(lines), 2)]
        good = [pair for pair in pairs if poison not in pair[1]]
        items = iter([])
        if good:
            _, answer = proxy.forward(
                "POST", handler.path, handler.headers, b"\n".join(b"\n".join(p) for p in good) + b"\n"
            )
            items = iter(json.loads(answer)["items"])
        bad = {"create": {"status": 400, "error": {"type": "mapper_parsing_exception", "reason": "scripted"}}}
        told = [bad if poison in pair[1] else next(items) for pair in pairs]
        return handler.answer(200, json.dumps({"items": told}).encode())

    proxy.chance = lambda: refuse
    ship(through_proxy)
    reckon(prepared, ids, poison=[ids[4]])


def test_a_request_of_many_that_is_too_large_goes_in_smaller_ones(proxy, through_proxy, prepared):
    ids = leave_behind(prepared, 20, note="x" * 500)
    proxy.faults.append(proxy.too_large(8_000))
    ship(through_proxy)
    reckon(prepared, ids)


def test_what_may_have_been_sent_before_is_looked_up_and_not_sent_together(proxy, through_proxy, prepared, client):
    ids = leave_behind(prepared, 6)
    proxy.faults.append(proxy.store_then(lambda: setattr(proxy, "authorization", "Bearer another")))
    first = Shipper(through_proxy, SpoolDirectory(prepared.spool_path, prepared.stream), None)
    first.start()
    assert not first.finish(1)
    proxy.authorization = None
    client.request("POST", f"/{prepared.stream}/_rollover")
    ship(through_proxy)
    found = reckon(prepared, ids)
    assert copies(client, prepared) == len(found)


def test_every_id_in_a_request_of_many_is_its_writers_own(proxy, through_proxy, prepared):
    leave_behind(prepared, 8)
    ship(through_proxy)
    for request in proxy.bulk_requests:
        lines = request.split(b"\n")[:-1]
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            writer, _, sequence = json.loads(action)["create"]["_id"].partition("-")
            assert re.search(rb'"sequence":%d,.{0,200}"writer":"%b"' % (int(sequence), writer.encode()), document)
