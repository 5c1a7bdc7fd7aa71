"""What is sent, without any I/O."""

import random

import orjson
import pytest

from audit_logging.integrity.stand_in import stand_in
from audit_logging.shipping.backoff import LONGEST_ASKED_SECONDS, LONGEST_SECONDS, Backoff
from audit_logging.shipping.batch import encode_batch
from audit_logging.spool.segment import Records


def test_a_batch_only_creates_with_ids_from_the_seal():
    """Two lines a record; a retry meets its own id; what is in a document is not looked at."""
    body = encode_batch(Records([7, 8], [b'{"a":1}', b'{"b":"%d"}']), "w")
    assert body == b'{"create":{"_id":"w-7"}}\n{"a":1}\n{"create":{"_id":"w-8"}}\n{"b":"%d"}\n'


def test_quarantine_keeps_the_seal_and_the_document_verbatim():
    """The chain still verifies over what was refused."""
    payload = b'{"@timestamp":"t","audit":{"integrity":{"hash":"h"},"schema":"1"},"event":{"id":"e"},"x":1}'
    made = orjson.loads(stand_in(payload, "why"))
    assert made["audit"]["integrity"] == {"hash": "h"}
    assert made["audit"]["quarantine"] == {"document": payload.decode(), "reason": "why"}
    assert made["event"]["id"] == "e"


@pytest.mark.parametrize("payload", [b"{}", b"[]", b"no json", b'{"@timestamp":"t","audit":{"schema":"1"}}', b"\xff"])
def test_what_is_no_event_has_no_stand_in(payload):
    """There is no seal to keep."""
    with pytest.raises(ValueError):
        stand_in(payload, "why")


def test_delays_grow_to_a_limit_and_begin_anew():
    """Full jitter under an exponential ceiling."""
    backoff = Backoff()
    delays = [backoff.next() for _ in range(60)]
    assert all(0 <= delay <= min(0.25 * 2**index, LONGEST_SECONDS) for index, delay in enumerate(delays))
    backoff.reset()
    assert backoff.next() <= 0.25


def test_the_applications_random_numbers_are_left_alone():
    """One that seeds them gets the same ones, whatever is shipped meanwhile; and its seed is no say in the delays."""
    before = random.getstate()
    Backoff().next()
    assert random.getstate() == before


def test_what_the_server_asks_for_is_waited_but_not_for_ever():
    """The jitter comes on top, so that not all come back in the same second."""
    backoff = Backoff()
    assert 7 <= backoff.next(7.0) <= 7.25
    assert LONGEST_ASKED_SECONDS <= backoff.next(1e9) <= LONGEST_ASKED_SECONDS + 0.5
