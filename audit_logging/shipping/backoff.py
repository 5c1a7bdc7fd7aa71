"""How long to wait before the next attempt."""

from __future__ import annotations

import random

FIRST_SECONDS = 0.25
LONGEST_SECONDS = 30.0


class Backoff:
    """Exponential delays with full jitter, so that many processes do not come back at the same moment.

    Example:
        >>> backoff = Backoff()
        >>> 0 <= backoff.next() <= 0.25 and 0 <= backoff.next() <= 0.5
        True
    """

    def __init__(self) -> None:
        self.attempts = 0

    def next(self) -> float:
        """Return the next delay, in seconds."""
        ceiling = min(FIRST_SECONDS * 2 ** min(self.attempts, 20), LONGEST_SECONDS)
        self.attempts += 1
        return random.uniform(0, ceiling)  # noqa: S311 - jitter is no secret

    def reset(self) -> None:
        """Begin anew after a success."""
        self.attempts = 0
