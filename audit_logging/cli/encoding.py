"""Output on terminals and in pipes whose encoding has not every character."""

from __future__ import annotations

import codecs
import io
import sys
from typing import Final

HANDLER: Final = "audit_logging.plain"

_PLAIN: Final = {
    "…": "...",
    "–": "-",  # noqa: RUF001 - that is the character to replace
    "—": "-",
    "─": "-",
    "→": "->",
    **dict(zip("▁▂▃▄▅▆▇█", ".:-=+*%#", strict=True)),
}
"""What the commands themselves print, in ASCII."""


def never_fail() -> None:
    """Let standard output and error replace what their encoding lacks, instead of ending the command."""
    codecs.register_error(HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def is_utf8() -> bool:
    """Return whether standard output is UTF-8."""
    try:
        return codecs.lookup(sys.stdout.encoding or "utf-8").name == "utf-8"
    except LookupError:
        return False


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    shown = "".join(_PLAIN.get(char) or char.encode("ascii", "backslashreplace").decode() for char in missing)
    return shown, error.end
