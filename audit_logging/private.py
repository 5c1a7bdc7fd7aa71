"""Directories and files that only this user may write, and a check of both whenever they are opened.

The umask does not matter here: every directory this library makes is ``0700`` and every file ``0600``. What is already
there is checked, since another user of the host could otherwise replace a key, an event or an unfinished export.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from audit_logging.mounts import is_read_only

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600

_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class NotPrivateError(PermissionError):
    """A directory or file that another user owns, or may write.

    ``strerror`` says what is wrong with it and how to correct that.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(errno.EACCES, why, str(path))


def private_directory(directory: Path, *, within: Path | None = None) -> None:
    """Make *directory* and its missing parents with mode 0700, and check that only this user can write it.

    A directory of this user that others can read is closed to them. One that others can write is refused, and not
    merely closed: its contents may already be theirs.

    Args:
        directory: What to make and check.
        within: Check every directory from this one down to *directory*, both included. Below it, a symbolic link is
            refused too.

    Raises:
        NotPrivateError: A directory belongs to another user, is a symbolic link, or can be written by others.
        OSError: It cannot be made.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> home = Path(tempfile.mkdtemp())
        >>> private_directory(home / "a" / "b", within=home)
        >>> oct((home / "a").stat().st_mode & 0o777)
        '0o700'
    """
    make_directory(directory)
    for each in _lineage(directory, within):
        found = each.lstat() if within is not None and each != within else each.stat()
        _check_directory(each, found)
        if found.st_uid == os.geteuid() and found.st_mode & _OPEN_TO_OTHERS and each != within:
            each.chmod(DIRECTORY_MODE)


def check_private_directory(directory: Path, *, within: Path | None = None) -> None:
    """Check like :func:`private_directory` without making or changing anything; a missing directory passes.

    Root may look at what belongs to any user.

    Raises:
        NotPrivateError: A directory belongs to another user, is a symbolic link, or can be written by others.
    """
    for each in _lineage(directory, within):
        with contextlib.suppress(FileNotFoundError):
            found = each.lstat() if within is not None and each != within else each.stat()
            _check_directory(each, found, any_owner=True)


def check_parents(path: Path) -> None:
    """Check that no other user can put another file in the place of *path*, or add one next to it.

    The directory of *path* must be writable by its owner alone. A directory above it may be writable by all where the
    sticky bit protects what is in it, as in ``/tmp``, and by the group that bears its owner's number. The directory
    itself may be so too where it is mounted read-only and root owns it and *path*, as a Kubernetes Secret is.

    Raises:
        NotPrivateError: A directory is writable by others.
    """
    for name in {path.absolute(), path.resolve()}:  # a symbolic link is as safe as the directory that holds it
        for parent in name.parents:
            try:
                found = parent.stat()
            except FileNotFoundError:
                continue
            is_nearest = parent == name.parent
            if _can_be_swapped(found, is_nearest=is_nearest) and not (is_nearest and _is_sealed(name, found)):
                raise NotPrivateError(
                    path,
                    f"others can write {parent} and replace what is in it: {_closing(parent, found, 'go-w')}"
                    " or choose a place that no one else can write",
                )


def _is_sealed(path: Path, directory: os.stat_result) -> bool:
    """Whether nothing in a directory that all may write can be changed from here, and root put *path* there.

    The kubelet gives the directory of a Secret mode 1777 and mounts it read-only. The sticky bit keeps what is root's
    from being replaced through another mount; what others have added there is not root's.
    """
    if directory.st_uid != 0 or not directory.st_mode & stat.S_ISVTX or not is_read_only(path.parent):
        return False
    return not os.path.lexists(path) or path.lstat().st_uid == path.stat().st_uid == 0


def _closing(directory: Path, found: os.stat_result, mode: str) -> str:
    """Return how to close *directory* to others, which only its owner can do."""
    by = "" if os.geteuid() in {found.st_uid, 0} else " as its owner"
    return f"check what is in it, then run `chmod {mode} {directory}`{by},"


def _can_be_swapped(found: os.stat_result, *, is_nearest: bool) -> bool:
    if is_nearest:
        return bool(found.st_mode & _WRITABLE_BY_OTHERS)
    if found.st_mode & stat.S_ISVTX:
        return False
    is_shared_group = found.st_uid == os.geteuid() and found.st_gid != found.st_uid  # else one user's own, or root's
    return bool(found.st_mode & (stat.S_IWOTH | (stat.S_IWGRP if is_shared_group else 0)))


def open_private(path: Path, flags: int, *, secret: bool = False) -> int:
    """Open a file of this user with *flags*, and return its descriptor.

    With ``os.O_CREAT`` a new file gets mode 0600. Never blocks, as opening a named pipe would, and follows no symbolic
    link at the end of *path*.

    Args:
        path: The file.
        flags: Of :func:`os.open`.
        secret: Others must not be able to read it either.

    Raises:
        NotPrivateError: It is a link or no regular file, belongs to another user, has a second name, or can be written
            by others.
        OSError: It cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR}:
            raise NotPrivateError(path, _unlike("is not a regular file")) from None
        raise
    found = os.fstat(descriptor)
    why = why_not_private(found)
    if secret and not why and found.st_mode & _OPEN_TO_OTHERS:
        why = "can be read by others"
    if why:
        os.close(descriptor)
        raise NotPrivateError(path, _unlike(why))
    return descriptor


def read_private(path: Path, most: int = -1) -> bytes:
    """Return the content of a file that :func:`open_private` accepts, or its first *most* bytes.

    Raises:
        OSError: It cannot be opened or read.
    """
    with os.fdopen(open_private(path, os.O_RDONLY), "rb") as file:
        return file.read(most)


def read_trusted(path: Path, most: int = 1 << 20) -> bytes:
    """Return the content of a small file that only its owner can write, such as a key; links are followed.

    Raises:
        NotPrivateError: It is no regular file, is larger than *most* bytes, or can be written by others.
        OSError: It cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NotPrivateError(path, "it is not a regular file")
        if found.st_mode & _WRITABLE_BY_OTHERS:
            raise NotPrivateError(path, f"others can write it: check it, then run `chmod go-w {path}`")
        if found.st_size > most:
            raise NotPrivateError(path, f"it is larger than {most:,} bytes")
        return file.read(most)


def why_not_private(found: os.stat_result) -> str:
    """Return why a file cannot be trusted to hold what this user wrote; an empty text when it can.

    Args:
        found: Of the open file, so that nobody can put another in its place afterwards.
    """
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if found.st_uid != os.geteuid():
        return f"belongs to another user (uid {found.st_uid})"
    if found.st_nlink > 1:
        return "has a second name (hard link)"
    if found.st_mode & _WRITABLE_BY_OTHERS:
        return "can be written by others"
    return ""


def _unlike(why: str) -> str:
    return f"it {why}: remove it, or choose a directory that only this user can write"


def make_directory(directory: Path) -> None:
    """Make *directory* and its missing parents with mode 0700, whatever the umask; existing ones stay as they are.

    Raises:
        OSError: One cannot be made, or *directory* is something else.
    """
    missing = []
    for each in (directory, *directory.parents):
        if os.path.lexists(each):
            break
        missing.append(each)
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process made it meanwhile
            each.mkdir(mode=DIRECTORY_MODE)
            if stat.S_IMODE(each.stat().st_mode) & stat.S_IRWXU != DIRECTORY_MODE:  # the umask took its own rights
                each.chmod(DIRECTORY_MODE)
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))


def _lineage(directory: Path, within: Path | None) -> list[Path]:
    """Return *directory* and its parents up to *within*, outermost first."""
    if within is None or not directory.is_relative_to(within):
        return [directory]
    steps = directory.relative_to(within).parts
    return [within.joinpath(*steps[:count]) for count in range(len(steps) + 1)]


def _check_directory(path: Path, found: os.stat_result, *, any_owner: bool = False) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise NotPrivateError(path, f"{path} is a symbolic link: replace it by a directory")
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if found.st_uid not in {os.geteuid(), 0} and not (any_owner and os.geteuid() == 0):
        raise NotPrivateError(path, f"{path} belongs to another user (uid {found.st_uid}): run as that user")
    if found.st_mode & _WRITABLE_BY_OTHERS:
        raise NotPrivateError(
            path, f"others can write {path}: {_closing(path, found, '700')} or choose a directory below it"
        )
