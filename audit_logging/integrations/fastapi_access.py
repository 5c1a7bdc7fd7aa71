"""Who may read, and what of it: the answer of the application's own authorisation."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends

from audit_logging.capture.context import bind_context
from audit_logging.errors import ContextError
from audit_logging.query.filter import Filter

Id = str | int | UUID


@dataclass(frozen=True)
class Access:
    """What the application's authorisation grants to who asks.

    Attributes:
        user_id: Who reads; stands in the event of each reading.
        user_name: The name of who reads.
        organization_id: The tenant to which everything that is read is confined, or None: the whole trail.

    Raises:
        ValueError: An id is empty or of no such type; an empty tenant would be a mistake that lets anybody see all.

    Example:
        >>> Access(user_id="u-1", organization_id="acme").confinement
        {'organization_id': 'acme'}
    """

    user_id: Id
    user_name: str | None = None
    organization_id: Id | None = None

    def __post_init__(self) -> None:
        for name in ("user_id", "organization_id"):
            value = getattr(self, name)
            if value is None and name == "organization_id":
                continue
            if isinstance(value, bool) or not isinstance(value, Id) or not str(value):
                raise ValueError(f"Access needs a {name} that is not empty text, an integer or a UUID.")

    @property
    def confinement(self) -> dict[str, Any]:
        """The conditions that every question of this reader must have."""
        return {} if self.organization_id is None else {"organization_id": str(self.organization_id)}

    @property
    def identity(self) -> dict[str, Any]:
        """Who reads, as keywords of an event."""
        named = {"user_id": str(self.user_id), "user_name": self.user_name, **self.confinement}
        return {name: value for name, value in named.items() if value is not None}


def granted_by(access: Callable[..., Any]) -> Callable[..., Awaitable[Access]]:
    """Return the dependency that asks the application's own, *access*, and takes nothing but an :class:`Access`."""

    async def granted(access: Annotated[Any, Depends(access)]) -> Access:
        if not isinstance(access, Access):
            raise TypeError(f"The access dependency of audit_router returned {type(access).__name__}, not an Access.")
        with suppress(ContextError):  # there is a scope where the application has the middleware
            bind_context(**access.identity)
        return access

    return granted


def all_of(access: Callable[..., Any]) -> Callable[..., Filter]:
    """Return the dependency that gives the filter of all that *access* grants."""

    def where(access: Annotated[Access, Depends(access)]) -> Filter:
        return Filter.of(**access.confinement)

    return where
