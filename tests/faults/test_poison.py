"""Values that break others: each has its own outcome, and takes no other event with it."""

import logging

import orjson
import pytest
import structlog

from audit_logging.capture.configuration import swap_trail
from audit_logging.capture.handler import AuditHandler
from audit_logging.capture.trail import Trail
from tests.faults.reckoning import reckon

pytestmark = pytest.mark.server


class Angry:
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


def cycle():
    value = {}
    value["self"] = value
    return value


POISON = {
    "a lone surrogate": {"reason": "\ud800", "metadata": {"\udfff": "\ud800"}},
    "NaN": {"metadata": {"ratio": float("nan"), "most": float("inf")}},
    "200 KB of text": {"reason": "x" * 200_000, "metadata": {"text": "é" * 100_000}},
    "70,000 keys": {"metadata": {f"key-{number}": number for number in range(70_000)}},
    "a cycle": {"metadata": cycle()},
    "an object whose __str__ raises": {"metadata": {"object": Angry()}, "user_id": Angry()},
    "900 levels": {"metadata": {"deep": orjson.loads(b"[" * 900 + b"]" * 900)}},
    "a huge integer": {"metadata": {"number": 10**400, "negative": -(2**64)}},
    "keys of other types": {"metadata": {1: "a", "1": "b", None: "c", (1, 2): "d", b"\xff": "e"}},
    "dots in keys": {"metadata": {"a": 1, "a.b": 2, "": 3, ".": 4, "a..b": 5}},
    "a time before all times": {"timestamp": "0001-01-01T00:00:00Z"},
}


def test_poison_of_every_kind_is_stored_beside_what_is_good(prepared):
    """Nothing of it is refused by the server, so nothing has to be quarantined."""
    trail = Trail(prepared)
    ids = []
    for facts in POISON.values():
        ids.append(trail.emit("user.login", {"user_id": "good"}))
        ids.append(trail.emit("user.login", facts))
    assert trail.flush(30)
    assert trail.shutdown(5) == 0
    reckon(prepared, ids)


def test_a_mapping_that_does_not_fit_quarantines_what_it_refuses_and_no_other(prepared, client):
    """Somebody changed the template; the server really answers 400, and each event keeps its place."""
    name = f"{prepared.stream}-mappings"
    template = client.request("GET", f"/_component_template/{name}")["component_templates"][0]["component_template"]
    template["template"]["mappings"]["properties"]["session"]["properties"]["id"] = {"type": "long"}
    client.request("PUT", f"/_component_template/{name}", body=template)
    client.request("POST", f"/{prepared.stream}/_rollover")

    trail = Trail(prepared)
    ids = {
        session: trail.emit("user.login", {"user_id": f"u-{session}", "session_id": session})
        for session in ("1", "no number", "2", "none either", "3")
    }
    assert trail.flush(30)
    assert trail.shutdown(5) == 0
    poison = {ids["no number"], ids["none either"]}
    events = reckon(prepared, ids.values(), poison=poison, named=["mapping_changed"])
    quarantined = [event for event in events if event.event_type == "audit.quarantined"]
    assert {event.id for event in quarantined} == poison
    for event in quarantined:
        refused = orjson.loads(event.get("audit.quarantine.document"))
        assert refused["audit"]["integrity"] == event.get("audit.integrity")
        assert "session.id" in event.get("audit.quarantine.reason")


def test_shipping_never_feeds_the_trail_it_serves(through_proxy, prepared, proxy, client):
    """Every record of the root logger at DEBUG goes into the trail; failing requests say much, and add nothing."""
    trail = Trail(through_proxy)
    root = logging.getLogger()
    handler, level = AuditHandler(every_record=True), root.level
    before = swap_trail(trail)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        proxy.faults.extend(
            [proxy.status(503), proxy.status(401), proxy.drop, proxy.items(400, "mapper_parsing_exception", every=1)]
        )
        logging.getLogger("application").info("the only record of the application")
        structlog.wrap_logger(logging.getLogger("application"), [structlog.stdlib.render_to_log_kwargs]).info("another")
        assert trail.flush(30)
        assert trail.flush(30)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        swap_trail(before)
    assert trail.shutdown(5) == 0
    client.request("POST", f"/{prepared.stream}/_refresh")
    assert client.request("GET", f"/{prepared.stream}/_count")["count"] == 2
