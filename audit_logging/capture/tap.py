"""The tap: routes the marked events of an ordinary structlog chain into the trail and lets them pass on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_logging.capture.configuration import current_trail
from audit_logging.capture.processors import KEY

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_BOOKKEEPING = frozenset(
    "level level_number logger logger_name _logger _name timestamp exc_info stack_info _record _from_structlog"
    " positional_args filename func_name lineno module pathname process process_name thread thread_name stack"
    " exception".split()
)
"""What structlog's own processors add about the log call; the event has its own time and severity."""


class AuditProcessor:
    """A structlog processor: ``log.info("User logged in", audit="user.login", user_id="u-42")`` is an audit event.

    The key ``audit`` holds the event type and is taken out, as is ``durability``; all else goes on to the next
    processor. Place it before the renderer and after what adds context. An event's text becomes the message.

    Mind the level: an event that ``make_filtering_bound_logger`` drops never reaches a processor.

    Example:
        >>> import structlog
        >>> structlog.configure(processors=[AuditProcessor(), structlog.processors.JSONRenderer()])  # doctest: +SKIP
    """

    def __call__(self, logger: Any, method_name: str, event_dict: MutableMapping[str, Any]) -> Any:
        """Route one event when it is marked.

        Raises:
            DurabilityError: The trail could not take it.
        """
        event_type = event_dict.pop(KEY, None)
        if event_type is not None:
            durability = event_dict.pop("durability", None)
            current_trail().emit(event_type, audit_facts(event_dict), durability)
        return event_dict


def audit_facts(event_dict: MutableMapping[str, Any]) -> dict[str, Any]:
    """Return the facts in an event of an ordinary log: without the bookkeeping, the text as message."""
    facts = {key: value for key, value in event_dict.items() if key not in _BOOKKEEPING}
    if isinstance(facts.get("event"), str) and "message" not in facts:
        facts["message"] = facts.pop("event")
    error = exception_of(event_dict.get("exc_info"))
    if error is not None:
        facts["exception"] = error
    return facts


def exception_of(exc_info: Any) -> BaseException | None:
    """Return the exception that *exc_info*, in any of logging's forms, speaks of. No traceback: it may hold secrets."""
    import sys

    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1] if len(exc_info) > 1 else None
        return exc_info if isinstance(exc_info, BaseException) else None
    return sys.exc_info()[1] if exc_info else None
