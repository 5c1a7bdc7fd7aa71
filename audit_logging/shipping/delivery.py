"""Deliver one batch, whatever it takes: retries, splitting, quarantine, dead letters."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import orjson

from audit_logging.errors import AuditError, CredentialsError, NotFoundError, OpenSearchError, RefusedError
from audit_logging.shipping.backoff import Backoff
from audit_logging.shipping.batch import Fate, Verdict, encode_batch, judge_items, quarantine_document
from audit_logging.spool.segment import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from audit_logging.opensearch.client import Client
    from audit_logging.shipping.dead_letters import DeadLetters

TOO_LARGE, UNAUTHORIZED = 413, 401
_log = logging.getLogger("audit_logging")


class StoppedError(AuditError):
    """The shipper was told to stop before the batch was through."""


class NoStreamError(OpenSearchError):
    """The data stream does not exist."""

    def __init__(self, stream: str) -> None:
        super().__init__(f"{stream!r} is not set up as a stream; run `audit-logging setup`. Events wait in the spool.")


class Delivery:
    """Brings batches into one stream.

    Args:
        client: The cluster.
        stream: The data stream. It must exist: without it OpenSearch would make an ordinary index of that name.
        dead_letters: Where an event goes that is refused even in quarantine.
        wait: Waits that many seconds; true when the shipper is to stop.
    """

    def __init__(self, client: Client, stream: str, dead_letters: DeadLetters, wait: Callable[[float], bool]) -> None:
        self._client = client
        self._stream = stream
        self._dead_letters = dead_letters
        self._wait = wait
        self._backoff = Backoff()
        self._stream_seen = False

    def deliver(self, records: list[Record], writer: str) -> dict[int, str]:
        """Return when every record is in the stream, in quarantine or a dead letter.

        Returns:
            The sequences that were refused, with the reasons.

        Raises:
            StoppedError: The shipper is to stop; which records arrived is not known.
        """
        pending = records
        refused: dict[int, str] = {}
        while pending:
            try:
                verdicts = self._attempt(pending, writer)
            except (OpenSearchError, ValueError, OSError) as error:
                if isinstance(error, RefusedError) and error.status == TOO_LARGE and len(pending) > 1:
                    half = len(pending) // 2
                    refused |= self.deliver(pending[:half], writer)
                    pending = pending[half:]
                    continue
                self._pause(error, len(pending))
                continue
            refused |= self._set_aside_refused(pending, verdicts, writer)
            pending = self._settle(pending, verdicts)
        return refused

    def _attempt(self, records: list[Record], writer: str) -> list[Verdict]:
        self._require_stream()
        try:
            answer = self._client.request(
                "POST",
                f"/{self._stream}/_bulk",
                params={"filter_path": "items.*.status,items.*.error"},
                body=encode_batch(records, writer),
            )
        except RefusedError as error:
            if error.status == TOO_LARGE and len(records) == 1:
                return [Verdict(Fate.REFUSED, str(error))]
            raise
        return judge_items(answer, len(records))

    def _require_stream(self) -> None:
        if self._stream_seen:
            return
        try:
            # An ordinary index of that name is no error here, and no stream either.
            if not self._client.request("GET", f"/_data_stream/{self._stream}")["data_streams"]:
                raise NoStreamError(self._stream)
        except NotFoundError as error:
            raise NoStreamError(self._stream) from error
        except CredentialsError as error:
            if error.status == UNAUTHORIZED:
                raise
            # A writer's role need not be allowed to look; what it may not write, the bulk request will say.
        self._stream_seen = True

    def _set_aside_refused(self, records: list[Record], verdicts: list[Verdict], writer: str) -> dict[int, str]:
        refused = {}
        for record, verdict in zip(records, verdicts, strict=True):
            if verdict.fate is Fate.REFUSED:
                self._set_aside(record, writer, verdict.reason)
                refused[record.sequence] = verdict.reason
        return refused

    def _settle(self, records: list[Record], verdicts: list[Verdict]) -> list[Record]:
        """Return the records that are to be tried again, after a pause where there are any."""
        again = [
            (record, verdict) for record, verdict in zip(records, verdicts, strict=True) if verdict.fate is Fate.RETRY
        ]
        if len(again) < len(records):
            self._backoff.reset()
        if again:
            self._pause(again[-1][1].reason, len(again))
        return [record for record, _ in again]

    def _set_aside(self, record: Record, writer: str, reason: str) -> None:
        """Quarantine a refused event, or keep it as a dead letter when even that is refused."""
        try:
            stand_in = Record(record.sequence, quarantine_document(record, reason))
        except (KeyError, TypeError, orjson.JSONDecodeError) as error:
            reason = f"no audit event ({error}) ← {reason}"
        else:
            while True:
                try:
                    verdict = self._attempt([stand_in], writer)[0]
                except (OpenSearchError, ValueError) as error:
                    self._pause(error, 1)
                    continue
                if verdict.fate is Fate.ACKNOWLEDGED:
                    _log.error(
                        "OpenSearch refused event %s-%d; it is in quarantine: %s", writer, record.sequence, reason
                    )
                    return
                if verdict.fate is Fate.REFUSED:
                    reason = f"{reason} ← in quarantine: {verdict.reason}"
                    break
                self._pause(verdict.reason, 1)
        path = self._dead_letters.keep(record, writer, reason)
        _log.critical("OpenSearch refused event %s-%d; it is kept in %s: %s", writer, record.sequence, path, reason)

    def _pause(self, why: object, waiting: int) -> None:
        """Wait before the next attempt, saying why when it is new or lasts.

        Raises:
            StoppedError: The shipper is to stop.
        """
        delay = self._backoff.next()
        if self._backoff.attempts & (self._backoff.attempts - 1) == 0:  # 1, 2, 4, 8 …: often at first, then seldom
            _log.warning("%d audit events wait in the spool (attempt %d): %s", waiting, self._backoff.attempts, why)
        if self._wait(delay):
            raise StoppedError("the shipper was stopped")
