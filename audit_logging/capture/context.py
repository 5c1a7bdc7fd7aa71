"""Facts that hold for a while: the user, the address, the request. Every event emitted meanwhile carries them.

They live in a context variable, so threads and asyncio tasks do not see each other's. structlog's own context
variables (``structlog.contextvars``) count too; what is given here wins over them, and the call itself over both.
"""

from __future__ import annotations

import contextvars
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from typing_extensions import ParamSpec

    Parameters = ParamSpec("Parameters")

Result = TypeVar("Result")

# The default is None and not a dictionary: a shared default would hand one task's user to all others.
_facts: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("audit_context", default=None)


@contextmanager
def context(**facts: Any) -> Iterator[None]:
    """Let every event within carry *facts*; keywords are those of the typed calls, others become metadata.

    Also a decorator. Contexts nest, the inner ones winning.

    Example:
        >>> with context(user_id="u-42", source_ip="203.0.113.7"):
        ...     current_facts()["user_id"]
        'u-42'
    """
    token = _facts.set({**(_facts.get() or {}), **facts})
    try:
        yield
    finally:
        _facts.reset(token)


def bind_context(**facts: Any) -> None:
    """Add *facts* to the innermost context around, wherever in the request they become known.

    Unlike setting a context variable, this is seen outside as well, up to that ``with``: a dependency that runs in a
    thread pool can name the user, and the middleware's event, emitted at the end, carries it. Without any context
    around it begins one that lasts as long as the thread or task.
    """
    around = _facts.get()
    if around is None:
        _facts.set(dict(facts))
    else:
        around.update(facts)


def carry_context(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Return *function* so that it runs in today's context, for executors, which do not carry it by themselves.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor() as pool, context(user_id="u-42"):
        ...     pool.submit(carry_context(lambda: current_facts()["user_id"])).result()
        'u-42'
    """
    snapshot = contextvars.copy_context()

    def carried(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        # A context can be entered once at a time; a copy serves each call.
        return snapshot.copy().run(function, *args, **kwargs)

    return carried


def current_facts() -> Mapping[str, Any]:
    """Return the facts of the contexts around."""
    return _facts.get() or {}
