"""What the doctor says of the signatures, on which it rests that a trail's end cannot be cut off unnoticed."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from audit_logging._version import install_command
from audit_logging.errors import SettingsError
from audit_logging.integrity.keys import check_key
from audit_logging.mounts import EPHEMERAL, file_system, is_read_only, nearest_existing
from audit_logging.opensearch.check import Check

if TYPE_CHECKING:
    from pathlib import Path

    from audit_logging.settings import Settings

NAME: Final = "signing"


def check_signing(settings: Settings) -> Check:
    """Look at the signing key, without making one."""
    if not settings.signs:
        why = (
            "by the setting `signing`" if settings.signing is False else "since the package `cryptography` is not there"
        )
        return Check(
            NAME,
            "warning",
            f"Nothing is signed, {why}: the end of the trail, or a whole writer, could be removed unnoticed.",
            f"Install cryptography, and leave the setting `signing` as it is: {install_command('integrity')}.",
        )
    path = settings.signing_key_path
    try:
        key = check_key(path)
        found = path.stat()
    except FileNotFoundError:
        return _without_key(path)
    except (OSError, SettingsError) as error:
        why = str(error) if isinstance(error, SettingsError) else f"{path} cannot be read ({error.strerror})."
        return Check(NAME, "problem", f"Nothing is signed: {why}", "Mend it, or give another signing_key_file.")
    if found.st_mode & _others(found):
        mode = stat.S_IMODE(found.st_mode)
        return Check(
            NAME,
            "warning",
            f"The signing key {path} is open to others on this machine (mode {mode:04o}): they could forge the trail.",
            f"Run `chmod 600 {path}` (Kubernetes: `fsGroup`, and `defaultMode: 0440` of the Secret); where somebody may"
            " have read it, replace it.",
        )
    if not is_read_only(path) and (check := _gone_with_container(path)) is not None:
        return check
    if settings.checkpoint_file is None and settings.checkpoint_command is None:
        return Check(
            NAME,
            "ok",
            f"Events are signed by the key {key}. Heads are kept on this machine and in the trail alone: a second place"
            " (checkpoint_file, checkpoint_command) would show the loss of both.",
        )
    return Check(NAME, "ok", f"Events are signed by the key {key}, and heads kept in a second place.")


def _without_key(path: Path) -> Check:
    place = nearest_existing(path.parent)
    if not os.access(place, os.W_OK | os.X_OK):
        return Check(
            NAME,
            "problem",
            f"Nothing is signed: the key {path} does not exist, and {place} cannot be written to by this user.",
            "Put a key there, or give another file in signing_key_file (AUDIT_SIGNING_KEY_FILE).",
        )
    return _gone_with_container(path) or Check(
        NAME, "ok", f"Events will be signed; the key {path} is made with the first one."
    )


def _gone_with_container(path: Path) -> Check | None:
    """Return a warning where a key would not outlive the container in which it was made."""
    kind = file_system(nearest_existing(path))
    if kind not in EPHEMERAL:
        return None
    return Check(
        NAME,
        "warning",
        f"The signing key {path} is on {kind}: {EPHEMERAL[kind]}. The next start makes another, whose signatures"
        " `verify` does not trust.",
        "Give a key that outlives it in signing_key_file (AUDIT_SIGNING_KEY_FILE), such as a Kubernetes Secret's.",
    )


def _others(found: os.stat_result) -> int:
    """Return the bits that let others than the application read a key.

    What belongs to root, as a file of a Kubernetes Secret does, an unprivileged user can read by its group alone.
    """
    is_given_by_root = found.st_uid == 0 != os.geteuid()
    return stat.S_IRWXO if is_given_by_root else stat.S_IRWXG | stat.S_IRWXO
