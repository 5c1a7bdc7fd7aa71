"""What kind of file system holds a path, and whether that outlives the process."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

CONTAINER_LAYERS: Final[dict[str | None, str]] = dict.fromkeys(
    ("overlay", "aufs"), "a container's own layer, and is gone with the container"
)
EPHEMERAL: Final[dict[str | None, str]] = {
    **dict.fromkeys(("tmpfs", "ramfs"), "memory, and is gone after a restart of the machine"),
    **CONTAINER_LAYERS,
}
"""File system type → where it really keeps what it is given."""

_MOUNTS: Final = Path("/proc/self/mountinfo")


def nearest_existing(path: Path) -> Path:
    """Return *path*, or the nearest of its parents that exists."""
    return next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))


def is_read_only(path: Path) -> bool:
    """Whether *path* is on a file system that is mounted read-only."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def file_system(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the type of the file system that holds *path*, or None where the system does not tell.

    Source: Linux, proc(5), "/proc/pid/mountinfo".
    """
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    resolved = path.resolve()
    best: tuple[int, str] | None = None
    for line in lines:
        mounted, _, rest = line.partition(" - ")
        point = Path(mounted.split()[4].replace("\\040", " "))
        # A later line hides an earlier one of the same place.
        if (resolved == point or point in resolved.parents) and (best is None or len(point.parts) >= best[0]):
            best = (len(point.parts), rest.split()[0])
    return None if best is None else best[1]


def temporary_directory() -> Path | None:
    """Return where programs put temporary files; None where there is no such place, as in a container without /tmp."""
    try:
        return Path(tempfile.gettempdir()).resolve()
    except FileNotFoundError:
        return None
