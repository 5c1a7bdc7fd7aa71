"""The handler for applications that log with the standard library."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

from audit_logging.capture.configuration import current_trail
from audit_logging.capture.processors import KEY
from audit_logging.capture.tap import audit_facts, exception_of

RECORDED = "log.recorded"
"""The event type of a record that carries none, where every record is wanted."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_OWN_LOGGERS = ("audit_logging", "opensearch", "urllib3")


class AuditHandler(logging.Handler):
    """Takes log records that carry ``audit`` in their ``extra`` into the trail.

    ``logger.info("User logged in", extra={"audit": "user.login", "user_id": "u-42"})``. The other keys of ``extra`` are
    the keywords of the typed calls; the record's text becomes the message. ``audit`` is taken out of the record.

    Mind the level: the standard library's default is WARNING, and what a logger drops never reaches a handler.

    Args:
        level: As for any handler.
        every_record: Also take records without ``audit``, as ``log.recorded``.

    Example:
        >>> config = {
        ...     "version": 1,
        ...     "handlers": {"audit": {"class": "audit_logging.AuditHandler"}},
        ...     "root": {"level": "INFO", "handlers": ["audit"]},
        ... }
        >>> logging.config.dictConfig(config)  # doctest: +SKIP
    """

    def __init__(self, level: int | str = logging.NOTSET, *, every_record: bool = False) -> None:
        super().__init__(level)
        self.every_record = every_record

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record.

        Raises:
            DurabilityError: The trail could not take it; logging's habit of swallowing errors would lose the event.
        """
        # What the shipper and the HTTP client say of themselves must not feed the trail they serve.
        if record.name.partition(".")[0] in _OWN_LOGGERS:
            return
        facts = _facts(record)
        event_type = facts.pop(KEY, None)
        record.__dict__.pop(KEY, None)
        if event_type is None:
            if not self.every_record:
                return
            event_type = RECORDED
            facts |= {"level": record.levelname.lower(), "logger": record.name}
            facts.setdefault("outcome", "failure" if record.levelno >= logging.ERROR else "unknown")
        durability = facts.pop("durability", None)
        moment = dt.datetime.fromtimestamp(record.created, tz=dt.timezone.utc)
        facts.setdefault("timestamp", moment)
        current_trail().emit(event_type, facts, durability)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    extra = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
    if isinstance(record.msg, dict):  # structlog's ProcessorFormatter.wrap_for_formatter
        return audit_facts({**record.msg, **extra})
    facts = extra
    try:
        facts.setdefault("message", record.getMessage())
    except Exception:  # noqa: BLE001 - arguments that do not fit the format are the caller's mistake, not a lost event
        facts.setdefault("message", str(record.msg))
        facts["log_arguments"] = record.args
    error = exception_of(record.exc_info)
    if error is not None:
        facts["exception"] = error
    return facts
