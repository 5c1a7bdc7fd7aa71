"""Directories that go with the process that made them, however it ends: by itself, or by the next that makes one.

    <name>/         the directory
    <name>.guard    held by every process that wants it; where nobody does, the directory is left over

Whoever is done with the directory removes it, and the guard last. A process that was killed can do neither: so the
next that makes a directory in the same place removes what nobody holds. A directory without a guard is left alone.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from audit_logging.files import abandoned, hold

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX = ".guard"


def make_guarded(parent: Path, prefix: str) -> tuple[Path, IO[bytes]]:
    """Make a private directory in *parent*, and return it with its guard, which holds it until it is closed.

    Before that, what killed processes left in *parent* under the same *prefix* is removed.
    """
    for guard in abandoned(parent, prefix, SUFFIX):
        shutil.rmtree(guard.with_suffix(""), ignore_errors=True)
    while True:
        directory = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        guard_file = guard_of(directory).open("xb")
        if hold(guard_file.fileno()):
            return directory, guard_file
        guard_file.close()  # another process made one just then, and took ours for left over


def guard_of(directory: Path) -> Path:
    """Return the path of the guard of *directory*."""
    return directory.with_name(directory.name + SUFFIX)


def remove_guarded(directory: Path) -> None:
    """Remove *directory* and its guard."""
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):
        guard_of(directory).unlink()


@contextlib.contextmanager
def guarded_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """Make such a directory, and remove it at the end of the block."""
    directory, guard = make_guarded(parent, prefix)
    with guard:
        try:
            yield directory
        finally:
            remove_guarded(directory)
