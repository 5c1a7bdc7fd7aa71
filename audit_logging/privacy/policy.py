"""What of an event is personal or not wanted at all: sealed under a person's key, made a pseudonym, or left out.

It works on the keywords after validation and before anything is derived from them, so that the sentence, ``related.*``
and ``audit.changes`` hold the protected values as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from audit_logging.privacy.protection import Protection
    from audit_logging.settings import Settings

NOT_ALLOWED: Final = "[not allowed]"
"""Stands under a key of metadata that the event type's list does not name."""

_TARGETS: Final = ("target_user_id", "target_user_name")
_ACTORS: Final = ("user_id", "user_name", "user_email", "session_id")
_SUBJECTS: Final[Mapping[str, tuple[str, ...]]] = {
    "target_user_id": _TARGETS,
    "target_user_name": _TARGETS,
    "effective_user_id": ("effective_user_id",),
}
"""Whose key a keyword is sealed under: the first of these that the event has. For all others it is the actor's."""

_OWN: Final = "audit."
"""What the names of the library's own event types begin with."""

_NEGATION: Final = "not_"
_CONDITIONS: Final[Mapping[str, tuple[str, ...]]] = {"user": ("user_id", "user_name")}
"""The keywords that a condition of a filter looks in, where it is not called as they are."""

_PERSONS: Final = frozenset({"user_id", "target_user_id", "effective_user_id"})
"""Conditions whose values name the person whose key protects them."""


def open_protection(settings: Settings) -> Protection:
    """Return what seals and opens values with the key store of *settings*.

    Raises:
        SettingsError: The package `cryptography` is missing.
    """
    from audit_logging.privacy.protection import Protection
    from audit_logging.privacy.subjects import SubjectKeys

    return Protection(SubjectKeys(settings.subject_keys_path))


def privacy_policy(settings: Settings) -> PrivacyPolicy | None:
    """Return what *settings* ask for; None when that is nothing.

    Raises:
        SettingsError: The package `cryptography` is missing.
    """
    protected = settings.erasable_fields | settings.pseudonym_fields
    if not protected and not settings.allowed_metadata:
        return None
    return PrivacyPolicy(
        open_protection(settings) if protected else None,
        erasable=settings.erasable_fields,
        pseudonyms=settings.pseudonym_fields,
        allowed=settings.allowed_metadata,
    )


class PrivacyPolicy:
    """Protects the keywords of events.

    Args:
        protection: Seals values; None where no field is protected.
        erasable: Names of the keywords, keys of metadata and changed fields that are sealed under a person's key.
        pseudonyms: Names of those that are replaced by a keyed pseudonym.
        allowed: Event type to the keys of metadata that it may carry; other types may carry any.
    """

    def __init__(
        self,
        protection: Protection | None,
        *,
        erasable: Collection[str] = (),
        pseudonyms: Collection[str] = (),
        allowed: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self._protection = protection
        self._erasable = frozenset(erasable)
        self._pseudonyms = frozenset(pseudonyms)
        self._allowed = {event_type: frozenset(keys) for event_type, keys in (allowed or {}).items()}
        self.names = self._erasable | self._pseudonyms

    def concerns(self, event_type: str, names: Collection[str]) -> bool:
        """Tell whether :meth:`apply` could change an event of that type with those keywords."""
        return (
            event_type in self._allowed
            or not self.names.isdisjoint(names)
            or (bool(self.names) and event_type.startswith(_OWN))
        )

    def apply(self, event_type: str, valid: dict[str, Any], extra: dict[str, Any]) -> None:
        """Protect an event's keywords, in place.

        Args:
            event_type: Its name.
            valid: The validated keywords.
            extra: What becomes metadata.
        """
        metadata = valid.get("metadata")
        bags = [bag for bag in (metadata, extra) if bag]
        if (allowed := self._allowed.get(event_type)) is not None:
            for bag in bags:
                bag.update((key, NOT_ALLOWED) for key in bag.keys() - allowed)
        if not self.names:
            return
        whose = self._subject_of(valid)
        for bag in (valid, *bags):
            for name in self.names & bag.keys():
                bag[name] = self._protected(bag[name], name, whose(name))
        if metadata and event_type.startswith(_OWN) and isinstance(metadata.get("filter"), dict):
            metadata["filter"] = self.protect_filter(metadata["filter"])
        person = whose("target_user_id") or whose("user_id")
        for change in valid.get("changes") or ():
            for side in {"before", "after"} & change.keys() if change.get("field") in self.names else ():
                change[side] = self._protected(change[side], change["field"], person)

    def protect_filter(self, conditions: Mapping[str, Any]) -> dict[str, Any]:
        """Return the conditions of a filter with their values protected like the fields that they look in.

        A value that names a person is sealed under that person's key. Of any other it is not known whose key that
        would be, so that it becomes a pseudonym: it can be recognised by whoever has the key store, and not read.

        Args:
            conditions: As plain JSON values.
        """
        return {name: self._condition(name.removeprefix(_NEGATION), value) for name, value in conditions.items()}

    def _condition(self, name: str, value: Any) -> Any:
        if name == "metadata" and isinstance(value, dict):
            return {path: self._condition(path.partition(".")[0], each) for path, each in value.items()}
        # Free text may hold any of them.
        if name != "text" and self.names.isdisjoint(_CONDITIONS.get(name, (name,))):
            return value
        if isinstance(value, list):
            return [self._condition(name, each) for each in value]
        if not isinstance(value, str) or self._protection is None:
            return value
        if name in _PERSONS & self._erasable:
            return self._protection.seal(value, subject=value)
        return self._protection.pseudonym(value)

    @staticmethod
    def _subject_of(valid: Mapping[str, Any]) -> Callable[[str], str | None]:
        """Return whose key a name's value belongs to, by the values as they were before any was protected."""
        given = {name: valid[name] for name in (*_ACTORS, *_TARGETS, "effective_user_id") if name in valid}

        def whose(name: str) -> str | None:
            return next((given[each] for each in _SUBJECTS.get(name, _ACTORS) if each in given), None)

        return whose

    def _protected(self, value: Any, name: str, subject: str | None) -> Any:
        if isinstance(value, str):
            assert self._protection is not None
            if name in self._pseudonyms:
                return self._protection.pseudonym(value)
            # Without anybody it could belong to, the value is its own subject: `erase` finds it by that.
            return self._protection.seal(value, subject=subject if subject is not None else value)
        if isinstance(value, dict):
            return {key: self._protected(member, name, subject) for key, member in value.items()}
        if isinstance(value, list):
            return [self._protected(member, name, subject) for member in value]
        return self._protected(str(value), name, subject) if type(value) is int else value
