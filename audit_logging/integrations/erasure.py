"""Erasing a person from the trail: the key is destroyed, and a certificate says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from audit_logging.capture.trail import Trail
from audit_logging.privacy.policy import open_protection
from audit_logging.query.access import reader_identity

if TYPE_CHECKING:
    from audit_logging.settings import Settings

ERASED = "audit.erased"


class Erasure(NamedTuple):
    """What an erasure did.

    Attributes:
        had_key: Whether there was a key to destroy; false when nothing of the person was protected, or no more.
        token: The person's token, which stands in the protected values and in the certificate.
        event_id: Id of the certificate event.
    """

    had_key: bool
    token: str
    event_id: str


def erase(settings: Settings, subject: str, *, reason: str | None = None, by: str | None = None) -> Erasure:
    """Make the protected values of *subject* unreadable for ever, everywhere, and record that.

    The certificate names the person by a token alone. It is emitted whether or not there was a key, so that an erasure
    which was interrupted can be repeated until its certificate is safe.

    Args:
        settings: The key store and the trail.
        subject: The id (or name, or address) that the events name the person by.
        reason: Why, for the certificate.
        by: Who asked for it; default: the account that runs this.

    Raises:
        SettingsError: The key store cannot be used.
        DurabilityError: The certificate could not be kept. The key is destroyed; repeat the call.
    """
    protection = open_protection(settings)
    token = protection.person_token(subject)
    had_key = protection.erase(subject)
    who = reader_identity(settings) if by is None else {"user_name": by}
    trail = Trail(settings)
    try:
        facts = {**who, "reason": reason, "metadata": {"subject_id": token, "had_key": had_key}}
        event_id = trail.emit(ERASED, facts, "disk")
    finally:
        trail.shutdown(settings.shutdown_timeout_seconds)
    return Erasure(had_key, token, event_id)
