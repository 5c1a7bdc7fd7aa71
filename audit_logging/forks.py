"""What every process needs of its own: it is begun anew in a forked child, whoever forked it.

Python calls :func:`begin_anew` in the children that Python forks. Servers written in C (uWSGI) fork without telling
Python, so whoever uses something of the process's own asks first::

    if not same_process[0]:
        begin_anew()
"""

from __future__ import annotations

import logging  # noqa: F401 - registers what it does before a fork; see below
import os
import threading
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PAGESIZE, mmap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_WIPE_ON_FORK: Final = 18
"""MADV_WIPEONFORK, for which Python has no name. Source: madvise(2); Linux since 4.14."""


class _ByProcessId:
    """Stands in where the kernel wipes no page; takes some 100 ns instead of 10."""

    def __init__(self) -> None:
        self._process = os.getpid()

    def __getitem__(self, _: int) -> int:
        return self._process == os.getpid()

    def __setitem__(self, _place: int, _value: int) -> None:
        self._process = os.getpid()


def _mark() -> mmap | _ByProcessId:
    """Return what holds 1 in the process that wrote it and 0 in all its children."""
    page = mmap(-1, PAGESIZE, flags=MAP_PRIVATE | MAP_ANONYMOUS)
    try:
        page.madvise(_WIPE_ON_FORK)
    except OSError:
        page.close()
        return _ByProcessId()
    page[0] = 1
    return page


same_process: Final = _mark()
"""``same_process[0]`` is false in a forked child, until :func:`begin_anew`."""

_beginnings: list[Callable[[], object]] = []
_locks: dict[int, threading.RLock] = {}


def in_children(begin: Callable[[], object]) -> Callable[[], object]:
    """Call *begin* in every child, after those that were given before, and before it uses what it has of its parent.

    For ever; so *begin* belongs to a module. Works as a decorator.
    """
    _beginnings.append(begin)
    return begin


def begin_anew() -> None:
    """Begin anew, unless it is done already in this process. Threads that come meanwhile wait."""
    # A lock by process: the parent's may be held by one of its threads, for ever as this child sees it.
    with _locks.setdefault(os.getpid(), threading.RLock()):
        if not same_process[0]:
            for begin in _beginnings:
                begin()
            same_process[0] = 1


_undivided = threading.RLock()


def undivided() -> threading.RLock:
    """Return the lock to hold over what a fork, by Python, must not find half done. Forks wait for it."""
    return _undivided


def _before() -> None:
    if not same_process[0]:  # what is held here now was held by a thread of the parent
        begin_anew()
    _undivided.acquire()


def _after_in_parent() -> None:
    _undivided.release()


@in_children
def _renew_lock() -> None:
    global _undivided
    _undivided = threading.RLock()


# What runs before a fork runs in the reverse order of its registration. That of logging is registered already (see the
# import), so a fork waits here before it takes the lock of logging, which whoever holds this one may be waiting for.
os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=begin_anew)
