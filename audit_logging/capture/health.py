"""How this process's end of the trail is, for a readiness probe: from memory and a few looks at the disk."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from audit_logging.errors import AuditError
from audit_logging.interrupts import is_interrupt
from audit_logging.shipping.concern import LONG_SECONDS, NEARLY_FULL, count_of
from audit_logging.shipping.dead_letters import DeadLetters
from audit_logging.spool.damage import DamagedBytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from audit_logging.capture.custody import Custody
    from audit_logging.capture.writer import Writer
    from audit_logging.settings import Settings
    from audit_logging.shipping.shipper import Shipper

Status = Literal["ok", "degraded", "failing"]
Kind = Literal[
    "disk",
    "spool removed",
    "full",
    "nearly full",
    "lost",
    "stuck",
    "credentials",
    "stream",
    "shipper stopped",
    "signing",
    "dead letters",
    "damage",
]

FULL: Final = 0.95
"""From what part of its limit on a spool counts as full."""

LEAST_FREE_BYTES: Final = 1 << 20
"""Room on the disk below which the next event may not fit."""

_FAILING: Final = frozenset({"disk", "spool removed", "full", "shipper stopped"})


@dataclass(frozen=True)
class Ailment:
    """Something that is not as it should be.

    Attributes:
        kind: ``disk`` (it is full, or may not be read or written), ``spool removed`` (now, or within the last minute),
            ``full`` and ``nearly full`` (the spool), ``lost`` (events of this process that were removed with it),
            ``stuck`` (events wait for over a minute and none is acknowledged), ``credentials`` (OpenSearch refuses
            them), ``stream`` (it was not set up, or was deleted), ``shipper stopped`` (none of its threads works, or
            the spool cannot be read), ``signing`` (checkpoints fail, or the key file is missing), ``dead letters``,
            ``damage`` (bytes in the spool that are no whole events).
        sentence: What it is.
    """

    kind: Kind
    sentence: str


@dataclass(frozen=True)
class Health:
    """How this process's end of the trail is.

    Attributes:
        status: ``ok``; ``degraded``: events are safe, and somebody should look; ``failing``: an emit call raises now,
            or soon will.
        reasons: Why it is not ``ok``.
        waiting: How many events of this process are not acknowledged yet.

    Example:
        >>> Health("degraded", (Ailment("dead letters", "OpenSearch refused 1 event."),), 0).is_ready
        True
    """

    status: Status
    reasons: tuple[Ailment, ...] = ()
    waiting: int = 0

    @property
    def is_ready(self) -> bool:
        """Whether events can be taken; a process that is merely degraded should go on serving."""
        return self.status != "failing"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


class HealthProbe:
    """Examines one trail again and again, and remembers what it need not read twice.

    Args:
        settings: Those of the trail.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._oldest = (-1, 0.0)

    def examine(
        self,
        writer: Writer,
        shipper: Shipper | None,
        *,
        shipping_problem: str = "",
        signing_problem: str = "",
        why_unsigned: str = "",
    ) -> Health:
        """Return how it is now. Never raises: a look at the disk that fails is an ailment itself."""
        acknowledged = writer.acknowledged
        waiting = writer.waiting
        writer.pace.note(acknowledged, writer.sequence)
        looks: tuple[Iterable[Ailment], ...] = (
            _disk(writer.directory.path),
            _custody(writer.custody),
            self._room(writer, waiting),
            self._pace(writer, acknowledged, waiting, shipper),
            _shipping(shipper, shipping_problem),
            self._signing(signing_problem, why_unsigned),
            _set_aside(writer.directory.dead_letters),
        )
        reasons = tuple(ailment for look in looks for ailment in _without_errors(look))
        kinds = {reason.kind for reason in reasons}
        status: Status = "failing" if kinds & _FAILING else "degraded" if reasons else "ok"
        return Health(status, reasons, waiting)

    def _room(self, writer: Writer, waiting: int) -> Iterator[Ailment]:
        if writer.reader is None or not waiting:
            return
        part = writer.reader.bytes_kept() / self._settings.spool_max_bytes
        if part >= NEARLY_FULL:
            kind: Kind = "full" if part >= FULL else "nearly full"
            yield Ailment(kind, f"The spool is {part:.0%} full; at its limit emit calls wait, and then raise.")

    def _pace(self, writer: Writer, acknowledged: int, waiting: int, shipper: Shipper | None) -> Iterator[Ailment]:
        if writer.reader is None or not waiting or writer.pace.longest_seconds < LONG_SECONDS:
            return
        try:
            waited = writer.pace.seconds_since(self._oldest_waiting(writer.directory.path / writer.id, acknowledged))
        except FileNotFoundError:  # everything was acknowledged just now
            return
        if waited >= LONG_SECONDS:
            problem = shipper.notices.last_problem if shipper is not None else ""
            why = problem or ("no opensearch_url is set." if not self._settings.opensearch_url else "nothing answers.")
            yield Ailment(
                "stuck", f"{count_of(waiting, 'event')} not acknowledged, the oldest for {waited:.0f} s: {why}"
            )

    def _signing(self, problem: str, why_unsigned: str) -> Iterator[Ailment]:
        if problem:
            yield Ailment("signing", f"Checkpoints cannot be written or kept: {problem}.")
        if why_unsigned:
            yield Ailment("signing", f"Nothing is signed: {why_unsigned}")
        elif self._settings.signs and not _is_there(self._settings.signing_key_path):
            yield Ailment(
                "signing",
                f"The signing key {self._settings.signing_key_path} is missing. This process still signs with it; the"
                " next one would make another key, which `verify` does not trust. Restore the file.",
            )

    def _oldest_waiting(self, directory: Path, acknowledged: int) -> float:
        """Return when the oldest event that waits was written; read once, as long as nothing moves."""
        if self._oldest[0] != acknowledged:
            from audit_logging.shipping.accounts import written_at
            from audit_logging.spool.stock import take_stock

            since = written_at(take_stock(directory, quick=True))
            self._oldest = (acknowledged, time.time() if since is None else since)
        return self._oldest[1]


def _set_aside(dead_letters: Path) -> Iterator[Ailment]:
    if dead := len(DeadLetters(dead_letters, "").ids()):
        sentence = f"OpenSearch refused {count_of(dead, 'event')} even in quarantine."
        yield Ailment("dead letters", f"{sentence} `audit-logging spool dead list` says why.")
    if damaged := len(DamagedBytes(dead_letters).ids()):
        sentence = f"The spool was damaged in {count_of(damaged, 'place')}."
        yield Ailment("damage", f"{sentence} `audit-logging spool dead list` says which events are missing.")


def _shipping(shipper: Shipper | None, problem: str) -> Iterator[Ailment]:
    if found := problem or (shipper.problem if shipper is not None else ""):
        yield Ailment("shipper stopped", f"The shipper does not run: {found}. Events stay in the spool.")
    elif shipper is not None and shipper.batch_problem:
        yield Ailment("stuck", f"A batch of events cannot be delivered: {shipper.batch_problem}. It is retried.")
    if shipper is not None and shipper.notices.credentials_refused:
        yield Ailment("credentials", f"OpenSearch refuses the credentials: {shipper.notices.last_problem}")
    if shipper is not None and shipper.notices.stream_missing:
        yield Ailment("stream", f"OpenSearch has no such stream: {shipper.notices.last_problem}")


def _custody(custody: Custody) -> Iterator[Ailment]:
    if custody.problem:
        yield Ailment("spool removed", custody.problem)
    if custody.lost:
        sentence = f"{count_of(custody.lost, 'event')} of this process cannot be restored: the spool was removed."
        yield Ailment("lost", sentence)


def _disk(spool: Path) -> Iterator[Ailment]:
    place = next(path for path in (spool, *spool.absolute().parents) if _is_there(path))
    if not os.access(place, os.W_OK | os.X_OK):
        yield Ailment("disk", f"{place} cannot be written by this user.")
        return
    free = os.statvfs(place)
    if free.f_bavail * free.f_frsize < LEAST_FREE_BYTES:
        yield Ailment("disk", f"The disk of {place} is full.")


def _without_errors(look: Iterable[Ailment]) -> Iterator[Ailment]:
    """Yield what a look finds; where it fails, that."""
    try:
        yield from look
    except (OSError, AuditError) as error:
        if is_interrupt(error):
            raise
        place = getattr(error, "filename", None) or "The spool"
        yield Ailment("disk", f"{place} cannot be examined: {getattr(error, 'strerror', None) or error}.")


def _is_there(path: Path) -> bool:
    """Whether there is something at *path*. Unlike ``Path.exists``, it tells "no" from "cannot be found out".

    Raises:
        OSError: That cannot be found out, such as where a parent directory may not be entered.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
