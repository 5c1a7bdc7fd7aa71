"""Why a server did not start: its log, condensed to what happened and what to do."""

from __future__ import annotations

import re

_REMEDIES = (
    (r"Address already in use|BindHttpException|BindTransportException", "another program took its port; try again"),
    (
        r"OutOfMemoryError|insufficient memory|Cannot allocate memory|Could not reserve enough space|Too small.*heap",
        "there is not enough memory for its heap; choose another size (--heap, heap=...) or close something",
    ),
    (r"No space left on device", "the disk is full; free some space or set AUDIT_HOME to another disk"),
    (r"AccessDeniedException|Permission denied", "its account cannot use a file; see the line above for which"),
    (r"unknown setting \[([^\]]+)\]", "it does not know the setting {0}; check settings=..."),
    (r"failed to obtain node locks", "another server uses the same data directory; stop that one first"),
)
_MEANINGFUL = re.compile(
    r"\[(ERROR|FATAL)|Exception|Error|Caused by|fatal|^Unrecognized|^Invalid|^Conflicting", re.MULTILINE
)
_NOISE = re.compile(r"^\s+at |^\s*\.\.\. \d+ more|uncaught exception in thread")
_ARGUMENTS = re.compile(r"^.*JVM arguments \[.*$", re.MULTILINE)
"""They name conditions (``ExitOnOutOfMemoryError``) that did not arise."""

LINES_SHOWN = 4
LINE_WIDTH = 300

KILLED = -9


def explain(version: str, log: str, *, exit_code: int | None) -> str:
    """Return one message: what happened, the log's meaningful lines, what to do.

    Args:
        version: The version of OpenSearch.
        log: What the server wrote during this start.
        exit_code: How it ended; ``None`` when it runs, but did not answer in time.
    """
    log = _ARGUMENTS.sub("", log)
    what = "did not answer in time" if exit_code is None else f"ended while starting (exit code {exit_code})"
    remedy = _remedy(log, exit_code)
    lines = _meaningful(log)
    shown = "".join(f"\n  {line[:LINE_WIDTH]}" for line in lines)
    return f"OpenSearch {version} {what}: {remedy}." + (f" Its log says:{shown}" if shown else "")


def is_port_clash(log: str) -> bool:
    """Tell whether another program took the port between our choice and the server's start."""
    return re.search(_REMEDIES[0][0], log) is not None


def _remedy(log: str, exit_code: int | None) -> str:
    for pattern, remedy in _REMEDIES:
        found = re.search(pattern, log)
        if found:
            return remedy.format(*found.groups())
    if exit_code == KILLED:
        return "something killed it, most often the system for want of memory; choose a smaller heap or close something"
    if exit_code is None:
        return "the machine may be too busy; try again, or give it longer (LocalServer(start_seconds=...))"
    return "mend what the log names, or try another version"


def _meaningful(log: str) -> list[str]:
    lines = [line.strip() for line in log.splitlines() if line.strip() and not _NOISE.search(line)]
    chosen = [line for line in lines if _MEANINGFUL.search(line)] or lines
    return list(dict.fromkeys(chosen))[-LINES_SHOWN:]
