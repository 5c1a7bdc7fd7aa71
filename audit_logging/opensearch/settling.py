"""Waiting for shards that are on their way.

For a moment after a rollover the new write index has no shard that answers, and for a moment before an index is deleted
it has none any more. A search in just that moment is answered with a 503 that asking again cures.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

from audit_logging.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = TypeVar("Answer")

SETTLE_SECONDS: Final = 5.0
"""A shard that opens takes some hundredths of a second; what lasts longer than this is trouble, and is told."""

_POLL_SECONDS: Final = 0.05
_UNAVAILABLE: Final = 503


def settled(search: Callable[[], Answer]) -> Answer:
    """Return what *search* returns once all shards are there.

    Raises:
        RefusedError: Shards were missing for ``SETTLE_SECONDS``, or something else is wrong.
    """
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            return search()
        except RefusedError as error:
            if not _is_opening(error) or time.monotonic() > end:
                raise
        time.sleep(_POLL_SECONDS)


def _is_opening(error: RefusedError) -> bool:
    if error.status != _UNAVAILABLE or error.error_type != "search_phase_execution_exception":
        return False
    detail = error.body["error"] if isinstance(error.body, dict) else {}
    cause = detail.get("caused_by") or {}
    return cause.get("type") != "too_many_buckets_exception"  # a 503 too, and the same one next time
