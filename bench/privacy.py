"""What it costs to look for secrets in free text, and to seal two fields of personal data."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from audit_logging.privacy.protection import Protection
from audit_logging.privacy.redaction import SecretKeys
from audit_logging.privacy.secrets import SecretText
from audit_logging.privacy.subjects import SubjectKeys
from bench.measuring import Row, take_turns

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 11
CALLS = 1000
TEXT = (
    "The administrator changed the retention of the shop's order archive from 30 to 90 days, after the review of the"
    " quarter and with the consent of the data protection officer; see ticket: 4711. Before that the request had been"
    " refused twice, because the form was incomplete and the second signature was missing. The new setting applies from"
    " the first of next month, and the archive of last year stays as it is until then. Orders under dispute are"
    " kept beyond that, as agreed with the legal department."
)[:500]
MOST_MICROSECONDS = {"secrets in 500 bytes of free text": 10.0, "sealing two fields": 12.0}


def measure() -> Iterator[Row]:
    """Measure both."""
    with tempfile.TemporaryDirectory() as folder:
        protection = Protection(SubjectKeys(Path(folder) / "keys.sqlite"))
        mask = SecretText(SecretKeys()).mask

        def seal_two() -> None:
            protection.seal("bob@example.com", subject="u-42")
            protection.seal("Bob Example", subject="u-42")

        calls = zip(MOST_MICROSECONDS, (lambda: mask(TEXT), seal_two), strict=True)
        costs = take_turns(dict(calls), rounds=ROUNDS, calls=CALLS)
    for name, found in costs.items():
        microseconds = statistics.median(cost.cpu for cost in found) * 1e6
        most = MOST_MICROSECONDS[name]
        yield Row(name, f"{microseconds:6.1f} µs", f"at most {most:g} µs", microseconds <= most)
