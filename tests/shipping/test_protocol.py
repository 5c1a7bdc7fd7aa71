"""The protocol against an imagined cluster that rolls over, loses answers, refuses and fails whenever it likes."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.shipping.answer import Fate, Verdict
from audit_logging.shipping.protocol import Bury, LookUp, Pause, Quarantine, Refuse, Send, Split, deliver
from audit_logging.spool.segment import Record, Records


def event(sequence):
    document = {
        "@timestamp": "t",
        "audit": {"integrity": {"hash": f"{sequence:064x}", "sequence": sequence}, "schema": "1"},
        "event": {"id": f"e-{sequence}"},
    }
    return Record(sequence, orjson.dumps(document))


def hash_in(payload):
    return orjson.loads(payload)["audit"]["integrity"]["hash"]


FOREIGN = orjson.dumps({"audit": {"integrity": {"hash": "f" * 64}}})


class Cluster:
    """Stores by sequence in the last of its indices; what happens to each request is drawn."""

    def __init__(self, data, poison, deadly):
        self.data = data
        self.poison = poison
        self.deadly = deadly
        self.indices = [{}]
        self.steps = []
        self.refused = set()
        self.quarantined = {}
        self.buried = {}
        self.faults_left = 12
        self.blind = False

    def run(self, steps):
        result = None
        try:
            while True:
                step = steps.send(result)
                self.steps.append(step)
                result = self.take(step)
        except StopIteration:
            return self

    def take(self, step):
        match step:
            case Send(records):
                return self.send(records)
            case LookUp(records):
                return None if self.blind else self.look_up(records)
            case Refuse(reasons):
                self.refused |= reasons.keys()
            case Quarantine(reasons):
                self.quarantined |= reasons
            case Bury(record, reason):
                assert record.sequence not in self.buried
                self.buried[record.sequence] = (record, reason)
            case Pause(_, waiting):
                assert waiting > 0
                if self.draw(st.booleans()):
                    self.indices.append({})
        return None

    def look_up(self, records):
        return {
            record.sequence: hash_in(index[record.sequence])
            for record in records
            for index in self.indices
            if record.sequence in index
        }

    def draw(self, strategy):
        return self.data.draw(strategy)

    def copies(self, sequence):
        return sum(sequence in index for index in self.indices)

    def fault(self):
        if not self.faults_left or not self.draw(st.booleans()):
            return None
        self.faults_left -= 1
        return self.draw(st.sampled_from(["lost before", "lost after", "throttled", "too large"]))

    def send(self, records):
        assert records
        fault = self.fault()
        if fault == "too large":
            # One alone is the document's own fault, which this cluster knows as poison.
            return Verdict(Fate.REFUSED, "413") if len(records) > 1 else Verdict(Fate.RETRY, "busy")
        if fault == "throttled":
            return Verdict(Fate.RETRY, "429")
        if fault == "lost before":
            return Verdict(Fate.UNCERTAIN, "timeout")
        verdicts = {place: verdict for place, record in enumerate(records) if (verdict := self.store(record))}
        return Verdict(Fate.UNCERTAIN, "timeout") if fault == "lost after" else verdicts

    def store(self, record):
        is_stand_in = b'"quarantine"' in record.payload
        if is_stand_in:
            assert record.sequence in self.refused, "the stand-in was sent before the refusal was noted"
        if record.sequence in (self.deadly if is_stand_in else self.poison | self.deadly):
            return Verdict(Fate.REFUSED, "poison")
        fault = self.fault()
        if fault == "throttled":
            return Verdict(Fate.RETRY, "429")
        if fault == "lost before":
            return Verdict(Fate.UNCERTAIN, "503")
        if record.sequence in self.indices[-1]:
            return Verdict(Fate.CONFLICT, "409")
        self.indices[-1][record.sequence] = record.payload
        return Verdict(Fate.UNCERTAIN, "500") if fault == "lost after" else None


sequences = st.sets(st.integers(1, 8))


@given(st.data(), st.integers(1, 8), sequences, sequences, st.integers(0, 8))
def test_every_event_ends_where_it_belongs_exactly_once(data, count, poison, deadly, uncertain_to):
    """Whatever fails, in whatever order, with rollovers in between."""
    cluster = Cluster(data, poison, deadly)
    records = Records.of(event(sequence) for sequence in range(1, count + 1))
    before = data.draw(st.sets(st.integers(1, max(min(uncertain_to, count), 1)))) if uncertain_to else set()
    before -= poison | deadly
    for sequence in before:  # an earlier process stored it and died before it heard so; then the stream rolled over
        cluster.indices[-1][sequence] = records[sequence - 1].payload if sequence <= count else b""
    cluster.indices.append({})
    cluster.run(deliver(records, uncertain_to=uncertain_to))
    for record in records:
        sequence = record.sequence
        assert cluster.copies(sequence) == (0 if sequence in deadly else 1)
        assert (sequence in cluster.buried) == (sequence in deadly)
        assert (sequence in cluster.quarantined) == (sequence in poison - deadly)
        stored = next((index[sequence] for index in cluster.indices if sequence in index), b"")
        assert (b'"quarantine"' in stored) == (sequence in poison - deadly)
    assert all(record.payload == records[number - 1].payload for number, (record, _) in cluster.buried.items())


@given(st.data(), st.integers(1, 6), sequences, st.booleans())
def test_an_event_whose_id_another_document_has_is_kept(data, count, taken, blind):
    """Whatever fails meanwhile: it is a dead letter, and never taken for stored. Others are stored."""
    cluster = Cluster(data, set(), set())
    cluster.blind = blind
    cluster.faults_left = 0 if blind else 12
    records = Records.of(event(sequence) for sequence in range(1, count + 1))
    cluster.indices[-1].update(dict.fromkeys(taken, FOREIGN))
    cluster.run(deliver(records))
    expected = {record.sequence for record in records} & taken
    if len(cluster.indices) == 1:
        assert cluster.buried.keys() == expected
    assert all(
        cluster.indices[0].get(record.sequence) != record.payload for record in records if record.sequence in taken
    )
    for record in records:
        is_stored = any(index.get(record.sequence) == record.payload for index in cluster.indices)
        assert is_stored != (record.sequence in cluster.buried)


def test_what_cannot_be_looked_up_is_stored_where_it_was_sent_before():
    """A role that may only create: the answer was lost, and the id is taken now, as is to be expected."""
    steps = deliver(Records.of([event(1)]))
    assert isinstance(next(steps), Send)
    assert isinstance(steps.send(Verdict(Fate.UNCERTAIN, "timeout")), Pause)
    assert isinstance(steps.send(None), LookUp)
    assert isinstance(steps.send(None), Send)
    assert isinstance(steps.send({0: Verdict(Fate.CONFLICT, "409")}), LookUp)
    assert next_or_none(steps, None) is None


def test_what_was_stored_under_another_id_is_kept():
    steps = deliver(Records.of([event(1), event(2)]))
    next(steps)
    step = steps.send({1: Verdict(Fate.MISPLACED, "under another id")})
    assert isinstance(step, Bury)
    assert step.record.sequence == 2


def test_an_id_that_is_taken_by_what_nobody_finds_ends_as_a_dead_letter():
    steps = deliver(Records.of([event(1)]))
    step = next(steps)
    for _ in range(20):
        if isinstance(step, Bury):
            break
        result = (
            {0: Verdict(Fate.CONFLICT, "409")} if isinstance(step, Send) else {} if isinstance(step, LookUp) else None
        )
        step = steps.send(result)
    assert isinstance(step, Bury)


@given(st.data())
def test_a_refusal_that_a_crash_interrupted_is_carried_on(data):
    """The event's id may be the stand-in's by then: the event itself is not sent again."""
    records = Records.of([event(1), event(2)])
    cluster = Cluster(data, {2}, set())
    cluster.refused = {2}
    cluster.run(deliver(records, uncertain_to=2, refused={2: "why"}))
    assert cluster.quarantined == {2: "why"}
    sent = [record for step in cluster.steps if isinstance(step, Send) for record in step.records]
    assert all(b'"quarantine"' in record.payload for record in sent if record.sequence == 2)


def test_nothing_is_looked_up_while_nothing_is_uncertain():
    """The way of every day is one request."""
    steps = deliver(Records.of([event(1), event(2)]))
    step = next(steps)
    assert isinstance(step, Send)
    assert list(step.records) == [event(1), event(2)]
    assert next_or_none(steps, {}) is None


def test_what_is_too_large_is_halved():
    """In order, and all of it."""
    steps = deliver(Records.of(event(number) for number in range(1, 6)))
    next(steps)
    assert isinstance(steps.send(Verdict(Fate.REFUSED, "413")), Split)
    first = next(steps)
    second = steps.send({})
    assert [[record.sequence for record in step.records] for step in (first, second)] == [[1, 2], [3, 4, 5]]


def next_or_none(steps, result):
    try:
        return steps.send(result)
    except StopIteration:
        return None
