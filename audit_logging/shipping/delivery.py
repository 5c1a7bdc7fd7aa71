"""Deliver one batch, whatever it takes: takes the steps of the protocol against a real cluster and a real disk."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from audit_logging.errors import AuditError, CredentialsError, OpenSearchError
from audit_logging.shipping import protocol
from audit_logging.shipping.answer import ITEMS, Fate, Verdict, judge_each, judge_failure, judge_items
from audit_logging.shipping.backoff import Backoff
from audit_logging.shipping.batch import document_id, encode_batch
from audit_logging.shipping.stream import IDS_PER_REQUEST, NoStreamError, Stored
from audit_logging.spool.segment import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from audit_logging.opensearch.client import Client
    from audit_logging.shipping.dead_letters import DeadLetter, DeadLetters
    from audit_logging.shipping.notices import Notices
    from audit_logging.shipping.source import Batch, Source
    from audit_logging.shipping.stream import Stream
    from audit_logging.spool.segment import Record

MOST_SERVER_ERRORS = 5
"""How often one event may meet a server error while the server stores others; then the event is refused."""

_FAILURES = (OpenSearchError, OSError, ValueError)


class StoppedError(AuditError):
    """The shipper was told to stop before the batch was through."""


class Delivery:
    """Brings batches into one stream, one at a time.

    Args:
        client: The cluster.
        stream: The data stream.
        dead_letters: Where an event goes that is refused even in quarantine.
        notices: Where to say what goes wrong.
        wait: Waits that many seconds; true when the shipper is to stop.
        on_too_large: Called with the size in bytes of a request that the server found too large.
        on_dead_letter: Called when an event became one.
    """

    def __init__(
        self,
        client: Client,
        stream: Stream,
        dead_letters: DeadLetters,
        notices: Notices,
        *,
        wait: Callable[[float], bool],
        on_too_large: Callable[[int], None] = lambda _: None,
        on_dead_letter: Callable[[DeadLetter], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._stream = stream
        self._dead_letters = dead_letters
        self._notices = notices
        self._wait = wait
        self._on_too_large = on_too_large
        self._on_dead_letter = on_dead_letter
        self._backoff = Backoff()
        self._server_errors: dict[int, int] = {}

    def deliver(self, source: Source, batch: Batch) -> dict[int, str]:
        """Return when every record is in the stream, in quarantine or a dead letter.

        Returns:
            The sequences that were refused, with the reasons.

        Raises:
            StoppedError: The shipper is to stop; which records arrived is not known.
        """
        # A batch that comes here again, after a mistake of our own, may have been stored the first time.
        uncertain_to = batch.last if batch.is_sent else source.uncertain_to
        steps = protocol.deliver(batch.records, uncertain_to=uncertain_to, refused=source.refused)
        refused: dict[int, str] = {}
        result: Any = None
        self._server_errors.clear()
        try:
            while True:
                step = steps.send(result)
                if self._wait(0):  # whose spool it is now would not expect it in the journal
                    raise StoppedError("the shipper was stopped")
                result = self._take(step, source, batch)
                if isinstance(step, protocol.Refuse):
                    refused |= step.reasons
                elif isinstance(step, protocol.Bury):
                    refused[step.record.sequence] = step.reason
        except StopIteration:
            return refused

    def deliver_together(self, parcels: Sequence[tuple[Source, Batch]]) -> list[bool]:
        """Send batches of several writers in one request; each must be certain not to have been sent before.

        There is one attempt. What it does not see stored is left, as uncertain, to :meth:`deliver`, which looks first.

        Returns:
            Of each batch, whether every event of it is stored.

        Raises:
            StoppedError: The shipper is to stop; nothing was sent.
        """
        if self._wait(0):
            raise StoppedError("the shipper was stopped")
        ids = [document_id(source.writer, each) for source, batch in parcels for each in batch.records.sequences]
        try:
            self._stream.require()
            for source, batch in parcels:
                source.about_to_send(batch, self._stream.write_index)
            body = b"".join(encode_batch(batch.records, source.writer) for source, batch in parcels)
            verdicts = judge_each(self._post(body), ids, self._stream.name)
        except _FAILURES:
            self._stream.doubt()
            return [False] * len(parcels)
        stored = []
        start = 0
        for source, batch in parcels:
            end = start + len(batch.records)
            stored.append(not any(place in verdicts for place in range(start, end)))
            start = end
            if stored[-1]:
                self._stream.last_stored = Stored(source.writer, batch.records[0], self._stream.write_index)
        if any(stored):
            self._backoff.reset()
            self._notices.passed()
        return stored

    def _post(self, body: bytes) -> bytes:
        return self._client.request_bytes(
            "POST", f"/{self._stream.name}/_bulk", params={"filter_path": ITEMS}, body=body
        )

    def _take(self, step: protocol.Step, source: Source, batch: Batch) -> Any:
        """Take one step and return its result."""
        match step:
            case protocol.Send(records):
                return self._send(records, source, batch)
            case protocol.LookUp(records):
                return self._look_up(records, source.writer, batch.since)
            case protocol.Pause(verdict, waiting):
                self._pause(verdict.reason, waiting, asked_seconds=verdict.retry_after_seconds)
            case protocol.Split(records):
                self._on_too_large(len(encode_batch(records, source.writer)))
            case protocol.Refuse(reasons):
                self._insist(lambda: source.refusals.note("refused", reasons), len(reasons))
            case protocol.Quarantine(reasons):
                self._insist(lambda: source.refusals.note("quarantined", reasons), len(reasons))
                for sequence, reason in reasons.items():
                    self._notices.tell(
                        logging.ERROR,
                        f"quarantine {source.writer}",
                        f"OpenSearch refused event {source.writer}-{sequence}; it is in quarantine: {reason}",
                    )
            case protocol.Bury(record, reason):
                self._bury(record, reason, source)
        return None

    def _send(self, records: Records, source: Source, batch: Batch) -> dict[int, Verdict] | Verdict:
        try:
            self._stream.require()
        except OpenSearchError as error:
            self._notices.credentials_refused = isinstance(error, CredentialsError)
            self._notices.stream_missing = isinstance(error, NoStreamError)
            return Verdict(Fate.RETRY, str(error), getattr(error, "retry_after_seconds", None))
        source.about_to_send(batch, self._stream.write_index)
        try:
            answer = self._post(encode_batch(records, source.writer))
            verdicts = judge_items(
                answer, source.writer, records.sequences, self._stream.name, self._stream.write_index
            )
        except _FAILURES as error:
            self._stream.doubt()
            self._notices.credentials_refused = isinstance(error, CredentialsError)
            if isinstance(error, CredentialsError):
                self._notices.tell(logging.ERROR, "credentials", f"Audit events cannot be shipped: {error}")
            return judge_failure(error)
        if len(verdicts) < len(records):
            self._backoff.reset()
            self._notices.passed()
            place = next(place for place in reversed(range(len(records))) if place not in verdicts)
            self._stream.last_stored = Stored(source.writer, records[place], self._stream.write_index)
        if any(verdict.elsewhere for verdict in verdicts.values()):
            self._stream.doubt()  # it may have been deleted, and an ordinary index made in its place
            self._notices.stream_missing = True
        elif len(verdicts) == len(records):
            self._notices.credentials_refused = all(verdict.forbidden for verdict in verdicts.values())
        if any(verdict.fate is Fate.UNCERTAIN for verdict in verdicts.values()):
            return self._weigh(records, verdicts, is_working=len(verdicts) < len(records) or self._stores_others())
        return verdicts

    def _weigh(self, records: Records, verdicts: dict[int, Verdict], *, is_working: bool) -> dict[int, Verdict]:
        """Return the verdicts, with events refused that keep meeting server errors while the server stores others."""
        weighed = dict(verdicts)
        for place, verdict in verdicts.items():
            if verdict.fate is not Fate.UNCERTAIN or not is_working:
                continue
            sequence = records.sequences[place]
            count = self._server_errors[sequence] = self._server_errors.get(sequence, 0) + 1
            if count >= MOST_SERVER_ERRORS:
                del self._server_errors[sequence]  # its stand-in is counted from the start
                self._backoff.reset()
                reason = f"{verdict.reason} ({count} times, while other events were stored)"
                weighed[place] = Verdict(Fate.REFUSED, reason)
        return weighed

    def _stores_others(self) -> bool:
        """Return whether the server takes another event now: the one stored last, whose id must be taken.

        In an idle process no other request shows whether the server fails for one event or for all. Where the stream
        was rolled over since, the event would be stored once more, so it is not sent.
        """
        last = self._stream.last_stored
        if last is None:
            return False
        record = Records.of([last.record])
        try:
            self._stream.doubt()  # the request that failed may be the one that rolled it over
            self._stream.require()
            if last.write_index != self._stream.write_index:
                return False
            answer = self._post(encode_batch(record, last.writer))
            verdicts = judge_items(answer, last.writer, record.sequences, self._stream.name)
        except _FAILURES:
            return False
        return not verdicts or verdicts[0].fate is Fate.CONFLICT

    def _look_up(self, records: Records, writer: str, since: str | None) -> dict[int, str] | None:
        """Return the stored hashes by sequence. Each portion is insisted on alone, so that a slow server gets on."""
        sequences = {document_id(writer, sequence): sequence for sequence in records.sequences}
        ids = list(sequences)
        stored: dict[int, str] = {}
        for start in range(0, len(ids), IDS_PER_REQUEST):
            portion = ids[start : start + IDS_PER_REQUEST]
            found = self._insist(partial(self._stream.find, portion, since), len(ids) - start)
            if found is None:
                return None
            stored |= {sequences[name]: digest for name, digest in found.items()}
        return stored

    def _bury(self, record: Record, reason: str, source: Source) -> None:
        """Keep an event as a dead letter. The file first: the journal may say that it is there, and never wrongly."""
        letter = self._insist(lambda: self._dead_letters.keep(record, source.writer, reason), 1)
        self._insist(lambda: source.refusals.note("dead", {record.sequence: reason}), 1)
        self._notices.tell(
            logging.CRITICAL,
            f"dead letter {source.writer}",
            f"OpenSearch refused event {letter.id} even in quarantine; it is kept in"
            f" {self._dead_letters.file_of(letter.id)} (see `audit-logging spool dead list`): {reason}",
        )
        self._on_dead_letter(letter)

    def _insist(self, action: Callable[[], Any], waiting: int) -> Any:
        """Return what *action* returns as soon as it succeeds."""
        while True:
            try:
                return action()
            except (OpenSearchError, OSError) as error:
                self._pause(str(error), waiting, asked_seconds=getattr(error, "retry_after_seconds", None))

    def _pause(self, why: str, waiting: int, asked_seconds: float | None) -> None:
        """Wait before the next attempt, saying why.

        Raises:
            StoppedError: The shipper is to stop.
        """
        delay = self._backoff.next(asked_seconds)
        self._notices.last_problem = why
        self._notices.tell(
            logging.WARNING,
            f"waiting {_cause(why)}",
            f"{waiting} audit events wait in the spool (attempt {self._backoff.attempts}): {why}",
        )
        if self._wait(delay):
            raise StoppedError("the shipper was stopped")


def _cause(why: str) -> str:
    """Return what stays the same when the same thing goes wrong again: no ids, addresses or counts."""
    return why.partition("(")[0].partition("[")[0][:80]
