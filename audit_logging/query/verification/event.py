"""The event by which the trail knows of its verification."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from audit_logging.errors import AuditError
from audit_logging.query.access import reader_identity, recording_trail

if TYPE_CHECKING:
    from audit_logging.query.filter import Filter
    from audit_logging.query.verification.report import VerifyReport
    from audit_logging.settings import Settings

VERIFIED: Final = "audit.verified"

MOST_FINDINGS: Final = 20
"""Findings that the event repeats; it is no place for thousands."""

SHIPPING_SECONDS: Final = 2.0
"""How long shipping may take: whoever may only read leaves the event in the spool."""

_log = logging.getLogger("audit_logging")


def record_verification(report: VerifyReport, filter_: Filter, settings: Settings, *, from_last: bool) -> None:
    """Emit ``audit.verified`` into the trail that was verified.

    The trail of this process takes it where that is the one; else a writer of its own does, for this one event. Where
    neither can, the application's log says so: what was found is worth more than the event.
    """
    facts = {**reader_identity(settings), **_facts(report, filter_, settings, from_last=from_last)}
    try:
        with recording_trail(settings, SHIPPING_SECONDS) as trail:
            trail.emit(VERIFIED, facts, "process")
    except AuditError as error:
        _log.error("The trail could not be told of its verification: %s", error)


def _facts(report: VerifyReport, filter_: Filter, settings: Settings, *, from_last: bool) -> dict[str, Any]:
    found = Counter(finding.kind for finding in report.findings)
    metadata = {
        "resource": settings.stream,
        "filter": filter_.model_dump(mode="json", exclude_none=True),
        "from_last": from_last,
        "scope": report.scope,
        "record_count": report.events,
        "writers": report.writers,
        "keys": list(report.keys),
        "findings": dict(sorted(found.items())),
        "examples": [finding.sentence for finding in report.findings[:MOST_FINDINGS]],
    }
    if report.ok:
        return {"outcome": "success", "message": "The trail was verified: nothing was found", "metadata": metadata}
    sentence = f"The trail was verified: {len(report.findings):,} findings"
    return {"outcome": "failure", "message": sentence, "reason": ", ".join(sorted(found)), "metadata": metadata}
