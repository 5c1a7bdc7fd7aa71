"""What signs a writer's own events and keeps the last one of each writer where it outlives the trail."""

from __future__ import annotations

import errno
import logging
import os
import stat
from typing import TYPE_CHECKING

from audit_logging.errors import SettingsError
from audit_logging.integrity.heads import Heads
from audit_logging.integrity.keys import SigningKey
from audit_logging.integrity.signature import sign
from audit_logging.interrupts import is_interrupt
from audit_logging.mounts import CONTAINER_LAYERS, file_system
from audit_logging.private import FILE_MODE, make_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from audit_logging.integrity.seal import SealedDocument
    from audit_logging.settings import Settings

_log = logging.getLogger("audit_logging")


class Signer:
    """Signs, and keeps what it signed as the writer's head: in the spool directory, and in a file elsewhere.

    Args:
        key: What signs.
        settings: Of the trail.
        tell: Given every signed event, from under the writer's lock; it must not wait.
    """

    def __init__(self, key: SigningKey, settings: Settings, tell: Callable[[bytes], None] = lambda _: None) -> None:
        self._key = key
        self.heads = Heads(settings.spool_path, settings.stream)
        self._file = settings.checkpoint_file
        self._tell = tell
        self.problem = ""
        """Why the last signed event could not be kept in the second place; empty when it was."""

    def sign(self, sealed: SealedDocument) -> SealedDocument:
        """Return *sealed* with a signature in its seal."""
        return sign(sealed, self._key)

    def keep(self, writer: str, payload: bytes) -> None:
        """Keep a signed event that is safely in the spool. Never raises: the event itself must not be lost over it."""
        try:
            self.heads.keep(writer, payload)
            if self._file is not None:
                _append(self._file, payload)
            self.problem = ""
        except OSError as error:
            if is_interrupt(error):
                raise
            self.problem = str(error)
            _log.error("The head of writer %s could not be kept in a second place: %s", writer, error)
        self._tell(payload)


def signing_key(settings: Settings) -> tuple[SigningKey | None, str]:
    """Return the key that these settings sign with, and why there is none though there should be one.

    Raises:
        SettingsError: Signing was asked for, and the key cannot be read or made.
    """
    if not settings.signs:
        return None, ""
    path = settings.signing_key_path
    is_new = not os.path.lexists(path)
    try:
        key = SigningKey.load_or_create(path)
    except SettingsError as error:
        if settings.signing:
            raise
        _log.warning("Nothing is signed, so that the end of the trail could be cut off unnoticed: %s", error)
        return None, str(error)
    if is_new and (kind := file_system(path)) in CONTAINER_LAYERS:
        _log.warning(
            "The new signing key %s is on %s: %s. The next container makes another, whose signatures `verify` does not"
            " trust. Give a key that outlives the container in signing_key_file (AUDIT_SIGNING_KEY_FILE).",
            path,
            kind,
            CONTAINER_LAYERS[kind],
        )
    return key, ""


def _append(path: Path, payload: bytes) -> None:
    """Append one line whole, beside other processes that do the same."""
    make_directory(path.parent)
    # A pipe without a reader must not hold up the writer, nor a link lead elsewhere.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, FILE_MODE)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        file.write(payload + b"\n")
