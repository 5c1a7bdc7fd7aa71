"""What the doctor says of the signatures, on which it rests that a trail's end cannot be cut off unnoticed."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from audit_logging._version import install_command
from audit_logging.errors import SettingsError
from audit_logging.integrity.keys import check_key
from audit_logging.opensearch.check import Check

if TYPE_CHECKING:
    from audit_logging.settings import Settings

NAME: Final = "signing"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


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
        mode = stat.S_IMODE(path.stat().st_mode)
        key = check_key(path)
    except FileNotFoundError:
        return Check(NAME, "ok", f"Events will be signed; the key {path} is made with the first one.")
    except (OSError, SettingsError) as error:
        why = str(error) if isinstance(error, SettingsError) else f"{path} cannot be read ({error.strerror})."
        return Check(NAME, "problem", f"Nothing is signed: {why}", "Mend it, or give another signing_key_file.")
    if mode & _OTHERS:
        return Check(
            NAME,
            "warning",
            f"The signing key {path} is open to others on this machine (mode {mode:04o}): they could forge the trail.",
            f"Run `chmod 600 {path}`; where somebody may have read it, move it away, and a new one is made.",
        )
    if settings.checkpoint_file is None and settings.checkpoint_command is None:
        return Check(
            NAME,
            "ok",
            f"Events are signed by the key {key}. Heads are kept on this machine and in the trail alone: a second place"
            " (checkpoint_file, checkpoint_command) would show the loss of both.",
        )
    return Check(NAME, "ok", f"Events are signed by the key {key}, and heads kept in a second place.")
