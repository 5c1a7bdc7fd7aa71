"""The account that a server runs as. OpenSearch refuses to run as root, so root lends it another."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from audit_logging.errors import LocalServerError

if TYPE_CHECKING:
    from pathlib import Path

UNPRIVILEGED = "nobody"
"""There on every Unix, and owns nothing worth stealing."""


@dataclass(frozen=True)
class Account:
    """A user of this machine.

    Attributes:
        switch: Whether processes must change to this account (we are root, it is not).
    """

    name: str
    uid: int
    gid: int
    switch: bool

    def can_enter(self, directory: Path) -> bool:
        """Tell whether this account may pass through *directory* and all above it (those that exist)."""
        if not self.switch:
            return True
        existing = (path for path in (directory, *directory.parents) if path.exists())
        return all(self._has_search_bit(path.stat()) for path in existing)

    def _has_search_bit(self, status: os.stat_result) -> bool:
        # Groups beyond the primary one are dropped when the server starts, so they do not count.
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)

    def own(self, *paths: Path) -> None:
        """Give *paths* (not what lies below them) to this account."""
        if self.switch:
            for path in paths:
                os.chown(path, self.uid, self.gid, follow_symlinks=False)


def server_account(name: str | None = None) -> Account:
    """Return the account to run a server as: ourselves, or as root *name* (default: ``nobody``).

    Raises:
        LocalServerError: There is no such account, or it is root, or another is asked for without being root.
    """
    if os.geteuid() != 0:
        if name is not None and not _is_us(name):
            raise LocalServerError(f"Only root can start the server as {name}: leave the user out.")
        return Account(str(os.geteuid()), os.geteuid(), os.getegid(), switch=False)
    try:
        entry = pwd.getpwnam(name or UNPRIVILEGED)
    except KeyError:
        raise LocalServerError(
            f"OpenSearch does not run as root, and there is no user {name or UNPRIVILEGED!r} to run it as:"
            " name one with LocalServer(user=...), or run this as an ordinary user."
        ) from None
    if entry.pw_uid == 0:
        raise LocalServerError("OpenSearch does not run as root: name an ordinary user.")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switch=True)


def _is_us(name: str) -> bool:
    try:
        return pwd.getpwnam(name).pw_uid == os.geteuid()
    except KeyError:
        return False
