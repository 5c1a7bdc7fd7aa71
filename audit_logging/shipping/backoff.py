"""How long to wait before the next attempt."""

from __future__ import annotations

import random

FIRST_SECONDS = 0.25
LONGEST_SECONDS = 30.0
LONGEST_ASKED_SECONDS = 300.0
"""How long a server's ``Retry-After`` is obeyed at most: it may be wrong, or a date of another clock."""

_chance = random.SystemRandom()
"""Not the numbers of the module, which are the application's: it may have seeded them, and counts on their order."""


class Backoff:
    """Exponential delays with full jitter, so that many processes do not come back at the same moment.

    Example:
        >>> backoff = Backoff()
        >>> 0 <= backoff.next() <= 0.25 and 0 <= backoff.next() <= 0.5
        True
    """

    def __init__(self) -> None:
        self.attempts = 0

    def next(self, asked_seconds: float | None = None) -> float:
        """Return the next delay, in seconds.

        Args:
            asked_seconds: What the server asks for; the jitter comes on top.
        """
        ceiling = min(FIRST_SECONDS * 2 ** min(self.attempts, 20), LONGEST_SECONDS)
        self.attempts += 1
        jitter = _chance.uniform(0, ceiling)
        return jitter + min(asked_seconds or 0.0, LONGEST_ASKED_SECONDS)

    def reset(self) -> None:
        """Begin anew after a success."""
        self.attempts = 0
