"""The accounts of a spool directory: what became of every event that was ever written there, by writer.

    emitted = indexed + in the spool + quarantined + dead

Everything is derived from what stands on the disk: the sequences in the segments, the cursor, the journal of refusals,
the dead letters and the closed writers. So it holds after any crash, for living and for dead writers, and whoever
looks holds up nobody. What cannot be found in any of these places is lost, and named.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import socket
from collections import defaultdict
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from audit_logging.errors import SettingsError
from audit_logging.shipping.dead_letters import DeadLetters
from audit_logging.spool.closed import ClosedWriters
from audit_logging.spool.damage import DamagedBytes
from audit_logging.spool.directory import LOCK, SpoolDirectory
from audit_logging.spool.lock import is_locked
from audit_logging.spool.stock import STREAM, take_stock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from audit_logging.spool.closed import ClosedWriter
    from audit_logging.spool.damage import Damage
    from audit_logging.spool.stock import Stock

State = Literal["alive", "adopted", "dead", "closed"]


@dataclass(frozen=True)
class Balance:
    """Where events are, each counted in one place.

    Attributes:
        emitted: How many were written, by the sequences.
        indexed: In the stream, acknowledged by OpenSearch.
        in_spool: Waiting on the disk.
        quarantined: In the stream as text, because OpenSearch refused them.
        dead: Kept as dead letters, because it refused even that.
        lost: In none of these places: the disk was damaged, or somebody deleted them.
    """

    emitted: int = 0
    indexed: int = 0
    in_spool: int = 0
    quarantined: int = 0
    dead: int = 0
    lost: int = 0

    def __add__(self, other: Balance) -> Balance:
        return Balance(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Balance)))


@dataclass(frozen=True)
class WriterAccount:
    """One writer's account.

    Attributes:
        writer: Its id; empty for many closed writers that are summed up.
        stream: The data stream of its events.
        state: ``alive``: its process runs. ``adopted``: it died, and another ships what it left. ``dead``: it died,
            and nobody ships. ``closed``: everything was acknowledged, and its directory is gone.
        balance: Where its events are.
        acknowledged: Its last sequence that OpenSearch has acknowledged.
        acknowledged_at: When that was; None when it never was.
        waiting_bytes: The size of what waits in the spool, without what the segments hold besides.
        kept_bytes: The size of its segments, which counts against ``spool_max_bytes``.
        waiting_since: When the oldest event that waits was written; None when nothing waits.
        service: The service whose events these are; like the next two, None when no event can be read.
        host: The host it runs on.
        pid: Its process there.
        trouble: Why not everything can be read; empty when it can.
        writers: How many writers this is the account of.
        born_at: When its directory was made; None of a closed one.
        dead_sequences: Which of its events are dead letters.
    """

    writer: str
    stream: str
    state: State
    balance: Balance
    acknowledged: int
    acknowledged_at: dt.datetime | None = None
    waiting_bytes: int = 0
    kept_bytes: int = 0
    waiting_since: dt.datetime | None = None
    service: str | None = None
    host: str | None = None
    pid: int | None = None
    trouble: str = ""
    writers: int = 1
    born_at: dt.datetime | None = None
    dead_sequences: tuple[int, ...] = ()

    @property
    def balanced(self) -> bool:
        """Whether every event that was emitted is somewhere."""
        return not self.balance.lost and not self.trouble


@dataclass(frozen=True)
class Accounts:
    """The accounts of one spool directory at one moment.

    Attributes:
        spool_dir: The spool directory.
        writers: Those that have a directory there, by id.
        closed: Those whose directories are gone: one by one the recent ones, and the older summed up by stream.
        damaged: Places where segments were damaged; what was there is kept beside the dead letters.
    """

    spool_dir: Path
    writers: tuple[WriterAccount, ...]
    closed: tuple[WriterAccount, ...]
    damaged: tuple[Damage, ...] = ()

    @property
    def total(self) -> Balance:
        """Where all events are."""
        return sum((account.balance for account in (*self.writers, *self.closed)), Balance())

    @property
    def balanced(self) -> bool:
        """Whether ``emitted = indexed + in_spool + quarantined + dead`` holds for every writer."""
        return all(account.balanced for account in (*self.writers, *self.closed))

    def to_dict(self) -> dict[str, Any]:
        """Return the accounts as plain JSON values."""
        plain: dict[str, Any] = orjson.loads(orjson.dumps(asdict(self), default=str))
        damaged = [damage._asdict() for damage in self.damaged]
        return {**plain, "total": asdict(self.total), "balanced": self.balanced, "damaged": damaged}


def take_accounts(spool_dir: Path, *, quick: bool = False) -> Accounts:
    """Return the accounts of a spool directory.

    Args:
        spool_dir: The spool directory; one that is not there has empty accounts.
        quick: Read no more than two segments of each writer: damage in the others stays unknown. Without it
            everything that waits is read.

    Raises:
        SettingsError: The spool cannot be read, for example by this user.
        DamageError: What was kept of damaged bytes cannot be read.

    Example:
        >>> take_accounts(Path("/nowhere")).balanced
        True
    """
    try:
        return _take_accounts(spool_dir, quick=quick)
    except OSError as error:
        raise _unreadable(Path(error.filename or spool_dir), error) from error


def _take_accounts(spool_dir: Path, *, quick: bool) -> Accounts:
    directory = SpoolDirectory(spool_dir)
    with contextlib.suppress(FileNotFoundError):
        spool_dir.stat()
        if not os.access(spool_dir, os.R_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(spool_dir))
    stocks: dict[Path, Stock] = {}
    for path in directory.writers():
        try:
            stocks[path] = take_stock(path, quick=quick)
        except FileNotFoundError:  # gone meanwhile: it is among the closed ones now
            continue
    letters = _Letters(directory.dead_letters)
    # Read last: a writer that was closed meanwhile is here, and where it was counted above it does not count again.
    closed = [each for each in ClosedWriters(spool_dir) if spool_dir / each.writer not in stocks]
    known = {path.name for path in stocks} | {each.writer for each in closed}
    return Accounts(
        spool_dir,
        tuple(_open_account(path, stock, letters) for path, stock in stocks.items()),
        (*(_closed_account(each, letters) for each in closed), *letters.accounts_without(known)),
        letters.damages,
    )


def _unreadable(path: Path, error: OSError) -> SettingsError:
    if not isinstance(error, PermissionError):
        return SettingsError(
            f"{path} cannot be read ({error.strerror}): look after the disk, or name another spool_dir."
        )
    return SettingsError(
        f"{path} cannot be read by this user: run this as the user that runs the application, or name another spool"
        " in spool_dir (AUDIT_SPOOL_DIR)."
    )


class _Letters:
    """Which dead letters are kept, which were replayed, and what was damaged and so passed over."""

    def __init__(self, path: Path) -> None:
        letters = DeadLetters(path, "")
        self._kept = _by_writer(letters.ids())
        self._replayed = _by_writer(letters.replayed())  # after the files: what was replayed is noted before one goes
        self.damages = tuple(DamagedBytes(path))
        self._damage: dict[str, list[Damage]] = defaultdict(list)
        for damage in self.damages:
            self._damage[damage.writer].append(damage)

    def damaged(self, writer: str, last: int) -> tuple[int, str]:
        """Return how many events up to *last* were passed over, and what is said of an end that nobody knows."""
        found = [each for each in self._damage[writer] if each.first_missing <= last + 1]
        missing = reach = 0
        for first, end in sorted((each.first_missing, min(each.last_missing or 0, last)) for each in found):
            missing += max(end - max(first, reach + 1) + 1, 0)
            reach = max(reach, end)
        return missing, "; ".join(f"{each.segment}: {each.missing}" for each in found if each.last_missing is None)

    def judge(self, writer: str, dead: Collection[int]) -> tuple[tuple[int, ...], int]:
        """Return which of the *dead* are still dead letters, and how many are neither that nor were replayed."""
        replayed = self._replayed[writer].intersection(dead)
        kept = self._kept[writer].intersection(dead) - replayed
        return tuple(sorted(kept)), len(set(dead) - kept - replayed)

    def accounts_without(self, known: Collection[str]) -> Iterator[WriterAccount]:
        """Yield accounts of writers of which nothing but dead letters is known: brought here, or a file was lost."""
        for writer in self._kept.keys() - known:
            if dead := tuple(sorted(self._kept[writer] - self._replayed[writer])):
                balance = Balance(emitted=len(dead), dead=len(dead))
                yield WriterAccount(writer, "", "closed", balance, 0, dead_sequences=dead)


def _by_writer(ids: Collection[str]) -> Mapping[str, set[int]]:
    found: dict[str, set[int]] = defaultdict(set)
    for letter_id in ids:
        writer, _, sequence = letter_id.rpartition("-")
        if sequence.isdecimal():
            found[writer].add(int(sequence))
    return found


def _open_account(path: Path, stock: Stock, letters: _Letters) -> WriterAccount:
    dead, lost = letters.judge(path.name, [sequence for sequence, fate in stock.set_aside.items() if fate == "dead"])
    quarantined = sum(fate == "quarantined" for fate in stock.set_aside.values())
    passed_over, unknown = letters.damaged(path.name, stock.acknowledged)
    lost += stock.missing + passed_over
    balance = Balance(
        emitted=stock.last,
        indexed=stock.last - stock.waiting - quarantined - len(dead) - lost,
        in_spool=stock.waiting,
        quarantined=quarantined,
        dead=len(dead),
        lost=lost,
    )
    service, host, pid = _identity(stock.specimen)
    return WriterAccount(
        path.name,
        _text(path / STREAM),
        _state(path, host, pid),
        balance,
        stock.acknowledged,
        _moment(stock.acknowledged_at),
        stock.waiting_bytes,
        stock.kept_bytes,
        _moment(written_at(stock)),
        service,
        host,
        pid,
        stock.trouble or unknown,
        born_at=_moment(stock.born_at),
        dead_sequences=dead,
    )


def _closed_account(closed: ClosedWriter, letters: _Letters) -> WriterAccount:
    dead, lost = letters.judge(closed.writer, closed.dead)
    passed_over, unknown = letters.damaged(closed.writer, closed.last)
    lost += passed_over
    balance = Balance(
        emitted=closed.last,
        indexed=closed.last - closed.quarantined - len(dead) - lost,
        quarantined=closed.quarantined,
        dead=len(dead),
        lost=lost,
    )
    at = _moment(closed.at or None)
    return WriterAccount(
        *(closed.writer, closed.stream, "closed", balance, closed.last, at),
        trouble=unknown,
        writers=closed.writers,
        dead_sequences=dead,
    )


def _state(path: Path, host: str | None, pid: int | None) -> State:
    """Tell whether the writer's process lives: then it holds the lock. So does whoever adopted it when it was dead."""
    if not is_locked(path / LOCK):
        return "dead"
    is_here = host == socket.gethostname() and _holder_is_visible(path / LOCK)
    return "adopted" if is_here and pid is not None and not _runs(pid) else "alive"


def _holder_is_visible(lock: Path) -> bool:
    """Whether the process that holds *lock* is in our PID namespace. The containers of a pod share the host's name.

    Source: Linux, proc(5), "/proc/locks", which leaves out what processes of other namespaces hold.
    """
    try:
        inode = f":{lock.stat().st_ino} "
        return any(inode in line for line in Path("/proc/locks").read_text("ascii").splitlines())
    except OSError:
        return False


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _identity(specimen: bytes) -> tuple[str | None, str | None, int | None]:
    """Return service, host and process of an event."""
    try:
        event = orjson.loads(specimen)
        return event["service"]["name"], event["host"]["name"], int(event["process"]["pid"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None, None, None


def written_at(stock: Stock) -> float | None:
    """Return when the oldest event that waits was written, in seconds since 1970; None when nothing waits.

    That is when it says, but not before its writer was there nor after it wrote last: what was imported carries the
    time of its origin, and a clock may have been set.
    """
    if not stock.first_waiting:
        return None
    try:
        said = dt.datetime.fromisoformat(orjson.loads(stock.first_waiting)["@timestamp"].replace("Z", "+00:00"))
        seconds = said.timestamp()
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        seconds = stock.born_at
    return min(max(seconds, stock.born_at), stock.written_at)


def _moment(seconds: float | None) -> dt.datetime | None:
    try:
        return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.timezone.utc)
    except (ValueError, OverflowError, OSError):  # the clock was far off when the file was written
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
