"""One finding of the doctor, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "problem", "skipped"]


@dataclass(frozen=True)
class Check:
    """What was looked at and what was found.

    Attributes:
        name: What was looked at, in a word or two; the same at every run.
        verdict: ``"ok"``; ``"warning"`` (a promise is weaker than it could be); ``"problem"`` (a promise is broken, or
            will be); ``"skipped"`` (could not be looked at; the sentence says why).
        sentence: What was found.
        remedy: What to do about it; empty when there is nothing to do.

    Example:
        >>> Check("stream", "problem", "The stream does not exist.", "Run `audit-logging setup`.").verdict
        'problem'
    """

    name: str
    verdict: Verdict
    sentence: str
    remedy: str = ""
