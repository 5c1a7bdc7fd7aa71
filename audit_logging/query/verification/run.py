"""Verification of the trail: what was edited, deleted, inserted, reordered, cut off or forged, by name.

Source of the rules: ``docs/integrity.md``.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, cast

from audit_logging.errors import FilterError, Keyword
from audit_logging.integrity.claims import RETENTION_APPLIED, parse_time
from audit_logging.integrity.finding import Note
from audit_logging.integrity.heads import Heads
from audit_logging.integrity.judgement import GRACE, View
from audit_logging.integrity.keys import TrustedKeys
from audit_logging.integrity.sealed_event import read_sealed_event
from audit_logging.integrity.verification import Verification
from audit_logging.query.access import live_stream
from audit_logging.query.dsl import query_of, timestamp
from audit_logging.query.filter import Filter
from audit_logging.query.questions import now
from audit_logging.query.verification.event import record_verification
from audit_logging.query.verification.indices import read_differences
from audit_logging.query.verification.report import VerifyReport
from audit_logging.query.verification.stored import StoredInFiles, StoredInStream
from audit_logging.query.verification.verified import Verified, load, read_shards, save
from audit_logging.spool.directory import SpoolDirectory
from audit_logging.spool.reader import SpoolReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from audit_logging.integrity.finding import Finding
    from audit_logging.query.requests import AheadRequests
    from audit_logging.query.verification.stored import Progress, Store
    from audit_logging.settings import Settings

MOST_LOOKED_UP: Final = 20_000
"""Places that are looked up one by one; a trail with more open questions is not waiting for its answers."""

PATIENCE_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.5
FRESH: Final = dt.timedelta(minutes=1)
"""How young a chain's last event is when a gap in it may be filling up at this moment."""

TIMES: Final = frozenset({"since", "until"})


def is_content_only(filter_: Filter) -> bool:
    """Return whether *filter_* has conditions beside times, so that a missing event means nothing."""
    return any(getattr(filter_, name) is not None for name in type(filter_).model_fields if name not in TIMES)


def verify_stream(
    requests: AheadRequests,
    settings: Settings,
    filter_: Filter,
    *,
    public_keys: Sequence[Path] = (),
    checkpoints: Sequence[Path] = (),
    from_last: bool = False,
    progress: Progress | None = None,
) -> VerifyReport:
    """Verify a stream; see :meth:`AuditReader.verify`."""
    if from_last and any(getattr(filter_, name) is not None for name in type(filter_).model_fields):
        raise FilterError(
            Keyword("from_last"), " goes on from where the last one ended: it takes no filter and no time range."
        )
    waiting = waiting_here(settings)
    known = [*kept_elsewhere(settings, checkpoints), *kept_here(settings, waiting)]
    # A restored archive is read under a name of its own, which begins with that of the stream it came from.
    streams = (settings.stream, live_stream(settings.stream))
    verifier = _Verifier(settings, filter_, trusted_keys(settings, public_keys), known, streams, waiting)
    if from_last:
        report = verifier.go_on(requests, progress)
    else:
        store = StoredInStream(requests, settings.stream, query_of(filter_), progress)
        report = verifier.run(store, verifier.begin())
    differences, notes = read_differences(requests.send, settings.stream, live_stream(settings.stream))
    report = replace(report, findings=(*differences, *report.findings), notes=(*report.notes, *notes))
    if settings.audit_verifications:
        record_verification(report, filter_, settings, from_last=from_last)
    return report


def verify_files(
    paths: Sequence[Path],
    settings: Settings,
    filter_: Filter,
    *,
    public_keys: Sequence[Path] = (),
    checkpoints: Sequence[Path] = (),
    progress: Progress | None = None,
) -> VerifyReport:
    """Verify exported NDJSON files, plain or gzip, without any server.

    Args:
        paths: The files; identical events in several of them count once.
        settings: Where the trusted keys lie, and the retention period.
        filter_: With absolute times, and no other conditions: give ``since`` where an export began late.
        public_keys: The keys to believe, instead of those beside the signing key.
        checkpoints: Files of signed events that were kept elsewhere.
        progress: Told now and then how many bytes are read.

    Raises:
        EventFileError: A file cannot be read.
        FilterError: More than a time range was asked for.
    """
    if is_content_only(filter_):
        raise FilterError("Exported files are verified as a whole or by time range: leave the other filters out.")
    keys = trusted_keys(settings, public_keys)
    verifier = _Verifier(settings, filter_, keys, kept_elsewhere(settings, checkpoints))
    return verifier.run(StoredInFiles(paths, filter_, progress), verifier.begin())


@dataclass(frozen=True)
class _Verifier:
    settings: Settings
    filter_: Filter
    keys: TrustedKeys
    known: Sequence[tuple[bytes, bool]]
    """Signed events that were kept elsewhere, and whether they must be in the trail by now."""
    streams: Sequence[str] = ()
    """The names that the stream goes by; none for files."""
    waiting: Mapping[str, int] = field(default_factory=dict)
    """Writers with a spool on this host, and the last number that is acknowledged of each."""

    def begin(self) -> Verification:
        return Verification(self.keys, content_only=is_content_only(self.filter_), streams=self.streams)

    def go_on(self, requests: AheadRequests, progress: Progress | None) -> VerifyReport:
        """Verify what is new; all, where what was verified does not stand any more."""
        shards = read_shards(requests.send, self.settings.stream)
        verified, why = load(self.settings)
        if verified is not None and not verified.stands(requests.send, shards):
            verified, why = None, "What was verified before has changed, or left since: verified from the begin."
        if verified is None:
            verified = Verified(self.settings.stream)
        verification = self.begin()
        verified.resume(verification)
        store = StoredInStream(requests, self.settings.stream, verified.new(), progress)
        report = self.run(store, verification)
        if report.ok:  # what was found shall be found again, until it is dealt with
            verified.move_on(verification, store.marks, shards)
            save(verified, self.settings)
        return replace(report, notes=(*report.notes, Note("from_begin", 0, why))) if why else report

    def run(self, store: Store, verification: Verification) -> VerifyReport:
        for doc_id, document in store.all():
            verification.add(document, doc_id)
        for document, arrived in self.known:
            verification.believe(document, arrived=arrived)
        content_only = is_content_only(self.filter_)
        if not content_only:
            self.look_up(store, verification)
            self._learn_periods(store, verification)
        verdict = verification.verdict(
            View(
                now=now() if store.knows_all else _newest(verification),
                retention=dt.timedelta(days=self.settings.retention_days),
                periods=sorted(verification.claims.periods),
                waiting=self.waiting,
                keys=bool(self.keys),
                from_start=self.filter_.since is None,
                to_end=self.filter_.until is None,
            )
        )
        return VerifyReport(
            **vars(replace(verdict, findings=tuple(_with_ids(store, verdict.findings)))),
            keys=self.keys.ids,
            scope="content" if content_only else "chain",
            since=cast("dt.datetime | None", self.filter_.since),
            until=cast("dt.datetime | None", self.filter_.until),
            at=now(),
        )

    def look_up(self, store: Store, verification: Verification) -> None:
        """Look for what one pass left open, in the trail as it is by now."""
        from_start = self.filter_.since is None
        self._fill_up(store, verification, from_start=from_start)
        if store.knows_all and not from_start:
            beginnings = verification.beginnings()[:MOST_LOOKED_UP]
            for doc_id, document in store.under(beginnings):
                verification.include(document, doc_id)
            verification.miss({writer for writer, _ in set(beginnings) & set(verification.beginnings())})
        doubles = verification.doubles()[:MOST_LOOKED_UP]
        followers = [(writer, sequence + 1) for writer, sequence in doubles]
        verification.settle(document for _, document in store.under([*doubles, *followers]))
        heads = verification.heads()
        for start in range(0, len(heads), MOST_LOOKED_UP):
            verification.compare(document for _, document in store.under(heads[start : start + MOST_LOOKED_UP]))

    def _learn_periods(self, store: Store, verification: Verification) -> None:
        """Look up by which periods what is missing may have left: they may have been recorded at any time."""
        if verification.claims.departed:
            for _, document in store.of_type(RETENTION_APPLIED):
                verification.learn(document)

    def _fill_up(self, store: Store, verification: Verification, *, from_start: bool) -> None:
        """Look up what is missing, and again for a while where it may arrive at this moment.

        Batches under way at a time may become visible in any order, and what is acknowledged is visible a second later.
        What is found may tell of more.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while missing := verification.missing(from_start=from_start)[:MOST_LOOKED_UP]:
            for doc_id, document in store.within(missing):
                verification.include(document, doc_id)
            left = verification.missing(from_start=from_start)
            if left[:MOST_LOOKED_UP] != missing:
                continue
            fresh = timestamp(now() - FRESH)
            hopeful = store.knows_all and any(
                verification.is_recent(writer, fresh) and first <= self.waiting.get(writer, first)
                for writer, first, _ in left
            )
            if not hopeful or time.monotonic() > deadline:
                return
            time.sleep(POLL_SECONDS)


def trusted_keys(settings: Settings, public_keys: Sequence[Path]) -> TrustedKeys:
    """Return the keys to believe: those given, else all that lie beside the signing key."""
    return TrustedKeys.load(public_keys) if public_keys else TrustedKeys.beside(settings.signing_key_path)


def kept_elsewhere(settings: Settings, files: Sequence[Path]) -> list[tuple[bytes, bool]]:
    """Return the signed events of *files*, or of the setting's file, and whether each has had the time to arrive.

    Raises:
        EventFileError: A file cannot be read.
    """
    own = settings.checkpoint_file
    if not files and own is not None and own.exists():
        files = [own]
    latest = timestamp(now() - GRACE)
    everything = StoredInFiles(files, Filter())
    return [(document, _time_of(document) < latest) for _, document in everything.all()]


def waiting_here(settings: Settings) -> dict[str, int]:
    """Return the writers that have a spool on this host, and the last number that is acknowledged of each."""
    spool = SpoolDirectory(settings.spool_path, settings.stream)
    try:
        return {path.name: SpoolReader(path).acknowledged for path in spool.writers()}
    except OSError:  # an auditor need not be the application's user
        return {}


def kept_here(settings: Settings, waiting: Mapping[str, int]) -> list[tuple[bytes, bool]]:
    """Return the heads of this host's spool directory, and whether all that they speak of was acknowledged."""
    heads = Heads(settings.spool_path, settings.stream)
    return [(head.document, waiting.get(head.writer, head.sequence) >= head.sequence) for head in heads]


def _newest(verification: Verification) -> dt.datetime:
    """Return the time of the newest event, and no time that has not come yet."""
    times = (parse_time(chain.time) for chain, _ in verification.progress())
    return min(max((time for time in times if time is not None), default=now()), now())


def _with_ids(store: Store, findings: Sequence[Finding]) -> Iterable[Finding]:
    """Give findings the ids of the events that they name, where there are such."""
    nameless = [(each.writer, each.sequence) for each in findings if each.writer and not each.event_id]
    ids: dict[tuple[str, int], str] = {}
    for _, document in store.under(nameless[:MOST_LOOKED_UP]):
        event = read_sealed_event(document)
        if event is not None:
            ids[event.writer, event.sequence] = event.event_id
    return [
        each if each.event_id else replace(each, event_id=ids.get((each.writer, each.sequence), ""))
        for each in findings
    ]


def _time_of(document: bytes) -> str:
    event = read_sealed_event(document)
    return "" if event is None else event.time
