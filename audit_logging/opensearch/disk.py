"""Whether the place of the spool can keep what it is given. Looks only, and changes nothing."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

from audit_logging.errors import SettingsError
from audit_logging.mounts import EPHEMERAL, file_system, nearest_existing, temporary_directory
from audit_logging.opensearch.check import Check
from audit_logging.spool.directory import require_trusted_spool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from audit_logging.settings import Settings

_ELSEWHERE = "Set spool_dir (or AUDIT_SPOOL_DIR) to a directory on a disk or volume that outlives the process."


def check_spool(settings: Settings) -> Iterator[Check]:
    """Yield what is to be said of the spool's directory, which need not exist yet."""
    spool = settings.spool_path.absolute()
    place = nearest_existing(spool)
    yield _access(spool, place)
    yield _privacy(settings, spool)
    yield _lifetime(spool, file_system(place))
    yield _room(place, settings.spool_max_bytes)


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


def _privacy(settings: Settings, spool: Path) -> Check:
    name = "spool privacy"
    try:
        status = spool.stat()
    except OSError:
        status = None
    if status is not None and status.st_uid != os.geteuid() == 0:
        return Check(
            name,
            "warning",
            f"The spool {spool} belongs to another user, who can read and change events before they are shipped.",
            "Run this check as the user that runs the application, or give the directory to that user.",
        )
    try:  # what an emit call insists on
        require_trusted_spool(settings)
    except SettingsError as error:
        return Check(name, "problem", str(error))
    if status is None:
        return Check(name, "skipped", "The spool does not exist yet.")
    if stat.S_IMODE(status.st_mode) & 0o077:
        return Check(
            name,
            "warning",
            f"Other users of this machine may enter the spool {spool} (mode {stat.S_IMODE(status.st_mode):o}).",
            f"chmod 700 {spool}",
        )
    return Check(name, "ok", "Only its owner may enter the spool.")


def _lifetime(spool: Path, kind: str | None) -> Check:
    name = "spool disk"
    if kind in EPHEMERAL:
        return Check(name, "warning", f"The spool {spool} is on {kind}: {EPHEMERAL[kind]}.", _ELSEWHERE)
    if temporary_directory() in spool.resolve().parents:
        return Check(name, "warning", f"The spool {spool} is in a directory that systems clean up.", _ELSEWHERE)
    if kind is None:
        return Check(name, "skipped", "This system does not tell what kind of disk the spool is on.")
    return Check(name, "ok", f"The spool is on {kind}, which outlives the process.")


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
