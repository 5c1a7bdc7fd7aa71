"""The archive: each backing index as one file that proves itself, written and checked before the index leaves.

    archive directory/                                 0700 where it is made here
        audit-events-000007-JaFfMrTr.ndjson.gz         the index, one stored document a line
        audit-events-000007-JaFfMrTr.manifest.json     what the file holds: counts, times, SHA-256, every writer's part

A manifest appears last, so an archive with a manifest is whole. Every document is read back from the file and its hash
recomputed; the writers found must be those that the index's seal in the trail names.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

import orjson

from audit_logging.errors import ArchiveError
from audit_logging.files import TooLargeError, bounded_lines, read_bounded, write_durably
from audit_logging.integrity.seal import canonical_form, digest_of
from audit_logging.private import make_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.opensearch.retention import BackingIndex

FORMAT: Final = "audit-logging archive"
VERSION: Final = 1

Export = Callable[[str, Path], object]
"""Writes every document of one backing index to a file, gzip-compressed, one a line."""

Seals = Callable[[str], "list[dict[str, Any]] | None"]
"""Returns what the seal of an index, by its uuid, says of writers; None where it is not sealed."""


@dataclass(frozen=True)
class Manifest:
    """What an archive of one backing index holds.

    Attributes:
        stream: The data stream it came from.
        index: The backing index.
        index_uuid: What tells it from a later index of the same name.
        file: Name of the file beside the manifest.
        events: Lines of the file.
        bytes: Size of the file, compressed.
        sha256: Of the file, in hexadecimal.
        oldest: ``@timestamp`` of its oldest event, or None.
        newest: Of its newest, or None.
        writers: Every writer's first and last sequence, last hash and number of events, by writer.
    """

    stream: str
    index: str
    index_uuid: str
    file: str
    events: int
    bytes: int
    sha256: str
    oldest: str | None
    newest: str | None
    writers: list[dict[str, Any]]


class Archive:
    """A directory of archived backing indices of one stream.

    Args:
        directory: Made where there is none.
        stream: The data stream.
        export: Writes one backing index to a file.
        seals: What the trail says of an index.
    """

    def __init__(self, directory: Path, stream: str, export: Export, seals: Seals) -> None:
        self._directory = directory
        self._stream = stream
        self._export = export
        self._seals = seals

    def holds(self, index: BackingIndex) -> bool:
        """Return whether *index* was archived here: its manifest is there."""
        return self.manifest_path(index).is_file()

    def manifest_path(self, index: BackingIndex) -> Path:
        """Return where the manifest of *index* is, or would be."""
        return self._directory / f"{_stem(index)}.manifest.json"

    def write(self, index: BackingIndex) -> Path:
        """Archive *index*, check what was written, and return the manifest's path.

        Raises:
            ArchiveError: It could not be written, or it holds what its own seals deny. There is no manifest then.
        """
        target = self._directory / f"{_stem(index)}.ndjson.gz"
        try:
            make_directory(self._directory)
            self._export(index.name, target)
            contents = _read(target)
            self._compare(index, contents)
            manifest = Manifest(self._stream, index.name, index.uuid, target.name, **contents)
            content = {"format": FORMAT, "version": VERSION, **asdict(manifest)}
            write_durably(
                self.manifest_path(index), orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
            )
        except OSError as error:
            raise ArchiveError(
                f"{index.name} cannot be archived in {self._directory} ({error.strerror or error}), so it stays: mend"
                " that, or give another directory with --archive."
            ) from error
        return self.manifest_path(index)

    def verify(self, index: BackingIndex) -> Manifest:
        """Read the archive of *index* from the disk and return its manifest when all of it is there and unchanged.

        Raises:
            ArchiveError: It is damaged, or another one than the index in OpenSearch.
        """
        manifest = verify_archive(self.manifest_path(index))
        if (manifest.index, manifest.index_uuid) != (index.name, index.uuid):
            raise ArchiveError(f"{self.manifest_path(index)} is the archive of another index than {index.name}.")
        self._compare(index, {"events": manifest.events, "writers": manifest.writers})
        return manifest

    def _compare(self, index: BackingIndex, contents: dict[str, Any]) -> None:
        sealed = self._seals(index.uuid)
        if contents["events"] != index.events or (sealed is not None and contents["writers"] != sealed):
            raise ArchiveError(
                f"{index.name} holds {index.events:,} events, and its archive has {contents['events']:,} or others than"
                " its seal in the trail says: it stays. Run `audit-logging retention apply --archive` again; where that"
                " does not help, events were changed or removed."
            )


def verify_archive(manifest_path: Path) -> Manifest:
    """Read an archive from the disk and return its manifest when all of it is there and unchanged.

    Raises:
        ArchiveError: The manifest or its file is missing, damaged, or of another format.
    """
    try:
        told = orjson.loads(read_bounded(manifest_path))
        if not isinstance(told, dict) or (told.pop("format", None), told.pop("version", None)) != (FORMAT, VERSION):
            raise ArchiveError(f"{manifest_path} is no manifest of an archive that this version knows.")
        manifest = Manifest(**told)
        contents = _read(archived_file(manifest_path, manifest))
    except OSError as error:
        raise ArchiveError(f"{error.filename or manifest_path} cannot be read: {error.strerror or error}.") from error
    except (orjson.JSONDecodeError, TypeError) as error:
        raise ArchiveError(f"{manifest_path} is damaged: {error}.") from error
    wrong = [name for name, value in contents.items() if getattr(manifest, name) != value]
    if wrong:
        raise ArchiveError(f"{manifest_path} and its file {manifest.file} disagree in {', '.join(wrong)}.")
    return manifest


def archived_file(manifest_path: Path, manifest: Manifest) -> Path:
    """Return the file of an archive, which lies beside its manifest.

    Raises:
        ArchiveError: The manifest leads elsewhere.
    """
    if Path(manifest.file).name != manifest.file:
        raise ArchiveError(f"{manifest_path} names a file outside its own directory.")
    return manifest_path.with_name(manifest.file)


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the documents of an archived file, as they are written.

    Raises:
        ArchiveError: The file is damaged.
    """
    try:
        with gzip.open(path) as lines:
            yield from bounded_lines(cast("IO[bytes]", lines), path)
    except TooLargeError as error:
        raise ArchiveError(f"{path} is damaged: {error.strerror}.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ArchiveError(f"{path} is damaged: {error}.") from error


def _read(path: Path) -> dict[str, Any]:
    """Return everything that a manifest says of a file, from the file alone."""
    writers: dict[str, dict[str, Any]] = {}
    times: list[str] = []
    events = 0
    for line in read_lines(path):
        events += 1
        try:
            document = orjson.loads(line)
            time = str(document["@timestamp"])
            _count(document, writers)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ArchiveError(f"{path}, line {events}, is no event: {error}.") from error
        times = [min(times[0], time), max(times[1], time)] if times else [time, time]
    with path.open("rb") as raw:
        digest = _sha256(raw)
    return {
        "events": events,
        "bytes": path.stat().st_size,
        "sha256": digest,
        "oldest": times[0] if times else None,
        "newest": times[1] if times else None,
        "writers": [writers[name] for name in sorted(writers)],
    }


def _count(document: dict[str, Any], writers: dict[str, dict[str, Any]]) -> None:
    """Check one event against its own seal, and count it to its writer."""
    integrity = (document.get("audit") or {}).get("integrity")
    if integrity is None:
        return  # written by somebody else than this library; it has no place in any chain
    writer, sequence, digest = integrity["writer"], integrity["sequence"], integrity["hash"]
    quarantine = document["audit"].get("quarantine")
    sealed = orjson.loads(quarantine["document"]) if quarantine else document
    if digest_of(integrity["previous"], writer, sequence, canonical_form(sealed)) != digest:
        raise ArchiveError(f"The event {writer}-{sequence} is not the one that was sealed: it was changed.")
    known = writers.setdefault(writer, {"writer": writer, "first": sequence, "last": 0, "hash": "", "events": 0})
    known["first"] = min(known["first"], sequence)
    if sequence > known["last"]:
        known["last"], known["hash"] = sequence, digest
    known["events"] += 1


def _sha256(raw: Any) -> str:
    digest = hashlib.sha256()
    while block := raw.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _stem(index: BackingIndex) -> str:
    return f"{index.name.removeprefix('.ds-')}-{index.uuid[:8]}"
