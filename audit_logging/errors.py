"""Every error this library raises, one tree, branched by what the caller can do about it.

    AuditError
    ├── SettingsError              mend a setting; the program should not start
    ├── ContextError               facts were to be bound where no scope is open
    ├── EventError                 this one call was wrong (tests and strict applications only)
    │   └── InvalidEventError
    ├── DurabilityError            an emit call could not keep its promise
    │   ├── SpoolFullError
    │   ├── SpoolWriteError
    │   └── NotIndexedError
    ├── OpenSearchError            the server cannot be reached, or said no
    │   ├── UnreachableError
    │   └── RefusedError
    │       ├── CredentialsError
    │       └── NotFoundError
    ├── QueryError                 the question was malformed, or the answer incomplete
    │   ├── FilterError
    │   ├── IncompleteResultError
    │   └── ProofError
    ├── ExportNotRecordedError     an export is complete, and the trail does not know of it
    ├── EventFileError             a file of events cannot be read
    ├── HoldError                  a legal hold is described wrongly, or there is none such
    ├── ArchiveError               an archive is not what its manifest says, or cannot be made so
    └── LocalServerError           the laptop server cannot be fetched, started or stopped
        └── LocalServerOptionError it was asked for wrongly

Messages say what happened, to what, and what to do. Facts are attributes, never positions in ``args``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self


class Keyword(str):
    """The name of a setting, condition or argument inside a message, spelled as in Python.

    The command line and the REST interface replace it with the option or parameter that their users know.

    Attributes:
        name: The keyword alone.
        example: A value that the message suggests for it, or None.
    """

    __slots__ = ("example", "name")

    name: str
    example: str | None

    def __new__(cls, name: str, spelling: str | None = None, *, example: str | None = None) -> Self:  # noqa: D102
        self = super().__new__(cls, spelling or (name if example is None else f"{name}={example!r}"))
        self.name, self.example = name, example
        return self


class AuditError(Exception):
    """The root: catch this to catch everything of ours.

    Attributes:
        parts: The message in pieces; those that are a :class:`Keyword` name one.
    """

    exit_code: ClassVar[int] = 2
    """What the command line exits with when this error ends it."""

    def __init__(self, *parts: str) -> None:
        super().__init__("".join(parts))
        self.parts = parts

    def spelled(self, spell: Callable[[Keyword], str]) -> str:
        """Return the message with each keyword replaced by what *spell* returns for it."""
        return "".join(spell(part) if isinstance(part, Keyword) else part for part in self.parts)


class SettingsError(AuditError):
    """A setting is missing, malformed or contradicts another."""


class ContextError(AuditError):
    """Facts were to be bound to a context, and none is open around the call."""


class EventError(AuditError):
    """An event was described wrongly by the code that emits it."""


class InvalidEventError(EventError):
    """Values did not validate and ``on_invalid="raise"`` asked to hear of it.

    Attributes:
        event_type: The event type in dotted form.
        fields: The names of the keywords that did not validate.
    """

    def __init__(self, event_type: str, fields: tuple[str, ...], detail: str) -> None:
        super().__init__(
            f"{event_type}: {detail}. Mend the call, or set on_invalid='record' to keep such values"
            " in the event, named in audit.invalid."
        )
        self.event_type = event_type
        self.fields = fields


class DurabilityError(AuditError):
    """An emit call could not keep the promise its durability makes.

    Attributes:
        event_id: The id of the event.
        state: Where the event is: ``"refused"`` (not accepted at all) or ``"spooled"`` (on disk, will ship).
    """

    exit_code = 4

    def __init__(self, message: str, *, event_id: str | None, state: str) -> None:
        super().__init__(message)
        self.event_id = event_id
        self.state = state


class SpoolFullError(DurabilityError):
    """The spool is at its size limit and stayed there for as long as the call may block."""


class SpoolWriteError(DurabilityError):
    """The disk refused the write (full, read-only, failing)."""


class NotIndexedError(DurabilityError):
    """``durability="indexed"`` was asked for and OpenSearch did not acknowledge in time. The event still ships."""


class OpenSearchError(AuditError):
    """OpenSearch cannot be reached, or refused the request."""

    exit_code = 3


class UnreachableError(OpenSearchError):
    """No answer: nothing listens, the network broke, TLS failed or the time ran out.

    Attributes:
        was_sent: Whether the request may have been received, and so may have been carried out.
    """

    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class RefusedError(OpenSearchError):
    """The server answered with an error.

    Attributes:
        status: The HTTP status.
        error_type: OpenSearch's ``error.type``, or an empty string.
        reason: OpenSearch's ``error.reason``, or an excerpt of the body.
        body: The decoded answer, for callers that must look closer.
        retry_after_seconds: How long the server asks us to stay away (``Retry-After``), if it does.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        error_type: str,
        reason: str,
        body: Any = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.reason = reason
        self.body = body
        self.retry_after_seconds = retry_after_seconds


class CredentialsError(RefusedError):
    """401 or 403: the credentials are missing, wrong, or do not allow this."""


class NotFoundError(RefusedError):
    """404: the stream, index, policy or document does not exist."""


class AnswerTooLargeError(OpenSearchError):
    """The answer is larger than whoever asked would take, and was not read: ask for fewer events at a time."""


class QueryError(AuditError):
    """A question to the trail could not be answered."""


class FilterError(QueryError):
    """A filter, time or cursor is malformed."""


class IncompleteResultError(QueryError):
    """Shards failed or time ran out, so the answer would have been partial and is not given."""

    exit_code = 3


class ProofError(QueryError):
    """There is no proof of that event: its chain does not hold, or nothing behind it is signed yet."""

    exit_code = 1


class ExportNotRecordedError(AuditError):
    """An export was written, but the event that tells of it could not be kept.

    Attributes:
        report: What was written, an :class:`~audit_logging.query.results.ExportReport`.
    """

    exit_code = 4

    def __init__(self, message: str, *, report: Any) -> None:
        super().__init__(message)
        self.report = report


class ExportDamagedError(AuditError):
    """An export that was just written is not what its manifest says: the disk did not keep it."""

    exit_code = 4


class EventFileError(AuditError):
    """A file of events has a line that is not one.

    Attributes:
        line: The line's number, from 1; 0 when the file as a whole cannot be read.
    """

    def __init__(self, message: str, *, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class HoldError(AuditError):
    """A legal hold lacks what it needs, or there is no such hold in force."""


class ArchiveError(AuditError):
    """An archive could not be written, or is not what its manifest says. Nothing leaves on its account."""

    exit_code = 4


class LocalServerError(AuditError):
    """The local OpenSearch cannot be fetched, started, found or stopped."""

    exit_code = 3


class LocalServerOptionError(LocalServerError):
    """A version, size or name of a local server is malformed."""

    exit_code = 2
