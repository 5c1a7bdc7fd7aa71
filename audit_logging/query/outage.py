"""Waiting until OpenSearch answers again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from audit_logging.errors import IncompleteResultError, RefusedError, UnreachableError

if TYPE_CHECKING:
    from types import TracebackType

OnWait = Callable[[Exception | None], None]
"""Told the error whenever OpenSearch could not answer, and None when it could again."""

_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500


class Outage:
    """A ``with`` block that an error which passes leaves quietly.

    Attributes:
        lasts: Whether the last block ended with such an error.
    """

    def __init__(self, told: OnWait | None) -> None:
        self.lasts = False
        self._told = told

    def __enter__(self) -> None:
        """Try."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            if self.lasts:
                self.lasts = False
                self._tell(None)
            return False
        if not isinstance(error, Exception) or not _passes(error):
            return False
        self.lasts = True
        self._tell(error)
        return True

    def _tell(self, error: Exception | None) -> None:
        if self._told is not None:
            self._told(error)


def _passes(error: Exception) -> bool:
    """Tell whether *error* may be over in a while: a restart, an overload, shards on their way."""
    if isinstance(error, RefusedError):
        return error.status == _TOO_MANY_REQUESTS or error.status >= _SERVER_ERROR
    return isinstance(error, (UnreachableError, IncompleteResultError))
