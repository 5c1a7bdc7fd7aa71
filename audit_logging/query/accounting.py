"""The doctor's check of the accounts: whether everything is somewhere, and the stream holds what was acknowledged."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any, Final

from audit_logging.errors import AuditError, SettingsError
from audit_logging.opensearch.check import Check, Verdict
from audit_logging.opensearch.connected import Closing
from audit_logging.query.connection import Connection
from audit_logging.query.copies import SEQUENCE, WRITER, total_and_copies
from audit_logging.query.dsl import all_of
from audit_logging.query.exchange import run, search_request
from audit_logging.shipping.accounts import take_accounts
from audit_logging.shipping.concern import concerns, count_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.query.exchange import Steps
    from audit_logging.settings import Settings
    from audit_logging.shipping.accounts import Accounts, WriterAccount

MOST_WRITERS: Final = 100
"""How many writers are compared with the stream, those that were closed last before others."""

REFRESH_SECONDS: Final = 3.0
"""How long to wait for what was acknowledged to be found: it can be searched after the stream's next refresh."""

_POLL_SECONDS: Final = 0.3
_HARMLESS: Final = frozenset({"abandoned", "clock", "dead letters"})
"""Concerns that break no promise."""


def check_accounts(settings: Settings, *, ask: bool = True) -> Iterator[Check]:
    """Yield what is to be said of the spool's accounts, and of the stream beside them.

    Args:
        settings: The spool, the server and the stream.
        ask: Whether OpenSearch answers at all.
    """
    try:
        accounts = take_accounts(settings.spool_path)
    except AuditError as error:
        yield Check("accounts", "problem", str(error))
        return
    yield from _balance(accounts, settings)
    if ask:
        yield _stream(accounts, settings)


def _balance(accounts: Accounts, settings: Settings) -> Iterator[Check]:
    found = list(concerns(accounts, settings.spool_max_bytes))
    for concern in found:
        verdict: Verdict = "warning" if concern.kind in _HARMLESS else "problem"
        yield Check("accounts", verdict, concern.sentence, concern.remedy)
    if not found:
        total = accounts.total
        yield Check(
            "accounts",
            "ok",
            f"Of {count_of(total.emitted, 'event')} of this spool {total.indexed:,} are indexed, {total.in_spool:,} in"
            f" the spool, {total.quarantined:,} quarantined, {total.dead:,} dead; none is lost.",
        )


def _stream(accounts: Accounts, settings: Settings) -> Check:
    name = "acknowledged events"
    written = [account for account in (*accounts.writers, *accounts.closed[::-1]) if account.writer]
    mine = [account for account in written if account.stream == settings.stream and account.acknowledged]
    if not mine:
        return Check(name, "skipped", "Nothing of this spool was acknowledged yet.")
    try:
        holdings = _Holdings(settings=settings)
    except SettingsError as error:
        return Check(name, "skipped", str(error))
    try:
        return holdings.compare(mine[:MOST_WRITERS])
    except AuditError as error:  # such as a role that may not search
        return Check(name, "skipped", str(error))
    finally:
        holdings.close()


class _Holdings(Connection, Closing):
    """What the stream holds of a writer's events."""

    def compare(self, accounts: list[WriterAccount]) -> Check:
        """Compare what the stream holds with what it acknowledged, once what came last can be found."""
        kept_since = self._kept_since()
        deadline = time.monotonic() + REFRESH_SECONDS
        missing: dict[str, tuple[int, int]] = {}
        for account in accounts:
            while (found := self._missing(account, kept_since)) is not None and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
            if found is not None:
                missing[account.writer] = found
        name, writers = "acknowledged events", count_of(len(accounts), "writer")
        if not missing:
            return Check(name, "ok", f"The stream holds every event of {writers} that it should.")
        sentences = [
            f"{count_of(count, 'acknowledged event')} of writer {writer} not found, the first is {writer}-{first}"
            for writer, (count, first) in missing.items()
        ]
        return Check(
            name,
            "problem",
            f"{self._stream!r} lacks what OpenSearch has acknowledged: {'; '.join(sentences)}.",
            "If these credentials may see everything, events were deleted: `audit-logging verify` names every gap;"
            " a snapshot or an archive of the stream has what was in it. A local server that was taken down took its"
            " events with it.",
        )

    def _missing(self, account: WriterAccount, kept_since: dt.datetime | None) -> tuple[int, int] | None:
        """Return how many of a writer's events are not there, and the first; None when none is missing.

        Retention removes whole backing indices, the oldest first. So where it may have removed some, those before the
        first that is there do not count.
        """
        first = 1
        if kept_since is not None and not (account.born_at is not None and account.born_at > kept_since):
            lowest = run(_lowest(self._stream, account.writer), self._send)
            if lowest is None:  # all of it left; but what was acknowledged last cannot have, if that was since then
                was_after = account.acknowledged_at is not None and account.acknowledged_at > kept_since
                return (1, account.acknowledged) if was_after else None
            first = lowest
        count = self._gaps(account, first, account.acknowledged)
        return (count, self._first_gap(account, first, account.acknowledged)) if count > 0 else None

    def _first_gap(self, account: WriterAccount, first: int, last: int) -> int:
        """Return the first sequence that is missing, by halves."""
        while first < last:
            middle = (first + last) // 2
            if self._gaps(account, first, middle) > 0:
                last = middle
            else:
                first = middle + 1
        return first

    def _gaps(self, account: WriterAccount, first: int, last: int) -> int:
        expected = last - first + 1 - sum(first <= sequence <= last for sequence in account.dead_sequences)
        return expected - run(_count(self._stream, account.writer, first, last), self._send)

    def _kept_since(self) -> dt.datetime | None:
        """Return since when the oldest backing index is there; None when none has ever left.

        OpenSearch numbers the backing indices of a stream from 1.
        """
        answer = self._client.request("GET", f"/_data_stream/{self._stream}")
        oldest = answer["data_streams"][0]["indices"][0]["index_name"]
        if oldest.endswith("-000001"):
            return None
        settings = self._client.request("GET", f"/{oldest}/_settings/index.creation_date")
        created = int(settings[oldest]["settings"]["index"]["creation_date"])
        return dt.datetime.fromtimestamp(created / 1000, dt.timezone.utc)


def _count(stream: str, writer: str, first: int, last: int) -> Steps[int]:
    query = all_of([{"term": {WRITER: writer}}, {"range": {SEQUENCE: {"gte": first, "lte": last}}}])
    answer = yield search_request(stream, {"query": query, "size": 0, "track_total_hits": True})
    total, _ = yield from total_and_copies(stream, query, answer)
    return total


def _lowest(stream: str, writer: str) -> Steps[int | None]:
    body: dict[str, Any] = {
        "query": {"term": {WRITER: writer}},
        "size": 0,
        "aggs": {"lowest": {"min": {"field": SEQUENCE}}},
    }
    answer = yield search_request(stream, body)
    lowest = answer["aggregations"]["lowest"]["value"]
    return None if lowest is None else int(lowest)
