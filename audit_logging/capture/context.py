"""Facts that hold for a while: the user, the address, the request. Every event emitted meanwhile carries them.

A *scope* is opened by :class:`context` or :class:`isolated_context`; the middleware opens one for each request. Facts
are never shared in place: what a task or thread binds lands in its own copy of the context, so only what it starts from
then on can see it, and it is gone when the scope ends.

There is one exception, because web frameworks run synchronous code for a request in worker threads: what such a thread
binds while a task waits for it is bound in that task's context as well (:class:`_Waiter`). structlog's own context
variables count too; what is given here wins over them, and the call itself over both.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast
from weakref import ref

from structlog.contextvars import get_contextvars

from audit_logging.errors import ContextError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
    from types import FrameType, TracebackType

    from typing_extensions import ParamSpec

    Parameters = ParamSpec("Parameters")
    Flow = asyncio.Task[Any] | int
    """What runs: the current asyncio task, else the thread, by its number."""

Result = TypeVar("Result")
Decorated = TypeVar("Decorated", bound="Callable[..., Any]")

_NOBODY: Final = -1
"""Owner of a scope that no task or thread may bind to."""

_LONGEST_START_SECONDS: Final = 1.0
_DISAGREED: Final = object()
_NO_FACTS: Final[Mapping[str, Any]] = {}

_UNSCOPED = (
    "bind_context() needs a scope: without one, its facts would stay in this thread and reach the events of later"
    " requests and jobs. Open one around the request or job with `with audit.context():` or `with"
    " audit.isolated_context():` (AuditMiddleware opens one for every request). Facts for a few calls can be bound to a"
    " logger instead: `audit.get_logger().bind(...)`."
)


class _Scope:
    """An open scope, or what a task or thread that was started in one bound for itself.

    Attributes:
        owner: The flow whose facts these are; a task by a weak reference.
        parent: The scope of another flow that *owner* was started in; None where the owner opened it with ``with``.
        facts: What the owner sees.
        below: What flows started in this scope bound: by name the value and the scope it came from, None for several.
            It is only for an event about the whole request, and only where they agree.
        hidden: structlog's context variables that do not count here, because the scope is isolated from them.
    """

    __slots__ = ("below", "facts", "hidden", "owner", "parent")

    def __init__(
        self, owner: Flow, facts: Mapping[str, Any], *, parent: _Scope | None = None, hidden: Mapping[str, Any]
    ) -> None:
        # A task holds its context, and so this object: a strong reference back would keep both until the next
        # collection of garbage.
        self.owner = owner if isinstance(owner, int) else ref(owner)
        self.parent = parent
        self.facts = facts
        self.below: dict[str, tuple[Any, _Scope | None]] = {}
        self.hidden = hidden

    def is_of(self, flow: Flow) -> bool:
        """Whether *flow* owns this scope."""
        return self.owner == flow if isinstance(self.owner, int) else self.owner() is flow

    def report(self, facts: Mapping[str, Any]) -> None:
        """Let the scopes that this flow was started in know what it bound."""
        below, above = self, self.parent
        while above is not None:
            for name, value in facts.items():
                known, source = above.below.get(name, (value, below))
                if source is below:
                    above.below[name] = (value, below)
                else:  # no later word of one of them can settle it
                    above.below[name] = (value if known == value else _DISAGREED, None)
            below, above = above, above.parent

    def agreed(self) -> dict[str, Any]:
        """Return what the flows started in this scope bound and agree on."""
        return {name: value for name, (value, _) in tuple(self.below.items()) if value is not _DISAGREED}


class _Here(NamedTuple):
    """Where the current code is: the innermost scope, all facts that it sees, and where it was before the scope."""

    scope: _Scope
    facts: Mapping[str, Any]
    outside: _Here | None
    opened_by: object = None


# The default is None and not a mapping: a shared default would hand one task's user to all others.
_here: contextvars.ContextVar[_Here | None] = contextvars.ContextVar("audit_context", default=None)


class context:  # noqa: N801 - used as a function, in a `with` statement or as a decorator
    """Let every event within carry *facts*; keywords are those of the typed calls, others become metadata.

    Contexts nest, the inner ones winning. As a decorator it takes functions, coroutine functions, generators and
    asynchronous generators; each call has a scope of its own, and what consumes a generator does not see its facts.

    Example:
        >>> with context(user_id="u-42", source_ip="203.0.113.7"):
        ...     current_context()["user_id"]
        'u-42'
    """

    def __init__(self, **facts: Any) -> None:
        self._facts = facts
        self._scope: _Scope | None = None

    def __enter__(self) -> None:
        """Open the scope."""
        self._open(_flow())
        # A dependency of a web framework: a worker thread enters, the task goes on within, another thread leaves.
        _in_waiting_task(self._open)

    def _open(self, flow: Flow) -> None:
        """Open the scope in the context of the code that runs here."""
        here, facts = _here.get(), {**current_facts(), **self._facts}
        self._scope = _Scope(flow, facts, hidden=_NO_FACTS if here is None else here.scope.hidden)
        _here.set(_Here(self._scope, facts, here, self))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the scope, and with it what was bound in it."""
        self._close()
        _in_waiting_task(lambda _: self._close())

    def _close(self) -> None:
        here = _here.get()
        while here is not None:
            if here.opened_by is self:
                _here.set(here.outside)
                return
            here = here.outside

    def __call__(self, function: Decorated) -> Decorated:
        """Return *function* so that each call runs in a scope of its own."""
        if inspect.isasyncgenfunction(function):
            wrapper = self._async_generator(function)
        elif inspect.iscoroutinefunction(function):
            wrapper = self._coroutine(function)
        elif inspect.isgeneratorfunction(function):
            wrapper = self._generator(function)
        else:
            wrapper = self._function(function)
        return cast("Decorated", wraps(function)(wrapper))

    def _function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def within(*args: Any, **kwargs: Any) -> Any:
            with type(self)(**self._facts):
                return function(*args, **kwargs)

        return within

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def within(*args: Any, **kwargs: Any) -> Any:
            with type(self)(**self._facts):
                return await function(*args, **kwargs)

        return within

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def within(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            generator, steps = function(*args, **kwargs), _Steps(type(self)(**self._facts))
            step, given = generator.send, None
            while True:
                try:
                    with steps:
                        value = step(given)
                except StopIteration as stop:
                    return stop.value
                try:
                    step, given = generator.send, (yield value)
                except GeneratorExit:
                    with steps:
                        generator.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - the generator decides what becomes of it
                    step, given = generator.throw, error

        return within

    def _async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def within(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            generator, steps = function(*args, **kwargs), _Steps(type(self)(**self._facts))
            step, given = generator.asend, None
            while True:
                try:
                    with steps:
                        value = await step(given)
                except StopAsyncIteration:
                    return
                try:
                    step, given = generator.asend, (yield value)
                except GeneratorExit:
                    with steps:
                        await generator.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - the generator decides what becomes of it
                    step, given = generator.athrow, error

        return within

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """Go back into this scope, from whichever task, to emit an event about the whole of it.

        It has the scope's own facts, and what all tasks and threads started in it agree on.
        """
        scope, here = self._scope, _here.get()
        assert scope is not None
        # Scopes that the owner has opened meanwhile count as well, but not what another task has bound for itself.
        own = here.facts if here is not None and here.scope.owner == scope.owner else scope.facts
        facts = {**scope.agreed(), **own}
        token = _here.set(_Here(_Scope(_NOBODY, facts, hidden=scope.hidden), facts, None))
        try:
            yield
        finally:
            _here.reset(token)


class isolated_context(context):  # noqa: N801 - as above
    """Begin a scope that sees nothing from outside: neither the facts around nor structlog's context variables.

    For a job, a message or a test that is not part of what started it. Otherwise like :class:`context`.

    Example:
        >>> with context(user_id="u-42"), isolated_context(request_id="r-1"):
        ...     current_context()
        {'request_id': 'r-1'}
    """

    def _open(self, flow: Flow) -> None:
        facts = dict(self._facts)
        self._scope = _Scope(flow, facts, hidden=get_contextvars())
        _here.set(_Here(self._scope, facts, _here.get(), self))


class _Steps:
    """Enters a scope for each step of a generator; what was bound in one step is there in the next."""

    def __init__(self, scope: context) -> None:
        self._scope = scope
        self._inside: _Here | None = None
        self._outside: _Here | None = None

    def __enter__(self) -> None:
        self._outside = _here.get()
        if self._inside is None:
            self._scope._open(_flow())  # noqa: SLF001 - one module
        else:
            _here.set(self._inside)

    def __exit__(self, *_: object) -> None:
        self._inside = _here.get()
        _here.set(self._outside)


def bind_context(**facts: Any) -> None:
    """Add *facts* to the innermost scope, where in a request or job they become known.

    Every later event of this task or thread carries them, and of what it starts from then on, until the scope ends. In
    a worker thread that a task of a web framework waits for, such as a synchronous dependency of FastAPI, they belong
    to that task. The ``api.call`` of a request carries also what tasks and threads started in it bound, unless they
    disagree.

    Raises:
        ContextError: No scope is open.

    Example:
        >>> with context(request_id="r-1"):
        ...     bind_context(user_id="u-42")
        ...     current_context()
        {'request_id': 'r-1', 'user_id': 'u-42'}
    """
    if _here.get() is None:
        raise ContextError(_UNSCOPED)
    _bind(facts, _flow())
    _in_waiting_task(functools.partial(_bind, facts))


def _bind(facts: Mapping[str, Any], flow: Flow) -> None:
    here = _here.get()
    if here is None:  # the task has left the scope meanwhile
        return
    scope, merged = here.scope, {**here.facts, **facts}
    if not scope.is_of(flow):  # a task or thread that was started in the scope of another
        scope = _Scope(flow, merged, parent=scope, hidden=scope.hidden)
    scope.facts = merged
    _here.set(here._replace(scope=scope, facts=merged))
    scope.report(facts)


def carry_context(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Return *function* so that it runs in today's context, for executors, which do not carry it by themselves.

    What it binds stays within each call.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor() as pool, context(user_id="u-42"):
        ...     pool.submit(carry_context(lambda: current_context()["user_id"])).result()
        'u-42'
    """
    snapshot = contextvars.copy_context()
    if (here := _here.get()) is not None:
        scope = _Scope(_NOBODY, here.facts, parent=here.scope, hidden=here.scope.hidden)
        snapshot.run(_here.set, _Here(scope, here.facts, None))

    def carried(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        # A context can be entered once at a time; a copy serves each call.
        return snapshot.copy().run(function, *args, **kwargs)

    return carried


def current_context() -> dict[str, Any]:
    """Return the facts that an event emitted now would carry from the scopes around, as a copy.

    structlog's context variables are not among them: ``structlog.contextvars.get_contextvars()`` returns those.
    """
    return dict(current_facts())


def current_facts() -> Mapping[str, Any]:
    """Return the facts of the scopes around; not to be changed."""
    here = _here.get()
    return _NO_FACTS if here is None else here.facts


def whole_facts() -> Mapping[str, Any]:
    """Return the facts for an event about the whole of a request: also what all flows started in it agree on."""
    here, facts = _here.get(), current_facts()
    if here is None or not here.scope.below or not here.scope.is_of(_flow()):
        return facts
    return {**here.scope.agreed(), **facts}


def hidden_from_structlog() -> Mapping[str, Any]:
    """Return structlog's context variables that an isolated scope shuts out, with their values."""
    here = _here.get()
    return _NO_FACTS if here is None else here.scope.hidden


def _flow() -> Flow:
    """Return what runs here: the current task, else the thread."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:  # noqa: SLF001 - it raises nothing, unlike its twin
        return asyncio.current_task() or threading.get_ident()
    return threading.get_ident()


class _Waiter(NamedTuple):
    """The task that waits for this worker thread, with its loop and its context."""

    task: asyncio.Task[Any]
    loop: asyncio.AbstractEventLoop
    context: contextvars.Context


def _in_waiting_task(action: Callable[[Flow], object]) -> None:
    """Do *action* in the context of the task that waits for this thread, before that task goes on."""
    waiter = _waiter()
    if waiter is not None:
        with suppress(RuntimeError):  # the loop is closed: nothing goes on
            waiter.loop.call_soon_threadsafe(action, waiter.task, context=waiter.context)


def _waiter() -> _Waiter | None:
    """Return who waits for this thread, when it is a worker thread of AnyIO (so Starlette's and FastAPI's).

    Nothing public tells. The worker holds the future that the task waits for, and that holds how to wake the task.
    Where a version of AnyIO or Python does so no longer, what is bound stays in the thread; a test notices.
    """
    worker = threading.current_thread()
    kind = type(worker)
    if kind.__name__ != "WorkerThread" or not kind.__module__.startswith("anyio."):
        return None
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - there is no other way to a caller's frame
    while frame is not None and frame.f_code is not kind.run.__code__:
        frame = frame.f_back
    future = None if frame is None else frame.f_locals.get("future")
    callbacks = getattr(future, "_callbacks", None)
    deadline = time.monotonic() + _LONGEST_START_SECONDS
    while future is not None and not callbacks and not future.done() and time.monotonic() < deadline:
        time.sleep(_LONGEST_START_SECONDS / 1000)  # the worker runs already, and the task has yet to begin to wait
        callbacks = future._callbacks  # noqa: SLF001
    if not future or not callbacks:
        return None
    wake, context = callbacks[0]
    task = getattr(wake, "__self__", None)
    return None if task is None else _Waiter(task, cast("Any", worker).loop, context)
