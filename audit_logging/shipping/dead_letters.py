"""Events that OpenSearch refused even in quarantine: kept on disk, one file each, until somebody replays them."""

from __future__ import annotations

import datetime as dt
import os
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from audit_logging.errors import AuditError, CredentialsError, RefusedError, UnreachableError
from audit_logging.files import names_in, write_durably
from audit_logging.private import NotPrivateError, check_private_directory, private_directory, read_trusted
from audit_logging.shipping.answer import ITEMS, Fate, judge_failure, judge_items
from audit_logging.shipping.batch import document_id, encode_batch
from audit_logging.shipping.notices import Notices
from audit_logging.shipping.protocol import TAKEN
from audit_logging.shipping.stream import Stream
from audit_logging.spool.segment import Records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from audit_logging.opensearch.client import Client
    from audit_logging.spool.segment import Record


REPLAYED = "replayed"
"""File with the ids of the dead letters that were replayed: one that is gone and not named here was lost."""


MOST_BYTES: Final = 16 << 20
"""Largest dead letter that is read: a document of 1 MiB, escaped, is far smaller."""


class DeadLetterError(AuditError):
    """A dead letter is not there, or its file cannot be read."""


class DeadLetter(NamedTuple):
    """One of them.

    Attributes:
        writer: The writer whose chain it belongs to.
        sequence: Its place there.
        reason: Why it was refused, and then why its stand-in was.
        kept: When it was put here; UTC, ISO 8601.
        stream: The data stream that it was for.
        document: The sealed document, as it stood in the spool.
    """

    writer: str
    sequence: int
    reason: str
    kept: str
    stream: str
    document: str

    @property
    def id(self) -> str:
        """Its ``_id``, which names its file."""
        return document_id(self.writer, self.sequence)

    @property
    def event_type(self) -> str:
        """The event's type; empty when it is no event."""
        return str(self._find("event", "action"))

    @property
    def hash(self) -> str:
        """The hash in its seal; empty when it is no event."""
        return str(self._find("audit", "integrity", "hash"))

    def _find(self, *path: str) -> Any:
        try:
            found: Any = orjson.loads(self.document)
            for step in path:
                found = found[step]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return ""
        return found


class DeadLetters:
    """The dead letters of one spool directory.

    Args:
        path: Their directory; made, private, with the first one.
        stream: The data stream of those that are kept now.
    """

    def __init__(self, path: Path, stream: str) -> None:
        self.path = path
        self._stream = stream

    def keep(self, record: Record, writer: str, reason: str) -> DeadLetter:
        """Write one refused event. Keeping the same one again changes nothing but the reason and the time.

        Raises:
            OSError: The disk refused, so that the event must stay in the spool.
        """
        letter = DeadLetter(
            writer=writer,
            sequence=record.sequence,
            reason=reason,
            kept=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
            stream=self._stream,
            document=record.payload.decode("utf-8", "backslashreplace"),
        )
        private_directory(self.path, within=self.path.parent)
        write_durably(self.file_of(letter.id), orjson.dumps(letter._asdict()))
        return letter

    def file_of(self, letter_id: str) -> Path:
        """Return where a dead letter is, or would be."""
        return self.path / f"{letter_id}.json"

    def __iter__(self) -> Iterator[DeadLetter]:
        """Yield the letters in the order of their writers and sequences.

        Raises:
            DeadLetterError: One cannot be read.
        """
        self._check()
        for path in sorted(map(self.file_of, self.ids()), key=_place):
            yield _read(path)

    def get(self, letter_id: str) -> DeadLetter:
        """Return one.

        Raises:
            DeadLetterError: It is not there, or cannot be read.
        """
        self._check()
        path = self.file_of(letter_id)
        if path.parent != self.path or not path.exists():
            raise DeadLetterError(
                f"There is no dead letter {letter_id!r} in {self.path}: `audit-logging spool dead list` shows which"
                " there are."
            )
        return _read(path)

    def _check(self) -> None:
        """Check that nobody else could have put letters here, which a replay would send as events of this trail."""
        try:
            check_private_directory(self.path, within=self.path.parent)
        except NotPrivateError as error:
            raise DeadLetterError(f"The dead letters in {self.path} are not trusted: {error.strerror}.") from error

    def replay(self, letter: DeadLetter, client: Client) -> str | None:
        """Send one again under its own ``_id``, and remove it when it is stored.

        Returns:
            Why it was refused again; None when it is stored, now or since an earlier attempt.

        Raises:
            UnreachableError: There was no answer; try again, which does no harm.
            CredentialsError: The role may not write.
            DeadLetterError: It is stored, but the disk refused to note it; replaying it once more does no harm.
            NoStreamError: Its stream does not exist: OpenSearch would make an ordinary index of that name.
        """
        if (reason := self._store(letter, client)) is not None:
            return reason
        try:
            self._note_replayed(letter.id)
            self.file_of(letter.id).unlink(missing_ok=True)
        except OSError as error:
            raise DeadLetterError(
                f"The dead letter {letter.id} is stored, but {self.path} cannot be written ({error.strerror}):"
                " make room and replay it again."
            ) from error
        return None

    def _store(self, letter: DeadLetter, client: Client) -> str | None:
        """Return when *letter* is stored, with None, or why it is not."""
        stream, sequence = Stream(client, letter.stream, Notices()), [letter.sequence]
        # An earlier attempt may have been killed before it could note that it had come through, and a rollover since
        # then would let the same id in once more.
        found = stream.find([letter.id], since=None)
        if not found:
            body = encode_batch(Records(sequence, [letter.document.encode()]), letter.writer)
            try:
                answer = client.request_bytes(
                    "POST", f"/{letter.stream}/_bulk", params={"filter_path": ITEMS}, body=body
                )
                verdict = judge_items(answer, letter.writer, sequence, letter.stream).get(0)
            except CredentialsError:
                raise
            except RefusedError as error:
                return judge_failure(error).reason
            except ValueError as error:
                raise UnreachableError(
                    f"The answer does not say what became of {letter.id}: replay it again."
                ) from error
            if verdict is None:
                return None
            if verdict.fate is not Fate.CONFLICT:
                return verdict.reason
            found = stream.find([letter.id], since=None)
        if found is None:
            return "its id is taken, and the role may not look at what has it: replay it with one that may read"
        return None if found.get(letter.id) == letter.hash else TAKEN

    def _note_replayed(self, letter_id: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path / REPLAYED, flags, 0o600)
        try:
            os.write(descriptor, f"{letter_id}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def ids(self) -> set[str]:
        """Return the ids of those that are here, without reading them."""
        return {name.removesuffix(".json") for name in names_in(self.path) if fnmatchcase(name, "*-*.json")}

    def replayed(self) -> set[str]:
        """Return the ids of those that were replayed."""
        try:
            return set((self.path / REPLAYED).read_text().split())
        except FileNotFoundError:
            return set()


def _place(path: Path) -> tuple[str, int, str]:
    writer, _, sequence = path.stem.rpartition("-")
    return writer, int(sequence) if sequence.isdecimal() else 0, path.stem


def _read(path: Path) -> DeadLetter:
    try:
        return DeadLetter(**orjson.loads(read_trusted(path, MOST_BYTES)))
    except (OSError, orjson.JSONDecodeError, TypeError) as error:
        raise DeadLetterError(f"The dead letter {path} cannot be read ({error}).") from error
