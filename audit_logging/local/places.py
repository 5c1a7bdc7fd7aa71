"""Where things lie: downloads and state under the home, and what the server must read where it can read it.

    <home>/cache/                 verified downloads
    <home>/servers/               state of the servers that `audit-logging server up` started (private)
    <home>/demo/                  what each running demo needs for itself (private)
    <shared>/opensearch-…/        unpacked distributions, one for all servers
    <shared>/java-…/              a copy of the Java runtime, where the server could not read the original
    <shared>/instances/…/         one server: configuration, data, logs, temporary files (private)

``<shared>`` is ``<home>/local``, unless root starts the server for an account that cannot enter the home (``/root``
is closed to others): then the system's cache directory, else the system's temporary directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from audit_logging.errors import LocalServerError
from audit_logging.mounts import temporary_directory
from audit_logging.private import NotPrivateError, check_private_directory, make_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.local.account import Account

SYSTEM_CACHE = Path("/var/cache/audit-logging")


def cache_directory(home: Path) -> Path:
    """Return the directory of downloads, made if need be."""
    return _made(_made(home, home) / "cache", home)


def state_directory(home: Path) -> Path:
    """Return the directory of the state files, made if need be."""
    return _made(_made(home, home) / "servers", home)


def demo_directory(home: Path) -> Path:
    """Return the directory in which every demo has one of its own, made if need be."""
    return _made(_made(home, home) / "demo", home)


def shared_directory(home: Path, account: Account) -> Path:
    """Return a directory that *account* can read and only we can write, made if need be.

    Raises:
        LocalServerError: No candidate will do.
    """
    _made(home, home)
    candidates = [home / "local"]
    if account.switch:
        candidates.append(SYSTEM_CACHE)
        if (temporary := temporary_directory()) is not None:
            candidates.append(temporary / "audit-logging-root")
    for candidate in candidates:
        if account.can_enter(candidate.parent) and _is_ours(candidate):
            return candidate
    names = ", ".join(map(str, candidates))
    raise LocalServerError(
        f"The user {account.name} that OpenSearch runs as can use none of {names}: set AUDIT_HOME to a directory"
        " that every user may enter, such as one below /opt, or run this as an ordinary user."
    )


def _is_ours(directory: Path) -> bool:
    """Make *directory*; refuse one that another user owns or can write (they could swap the programs in it)."""
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        status = directory.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022:
            directory.chmod(0o755)
            return True
    return False


def _made(directory: Path, home: Path) -> Path:
    try:
        make_directory(directory)
    except OSError as error:
        raise LocalServerError(
            f"The directory {directory} cannot be made ({error.strerror}): set AUDIT_HOME to one that you can write."
        ) from error
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise _not_ours(directory)
    try:
        check_private_directory(directory, within=home)
    except NotPrivateError as error:
        raise LocalServerError(f"{directory} cannot be used: {error.strerror}; or set AUDIT_HOME.") from error
    return directory


def _not_ours(path: Path) -> LocalServerError:
    return LocalServerError(
        f"{path} belongs to another user: set AUDIT_HOME to a directory of your own, or run this as that user."
    )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file *path*, waiting for it; a dead holder's lock is free.

    Raises:
        LocalServerError: It is another user's.
    """
    try:
        file = path.open("w")
    except PermissionError as error:
        raise _not_ours(path) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
