"""Personal data on the way to and from the stream: searched by its tokens, and opened for whoever has the key store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_logging.events.document import PATHS
from audit_logging.privacy.policy import open_protection
from audit_logging.privacy.protection import PREFIX
from audit_logging.query.dsl import any_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from audit_logging.query.dsl import Query
    from audit_logging.query.exchange import Answer
    from audit_logging.settings import Settings

METADATA = "audit.metadata"


class ProtectedFields:
    """Knows which fields of a stream are protected, and speaks of them as the stream does.

    Args:
        settings: ``erasable_fields``, ``pseudonym_fields`` and the key store.
    """

    def __init__(self, settings: Settings) -> None:
        self._protection = open_protection(settings)
        names = settings.erasable_fields | settings.pseudonym_fields
        self._fields = {".".join(PATHS[name]) if name in PATHS else f"{METADATA}.{name}" for name in names}
        self._fields.add("related.user")

    @classmethod
    def of(cls, settings: Settings) -> ProtectedFields | None:
        """Return them; None where no field is protected, or the key store is not here."""
        if not settings.erasable_fields | settings.pseudonym_fields or not settings.subject_keys_path.exists():
            return None
        return cls(settings)

    def asked(self, body: Mapping[str, Any], *, also_plain: bool = True) -> Mapping[str, Any]:
        """Return a request's body that finds protected values.

        Args:
            body: The body.
            also_plain: Whether it finds the same values where they are stored as they are, too.
        """
        return {**body, "query": self._found(body["query"], also_plain)} if "query" in body else body

    def answered(self, answer: Answer) -> Answer:
        """Return an answer whose events are readable; what was erased is read as ``[erased]``."""
        for hit in answer.get("hits", {}).get("hits", ()):
            if "_source" in hit:
                hit["_source"] = self._protection.open_all(hit["_source"])
        return answer

    def open(self, text: str) -> str:
        """Return *text* readable."""
        return self._protection.open(text)

    def _found(self, query: Any, also_plain: bool) -> Any:
        if isinstance(query, list):
            return [self._found(part, also_plain) for part in query]
        if not isinstance(query, dict):
            return query
        for kind in ("term", "terms"):
            if set(query) == {kind} and len(query[kind]) == 1:
                return self._alternatives(query, also_plain, *next(iter(query[kind].items())))
        return {key: self._found(part, also_plain) for key, part in query.items()}

    def _alternatives(self, query: Query, also_plain: bool, field: str, given: Any) -> Query:
        if field not in self._fields:
            return query
        parts = [query] if also_plain else []
        for value in given if isinstance(given, list) else [given]:
            token = self._protection.value_token(str(value))
            parts.append({"wildcard": {field: {"value": f"{PREFIX}*:{token}:*"}}})
            parts.append({"term": {field: self._protection.pseudonym(str(value))}})
        return any_of(parts)
