"""The formats that an import reads: how the records of a file are found, and how they become events."""

from __future__ import annotations

import os
from importlib import resources
from typing import TYPE_CHECKING, Final, Protocol

from audit_logging.errors import SettingsError
from audit_logging.integrations.cloudtrail import from_cloudtrail
from audit_logging.integrations.exported import from_own_format
from audit_logging.integrations.incoming import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.integrations.event_file import Entry, EventFile
    from audit_logging.integrations.event_times import EventTimes
    from audit_logging.integrations.incoming import IncomingEvent
    from audit_logging.integrations.mapping import Mapping


SUFFIX: Final = ".toml"
"""Of a file that holds a mapping."""

JSON_FILES: Final = tuple(f"*.{name}{packed}" for name in ("json", "jsonl", "ndjson", "log") for packed in ("", ".gz"))
"""Which files of a directory are taken for JSON."""


class ImportFormat(Protocol):
    """Reads the records of one kind of file."""

    files: tuple[str, ...]

    def entries(self, file: EventFile) -> Iterator[Entry]:
        """Yield the records of *file*."""
        ...

    def event_of(self, entry: Entry, file: EventFile, times: EventTimes) -> IncomingEvent:
        """Return a record as an event.

        Raises:
            EventFileError: It is not a record of this format.
        """
        ...


class CloudTrail:
    """AWS CloudTrail: log files, ``lookup-events``, EventBridge, CloudWatch Logs."""

    files = JSON_FILES

    def entries(self, file: EventFile) -> Iterator[Entry]:
        """Yield the records of *file*."""
        return file.records(("Records", "Events", "logEvents", "events"), "eventSource")

    def event_of(self, entry: Entry, file: EventFile, times: EventTimes) -> IncomingEvent:  # noqa: ARG002
        """Return a record as an event."""
        return from_cloudtrail(unwrapped(entry.value, ("CloudTrailEvent", "detail", "message"), "eventSource"), times)


class Own:
    """Exports of this library, and objects of keywords."""

    files = JSON_FILES

    def entries(self, file: EventFile) -> Iterator[Entry]:
        """Yield the records of *file*."""
        return file.records(mark="event_type")

    def event_of(self, entry: Entry, file: EventFile, times: EventTimes) -> IncomingEvent:
        """Return a record as an event."""
        record = unwrapped(entry.value, ("_source",), "event_type")
        # Without a time of its own, a line that says the same in another file is another event.
        place = entry.place
        if not (isinstance(record, dict) and record.get("timestamp") is not None):
            place = (*place, os.path.basename(file.name).removesuffix(".gz"))  # noqa: PTH119
        return from_own_format(record, place, times)


class Table(Own):
    """Exports of this library as CSV."""

    files = ("*.csv", "*.csv.gz")

    def entries(self, file: EventFile) -> Iterator[Entry]:
        """Yield the records of *file*."""
        return file.rows("document")


class Mapped:
    """A format that a mapping describes.

    Args:
        mapping: The mapping.
    """

    def __init__(self, mapping: Mapping) -> None:
        from audit_logging.integrations.mapped import MappedFormat

        self.files = mapping.files
        self._mapping = mapping
        self._format = MappedFormat(mapping)

    def entries(self, file: EventFile) -> Iterator[Entry]:
        """Yield the records of *file*."""
        self._format.begin_file()
        return file.lines() if self._mapping.lines else file.records(self._mapping.lists, self._mapping.mark)

    def event_of(self, entry: Entry, file: EventFile, times: EventTimes) -> IncomingEvent:  # noqa: ARG002
        """Return a record as an event."""
        return self._format.event_of(entry.value, times)


def format_names() -> list[str]:
    """Return the names of the formats that are part of the library."""
    folder = resources.files(__package__) / "mappings"
    mapped = (each.name.removesuffix(SUFFIX) for each in folder.iterdir() if each.name.endswith(SUFFIX))
    return [*_CODED, *sorted(mapped)]


def format_named(name: str) -> ImportFormat:
    """Return the format called *name*.

    Raises:
        SettingsError: There is none.
    """
    if name not in format_names():
        raise SettingsError(f"There is no import format {name!r}: use one of {', '.join(format_names())}.")
    if name in _CODED:
        return _CODED[name]()
    from audit_logging.integrations.mapping import load_built_in

    return Mapped(load_built_in(name))


_CODED: Final[dict[str, type[CloudTrail | Own]]] = {"cloudtrail": CloudTrail, "ndjson": Own, "csv": Table}
