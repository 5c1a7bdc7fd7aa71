"""How retention stands, for a report: what is kept until when, and what is wrong with that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from audit_logging.errors import AuditError, CredentialsError

if TYPE_CHECKING:
    from audit_logging.opensearch.retention_verify import RetentionVerification
    from audit_logging.settings import Settings


@dataclass(frozen=True)
class RetentionStatus:
    """What was found, or why nothing was.

    Attributes:
        found: What ``retention verify`` finds; None: it could not look.
        trouble: Why not, in one sentence that names no address: a report may go anywhere.
    """

    found: RetentionVerification | None
    trouble: str = ""

    @classmethod
    def of(cls, settings: Settings) -> RetentionStatus:
        """Look at the stream of *settings*. Raises nothing: the rest of a report is there anyway."""
        from audit_logging.opensearch.admin import AuditAdmin

        try:
            with AuditAdmin(settings=settings) as admin:
                return cls(admin.verify_retention())
        except CredentialsError:
            return cls(None, "Whoever made this report was not allowed to look at it.")
        except AuditError as error:
            return cls(None, f"It could not be looked at ({type(error).__name__}).")


NOT_LOOKED_AT: Final = RetentionStatus(None, "It was not looked at.")
