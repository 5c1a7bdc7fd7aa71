"""The typed calls: for each event type a method with its own keywords, ``log.user_login(method="totp")``.

They are made from the catalogue when first used. The stub beside this file tells type checkers and editors the same;
it is generated from the same catalogue (``make docs``) and a test holds the two together.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from audit_logging.events.catalogue import CATALOGUE
from audit_logging.events.models import CommonFields

if TYPE_CHECKING:
    from collections.abc import Callable

    from audit_logging.events.catalogue import EventType


class TypedCalls:
    """Gives its heirs, which have an ``_emit``, the typed call of every event type, registered ones included."""

    __slots__ = ()

    def _emit(self, event_type: str, facts: dict[str, Any], durability: str | None) -> str:
        """Emit one event; *facts* are not used any more afterwards."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Callable[..., str]:
        event_type = CATALOGUE.by_call(name)
        if event_type is None:
            raise AttributeError(_no_such_call(name))
        call = typed_call(event_type)
        setattr(TypedCalls, name, call)  # from now on an ordinary method
        bound: Callable[..., str] = call.__get__(self)
        return bound

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(event_type.call for event_type in CATALOGUE if not event_type.internal)]


def typed_call(event_type: EventType) -> Any:
    """Return the method that emits *event_type*.

    Without a required keyword it raises TypeError, like any function.
    """
    name, required = event_type.name, frozenset(event_type.required)

    def call(self: TypedCalls, *, durability: str | None = None, **facts: Any) -> str:
        if required and (missing := required - facts.keys()):
            raise TypeError(f"{event_type.call}() is missing the keywords {', '.join(sorted(missing))}")
        return self._emit(name, facts, durability)

    call.__name__ = event_type.call
    call.__qualname__ = f"AuditLogger.{event_type.call}"
    call.__doc__ = f"Emit ``{name}``: {event_type.sentence}. Returns the event's id."
    call.__signature__ = signature(event_type)  # type: ignore[attr-defined]
    return call


def signature(event_type: EventType) -> inspect.Signature:
    """Return the keywords of a typed call: its own (required ones first), the common ones, then any other."""
    own = event_type.fields.model_fields
    keyword_only = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    parameters += [inspect.Parameter(field, keyword_only) for field in event_type.required]
    optional = [field for field in own if field not in event_type.required]
    optional += [field for field in CommonFields.model_fields if field not in own]
    parameters += [inspect.Parameter(field, keyword_only, default=None) for field in (*optional, "durability")]
    parameters.append(inspect.Parameter("metadata_fields", inspect.Parameter.VAR_KEYWORD))
    return inspect.Signature(parameters, return_annotation=str)


def _no_such_call(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, [event_type.call for event_type in CATALOGUE if not event_type.internal], n=1)
    hint = f"did you mean {close[0]!r}?" if close else "use emit(), or register the type first."
    return f"the audit logger has no call {name!r}; {hint}"
