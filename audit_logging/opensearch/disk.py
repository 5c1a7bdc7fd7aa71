"""Whether the place of the spool can keep what it is given. Looks only, and changes nothing."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from audit_logging.opensearch.check import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.settings import Settings

EPHEMERAL = {
    "tmpfs": "memory, and is gone after a restart of the machine",
    "ramfs": "memory, and is gone after a restart of the machine",
    "overlay": "a container's own layer, and is gone with the container",
    "aufs": "a container's own layer, and is gone with the container",
}
"""File system type → where it really keeps what it is given."""

_ELSEWHERE = "Set spool_dir (or AUDIT_SPOOL_DIR) to a directory on a disk or volume that outlives the process."
_MOUNTS = Path("/proc/self/mountinfo")


def check_spool(settings: Settings) -> Iterator[Check]:
    """Yield what is to be said of the spool's directory, which need not exist yet."""
    spool = settings.spool_path.absolute()
    place = _nearest_existing(spool)
    yield _access(spool, place)
    yield _privacy(spool)
    yield _lifetime(spool, file_system(place))
    yield _room(place, settings.spool_max_bytes)


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


def _nearest_existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def _access(spool: Path, place: Path) -> Check:
    if not place.is_dir():
        return Check("spool", "problem", f"{place} is not a directory.", "Set spool_dir (or AUDIT_SPOOL_DIR) to one.")
    if not os.access(place, os.W_OK | os.X_OK):
        what = "written to" if place == spool else f"created: {place} cannot be written to"
        return Check(
            "spool",
            "problem",
            f"The spool {spool} cannot be {what} by this user.",
            "Give the directory to the user that runs the application, or set spool_dir (or AUDIT_SPOOL_DIR).",
        )
    state = "is writable" if place == spool else "does not exist yet and can be created"
    return Check("spool", "ok", f"The spool {spool} {state}.")


def _privacy(spool: Path) -> Check:
    try:
        status = spool.stat()
    except OSError:
        return Check("spool privacy", "skipped", "The spool does not exist yet.")
    if status.st_uid != os.geteuid():
        return Check(
            "spool privacy",
            "warning",
            f"The spool {spool} belongs to another user, who can read and change events before they are shipped.",
            "Run this check as the user that runs the application, or give the directory to that user.",
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        return Check(
            "spool privacy",
            "warning",
            f"Other users of this machine may enter the spool {spool} (mode {stat.S_IMODE(status.st_mode):o}).",
            f"chmod 700 {spool}",
        )
    return Check("spool privacy", "ok", "Only its owner may enter the spool.")


def _lifetime(spool: Path, kind: str | None) -> Check:
    name = "spool disk"
    if kind in EPHEMERAL:
        return Check(name, "warning", f"The spool {spool} is on {kind}: {EPHEMERAL[kind]}.", _ELSEWHERE)
    if _temporary_directory() in spool.resolve().parents:
        return Check(name, "warning", f"The spool {spool} is in a directory that systems clean up.", _ELSEWHERE)
    if kind is None:
        return Check(name, "skipped", "This system does not tell what kind of disk the spool is on.")
    return Check(name, "ok", f"The spool is on {kind}, which outlives the process.")


def _temporary_directory() -> Path | None:
    """Return where programs put temporary files; None where there is no such place, as in a container without /tmp."""
    try:
        return Path(tempfile.gettempdir()).resolve()
    except FileNotFoundError:
        return None


def _room(place: Path, needed_bytes: int) -> Check:
    free = shutil.disk_usage(place).free
    if free < needed_bytes:
        return Check(
            "spool room",
            "warning",
            f"{free >> 20} MiB are free where the spool may grow to {needed_bytes >> 20} MiB.",
            "Free some space, or lower spool_max_bytes (or AUDIT_SPOOL_MAX_BYTES).",
        )
    return Check("spool room", "ok", f"{free >> 20} MiB are free.")
