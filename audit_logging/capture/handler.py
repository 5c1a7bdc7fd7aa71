"""The handler for applications that log with the standard library."""

from __future__ import annotations

import contextvars
import datetime as dt
import logging
from typing import Any

from audit_logging.capture.configuration import current_trail
from audit_logging.capture.context import isolated_context
from audit_logging.capture.processors import KEY, merge_context
from audit_logging.capture.tap import audit_facts, exception_of
from audit_logging.interrupts import is_interrupt

RECORDED = "log.recorded"
"""The event type of a record that carries none, where every record is wanted."""

_CALL = "_audit_call"
"""Attribute of a log record that holds what its call knew. Formatters leave out names that begin with an underscore."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", _CALL}
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
        _remember_calls()
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
        if "timestamp" not in facts:
            facts["timestamp"] = _moment(record.created)
        call = record.__dict__.get(_CALL)
        if call is None:  # the record was made before there was a handler, or by another factory
            current_trail().emit(event_type, facts, durability)
        else:
            call.emit(event_type, facts, durability)


class _Call:
    """What the call behind a log record knew: its context, and its text and exception before any formatter.

    ``QueueHandler`` and ``MemoryHandler`` hand records to other threads, in whose context the event would name the
    wrong person or none; ``QueueHandler`` puts the traceback into the text.
    """

    __slots__ = ("_context", "_facts", "arguments", "error", "text")

    def __init__(self, record: logging.LogRecord) -> None:
        self._context: contextvars.Context | None = contextvars.copy_context()
        self._facts: dict[str, Any] = {}
        self.text, self.arguments = record.msg, record.args
        self.error = exception_of(record.exc_info)

    def emit(self, event_type: Any, facts: dict[str, Any], durability: Any) -> None:
        """Emit an event in the context of the call."""
        if self._context is None:  # it came from another process
            with isolated_context(**self._facts):
                current_trail().emit(event_type, facts, durability)
        else:
            # A context can be entered once at a time, and several handlers may take one record.
            self._context.copy().run(current_trail().emit, event_type, facts, durability)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the facts as plain values: a record that a queue takes to another process must not fail for them."""
        known = self._facts if self._context is None else self._context.copy().run(_context_facts)
        return _restored_call, ({name: _plain(value) for name, value in known.items()},)


def _restored_call(facts: dict[str, Any]) -> _Call:
    call = _Call(logging.makeLogRecord({}))
    call._context, call._facts = None, facts  # noqa: SLF001 - its own constructor
    return call


def _context_facts() -> dict[str, Any]:
    return dict(merge_context(None, "info", {}))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return str(value)


def _remember_calls() -> None:
    """Make every log record of this process remember its call; once, around the factory that is there."""
    make = logging.getLogRecordFactory()
    if getattr(make, _CALL, False):
        return

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.__dict__[_CALL] = _Call(record)
        return record

    setattr(factory, _CALL, True)
    logging.setLogRecordFactory(factory)


def _moment(seconds: float) -> dt.datetime | float:
    try:
        return dt.datetime.fromtimestamp(seconds, tz=dt.timezone.utc)
    except (ValueError, OverflowError, OSError):  # no year of four digits; the event says what was given
        return seconds


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    extra = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
    if isinstance(record.msg, dict):  # structlog's ProcessorFormatter.wrap_for_formatter
        return audit_facts({**record.msg, **extra})
    facts, call = extra, record.__dict__.get(_CALL)
    text, arguments, error = record.msg, record.args, exception_of(record.exc_info)
    if error is None and call is not None and call.error is not None:  # a QueueHandler took it out and into the text
        text, arguments, error = call.text, call.arguments, call.error
    try:
        facts.setdefault("message", str(text) % arguments if arguments else str(text))
    except Exception as failure:  # arguments that do not fit the format are the caller's mistake, not a lost event
        if is_interrupt(failure):
            raise
        facts.setdefault("message", str(text))
        facts["log_arguments"] = arguments
    if error is not None:
        facts["exception"] = error
    return facts
