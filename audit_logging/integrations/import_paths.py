"""Finds the files to import: those that are named, and those in directories."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Final

from audit_logging.integrations.event_file import STANDARD_INPUT

if TYPE_CHECKING:
    from collections.abc import Iterable

_OURS: Final = ("*.manifest.json", "*.state", "*.part")
"""What an export writes next to its file."""


@dataclass
class FoundFiles:
    """The files to import.

    Attributes:
        paths: The files, in order.
        other: Files in directories whose names do not fit the format.
        problems: Directories that cannot be read, each with the reason.
    """

    paths: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


def find_files(given: Iterable[str], patterns: tuple[str, ...]) -> FoundFiles:
    """Return the files to import, those of directories in the order of their names.

    Args:
        given: Files, directories, and ``"-"`` for standard input.
        patterns: Which files in a directory count; a file that is given by name always does. Hidden ones do not.
    """
    found = FoundFiles()

    def note(error: OSError) -> None:
        found.problems.append((str(error.filename), f"cannot be read ({error.strerror})"))

    for name in given:
        if name == STANDARD_INPUT or not Path(name).is_dir():
            found.paths.append(name)
            continue
        for folder, subfolders, files in os.walk(name, onerror=note):
            subfolders[:] = sorted(each for each in subfolders if not each.startswith("."))
            for file in sorted(files):
                path = str(Path(folder, file))
                if file.startswith(".") or not Path(path).is_file() or any(fnmatch(file, pattern) for pattern in _OURS):
                    continue
                fits = any(fnmatch(file, pattern) for pattern in patterns)
                (found.paths if fits else found.other).append(path)
    return found
