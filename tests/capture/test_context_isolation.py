"""No event carries a fact that another task, thread or request bound, unless that one started it."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import logging
import logging.handlers
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx
import pytest
import structlog
from fastapi import BackgroundTasks, Depends, FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.concurrency import run_in_threadpool
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse

import audit_logging as audit
from audit_logging.errors import ContextError
from audit_logging.integrations.asgi import AuditMiddleware

log = audit.get_logger()


def user_of(event):
    return event.get("user", {}).get("id")


def by_step(events):
    return {event["audit"]["metadata"]["step"]: user_of(event) for event in events if "audit" in event}


# Programs of scopes, tasks, threads, executors and generators, and a model that says what each event may carry


KEYS = ("user_id", "session_id", "request_id")
NAMES = {"user_id": ("user", "id"), "session_id": ("session", "id"), "request_id": ("http", "request", "id")}
FACTS = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(["a", "b", "c", "d"]), min_size=1)

EMIT = st.just(("emit",))
BIND = st.tuples(st.just("bind"), FACTS)


def blocks(steps):
    several = st.lists(st.lists(steps, max_size=4), min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.sampled_from(["with", "isolated", "decorated", "async-decorated", "generator", "agen"]), FACTS, st.lists(steps, max_size=4)),
        st.tuples(st.sampled_from(["gather", "tasks", "to_thread", "executor", "threads", "context-run"]), several),
    )  # fmt: skip


PROGRAMS = st.lists(st.recursive(EMIT | BIND, blocks, max_leaves=12), max_size=6)


class Run:
    """Runs a program, and works out beside it what each event has to carry."""

    def __init__(self):
        self.expected = {}
        self.numbers = itertools.count()

    async def steps(self, steps, model):
        """*model* is a list of dictionaries, one for each open scope; the last one is seen."""
        for step in steps:
            await asyncio.sleep(0)
            await self.step(step, model)

    def sync_steps(self, steps, model):
        for step in steps:
            self.sync_step(step, model)

    def emit(self, model):
        number = next(self.numbers)
        self.expected[number] = dict(model[-1]) if model else {}
        log.emit("invoice.approved", step=number)

    def bind(self, facts, model):
        if not model:
            with pytest.raises(ContextError, match="needs a scope"):
                audit.bind_context(**facts)
            return
        audit.bind_context(**facts)
        model[-1] = {**model[-1], **facts}

    def opened(self, kind, facts, model):
        return [*model, {**(model[-1] if model and kind != "isolated" else {}), **facts}]

    async def step(self, step, model):  # noqa: C901 - one branch for each kind of step
        kind, *rest = step
        if kind in {"emit", "bind"}:
            self.sync_step(step, model)
        elif kind in {"with", "isolated"}:
            facts, inner = rest
            with (audit.isolated_context if kind == "isolated" else audit.context)(**facts):
                await self.steps(inner, self.opened(kind, facts, model))
        elif kind == "async-decorated":
            facts, inner = rest
            await audit.context(**facts)(self.steps)(inner, self.opened(kind, facts, model))
        elif kind == "agen":
            facts, inner = rest
            within = self.opened(kind, facts, model)

            @audit.context(**facts)
            async def agen():
                for each in inner:
                    await self.step(each, within)
                    yield

            async for _ in agen():
                self.emit(model)
        elif kind in {"decorated", "generator"}:
            self.sync_step(step, model)
        elif kind == "gather":
            await asyncio.gather(*(self.steps(inner, list(model)) for inner in rest[0]))
        elif kind == "tasks":
            tasks = [asyncio.create_task(self.steps(inner, list(model))) for inner in rest[0]]
            self.emit(model)
            await asyncio.wait(tasks)
            for task in tasks:
                task.result()
        elif kind == "to_thread":
            await asyncio.gather(*(asyncio.to_thread(self.sync_steps, inner, list(model)) for inner in rest[0]))
        else:
            await asyncio.to_thread(self.sync_step, step, list(model))

    def sync_step(self, step, model):  # noqa: C901, PLR0912 - as above
        kind, *rest = step
        if kind == "emit":
            self.emit(model)
        elif kind == "bind":
            self.bind(rest[0], model)
        elif kind in {"with", "isolated"}:
            facts, inner = rest
            with (audit.isolated_context if kind == "isolated" else audit.context)(**facts):
                self.sync_steps(inner, self.opened(kind, facts, model))
        elif kind == "decorated":
            facts, inner = rest
            audit.context(**facts)(self.sync_steps)(inner, self.opened(kind, facts, model))
        elif kind == "generator":
            facts, inner = rest
            within = self.opened(kind, facts, model)

            @audit.context(**facts)
            def generator():
                for each in inner:
                    self.sync_step(each, within)
                    yield

            for _ in generator():
                self.emit(model)
        elif kind == "executor":
            with ThreadPoolExecutor(2) as pool:
                carried = audit.carry_context(self.sync_steps)
                for done in [pool.submit(carried, inner, list(model)) for inner in rest[0]]:
                    done.result()
                for done in [pool.submit(self.sync_steps, inner, []) for inner in rest[0]]:
                    done.result()
        elif kind == "threads":
            threads = [threading.Thread(target=self.sync_steps, args=(inner, [])) for inner in rest[0]]
            for thread in threads:
                thread.start()
            self.emit(model)
            for thread in threads:
                thread.join()
        elif kind == "context-run":
            for inner in rest[0]:
                contextvars.copy_context().run(self.sync_steps, inner, list(model))
        else:  # asynchronous kinds, begun by synchronous code: a loop and a thread of their own
            with ThreadPoolExecutor(1) as pool:
                context = contextvars.copy_context()
                pool.submit(context.run, lambda: asyncio.run(self.step(step, list(model)))).result()


def carried(event):
    found = {}
    for name, path in NAMES.items():
        node = event
        for part in path:
            node = node.get(part, {}) if isinstance(node, dict) else {}
        if node:
            found[name] = node
    return found


@settings(max_examples=150)
@given(PROGRAMS)
def test_every_event_carries_exactly_what_its_ancestors_bound(program):
    run = Run()
    with audit.record_events() as events:
        contextvars.Context().run(asyncio.run, run.steps(program, []))
    assert {event["audit"]["metadata"]["step"]: carried(event) for event in events} == run.expected


@settings(max_examples=50)
@given(PROGRAMS)
def test_the_same_holds_for_synchronous_programs(program):
    run = Run()
    with audit.record_events() as events:
        contextvars.Context().run(run.sync_steps, program, [])
    assert {event["audit"]["metadata"]["step"]: carried(event) for event in events} == run.expected


# The cases by themselves


def test_unscoped_bind_names_the_remedies():
    with pytest.raises(ContextError) as refused:
        audit.bind_context(user_id="alice")
    for remedy in ("audit.context()", "audit.isolated_context()", "AuditMiddleware", "get_logger().bind("):
        assert remedy in str(refused.value)
    assert audit.current_context() == {}


def test_a_worker_thread_that_serves_one_request_after_another_keeps_nobody():
    """As gunicorn's sync worker or a Celery child: the first request binds, the next ones do not."""

    def request(user):
        with audit.isolated_context(request_id="r"):
            if user:
                audit.bind_context(user_id=user)
            log.emit("invoice.approved", step=str(user))

    with audit.record_events() as events, ThreadPoolExecutor(1) as pool:
        for user in ("alice", None, "bob", None):
            pool.submit(request, user).result()
    assert [user_of(event) for event in events] == ["alice", None, "bob", None]


def test_parallel_tasks_keep_their_own_user():
    async def work(user):
        audit.bind_context(user_id=user)
        await asyncio.sleep(0)
        log.emit("invoice.approved", step=user)

    async def main():
        with audit.context(request_id="b"):
            await asyncio.gather(*map(work, ("ann", "bob", "cleo")))
            log.emit("invoice.approved", step="after")

    with audit.record_events() as events:
        asyncio.run(main())
    assert by_step(events) == {"ann": "ann", "bob": "bob", "cleo": "cleo", "after": None}


def test_an_isolated_scope_sees_nothing_of_structlog():
    structlog.contextvars.bind_contextvars(user_id="earlier")
    try:
        with audit.record_events() as events, audit.isolated_context(request_id="r-1"):
            log.emit("invoice.approved", step=1)
            structlog.contextvars.bind_contextvars(user_id="now")
            log.emit("invoice.approved", step=2)
        assert by_step(events) == {1: None, 2: "now"}
    finally:
        structlog.contextvars.clear_contextvars()


def test_current_context_is_a_copy():
    with audit.context(user_id="u-1"):
        audit.current_context()["user_id"] = "u-2"
        assert audit.current_context() == {"user_id": "u-1"}


def test_a_scope_may_be_used_again_and_within_itself():
    scope = audit.context(user_id="u-1")
    with scope:
        audit.bind_context(user_id="u-2")
        with scope:
            assert audit.current_context() == {"user_id": "u-1"}
        assert audit.current_context() == {"user_id": "u-2"}
    assert audit.current_context() == {}


def test_decorators_keep_names_values_and_exceptions():
    @audit.context(user_id="g")
    def generator():
        """Echo."""
        given = yield 1
        while True:
            try:
                given = yield (given, audit.current_context())
            except KeyError:
                return "ended"

    assert generator.__name__ == "generator"
    running = generator()
    next(running)
    assert running.send("x") == ("x", {"user_id": "g"})
    assert audit.current_context() == {}
    with pytest.raises(StopIteration) as stop:
        running.throw(KeyError())
    assert stop.value.value == "ended"

    @audit.context(user_id="a")
    async def coroutine(value):
        return value, audit.current_context()

    assert asyncio.iscoroutinefunction(coroutine)
    assert asyncio.run(coroutine(1)) == (1, {"user_id": "a"})


# FastAPI


def application(*, base_http=False, **options):
    app = FastAPI()
    if base_http:

        async def inner(request, call_next):
            return await call_next(request)

        app.add_middleware(BaseHTTPMiddleware, dispatch=inner)
    app.add_middleware(AuditMiddleware, **options)
    return app


def get(app, *paths):
    async def all_at_once():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as http:
            for response in await asyncio.gather(*map(http.get, paths)):
                response.raise_for_status()

    with audit.record_events() as events:
        asyncio.run(all_at_once())
    return events


def sync_bind(user: str):
    audit.bind_context(user_id=user)


async def async_bind(user: str):
    audit.bind_context(user_id=user)


def sync_bind_and_yield(user: str):
    audit.bind_context(user_id=user)
    yield
    log.emit("invoice.approved", step=f"{user}-end")


def sync_with(user: str):
    with audit.context(user_id=user):
        yield
        log.emit("invoice.approved", step=f"{user}-end")


async def async_with(user: str):
    with audit.context(user_id=user):
        yield
        log.emit("invoice.approved", step=f"{user}-end")


@pytest.mark.parametrize("base_http", [False, True], ids=["plain", "behind-base-http-middleware"])
@pytest.mark.parametrize("dependency", [sync_bind, async_bind, sync_bind_and_yield, sync_with, async_with])
@pytest.mark.parametrize("kind", ["def", "async def", "threadpool", "background", "stream"])
def test_what_a_dependency_binds_is_seen_by_the_request_and_by_no_other(base_http, dependency, kind):
    app = application(base_http=base_http)

    def emit(user):
        log.emit("invoice.approved", step=user)

    def endpoint(user: str, _=Depends(dependency)):
        emit(user)

    async def coroutine(user: str, _=Depends(dependency)):
        await asyncio.sleep(0)
        emit(user)

    async def threadpool(user: str, _=Depends(dependency)):
        await run_in_threadpool(emit, user)

    async def background(user: str, background: BackgroundTasks, _=Depends(dependency)):
        background.add_task(emit, user)

    async def stream(user: str, _=Depends(dependency)):
        async def parts():
            emit(user)
            yield b"x"

        return StreamingResponse(parts())

    endpoints = {
        "def": endpoint,
        "async def": coroutine,
        "threadpool": threadpool,
        "background": background,
        "stream": stream,
    }
    app.get("/nobody")(lambda: emit("nobody"))
    app.get("/{user}")(endpoints[kind])
    users = [f"u-{number}" for number in range(6)]
    events = get(app, *(f"/{user}" for user in users), "/nobody", "/nobody")
    ends_before = kind in {"background", "stream"} and dependency in {sync_with, async_with}
    for event in events.of("invoice.approved"):
        step = event["audit"]["metadata"]["step"]
        expected = None if step == "nobody" else step.removesuffix("-end")
        # What runs after the dependency has ended may be without its scope, never with another's.
        assert user_of(event) == expected or (ends_before and user_of(event) is None)
    calls = events.of("api.call")
    assert len(calls) == 8
    # Behind that middleware a scope of the application's task is not one of the request's task.
    if not (base_http and dependency in {sync_with, async_with}):
        assert sorted(map(str, map(user_of, calls))) == ["None", "None", *users]


def test_parallel_threads_of_one_request_keep_their_own_user():
    app = application()

    def work(user):
        if user != "nobody":
            audit.bind_context(user_id=user)
        log.emit("invoice.approved", step=user)

    @app.get("/")
    async def endpoint():
        await asyncio.gather(*(run_in_threadpool(work, user) for user in ("ann", "nobody", "bob", "cleo")))
        log.emit("invoice.approved", step="after")

    events = get(app, "/")
    assert by_step(events.of("invoice.approved")) == {
        "ann": "ann",
        "nobody": None,
        "bob": "bob",
        "cleo": "cleo",
        "after": None,
    }
    assert user_of(events.one("api.call")) is None


@pytest.mark.parametrize(
    ("bound", "named"),
    [
        (["1ann", "2bob"], None),
        (["1ann", "2ann"], "ann"),
        (["1ann", "1alice"], "alice"),
        (["1ann", "2bob", "2bob"], None),
        (["1ann", "2bob", "1bob"], None),
        (["1ann", "2ann", "1alice"], None),
        (["1ann", "2ann", "1ann"], "ann"),
    ],
)
def test_the_call_of_a_request_names_nobody_where_its_tasks_disagree(bound, named):
    """One after the other, two tasks bind users; the number says which task."""
    app = application()

    @app.get("/")
    async def endpoint():
        queues = {number: asyncio.Queue() for number in "12"}

        async def work(users):
            while (user := await users.get()) is not None:
                audit.bind_context(user_id=user)
                users.task_done()

        tasks = [asyncio.create_task(work(users)) for users in queues.values()]
        for step in bound:
            queues[step[0]].put_nowait(step[1:])
            await queues[step[0]].join()
        for users in queues.values():
            users.put_nowait(None)
        await asyncio.gather(*tasks)

    assert user_of(get(app, "/").one("api.call")) == named


def test_the_last_dependency_wins():
    app = application()

    def anonymous():
        audit.bind_context(user_id="anonymous")

    def known(_=Depends(anonymous)):
        audit.bind_context(user_id="alice")

    @app.get("/")
    def endpoint(_=Depends(known)):
        log.emit("invoice.approved", step=1)

    events = get(app, "/")
    assert by_step(events.of("invoice.approved")) == {1: "alice"}
    assert user_of(events.one("api.call")) == "alice"


def test_a_pool_of_anyio_is_no_different():
    """The task that waits for a worker thread owns what it binds, whichever task that is."""

    async def main():
        with audit.context(request_id="r"):
            async with anyio.create_task_group() as group:
                for user in ("ann", "bob"):
                    group.start_soon(one, user)
            log.emit("invoice.approved", step="after")

    async def one(user):
        await anyio.to_thread.run_sync(functools.partial(audit.bind_context, user_id=user))
        await anyio.lowlevel.checkpoint()
        log.emit("invoice.approved", step=user)

    with audit.record_events() as events:
        anyio.run(main)
    assert by_step(events) == {"ann": "ann", "bob": "bob", "after": None}


# Log records that are handled elsewhere


@pytest.fixture
def logger():
    logger = logging.getLogger("test.context")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger
    logger.handlers.clear()
    logger.propagate = True


def test_a_record_handled_by_another_thread_has_the_context_of_its_call(logger):
    records = queue.Queue()
    listener = logging.handlers.QueueListener(records, audit.AuditHandler())
    logger.addHandler(logging.handlers.QueueHandler(records))
    with audit.record_events() as events:
        listener.start()
        with audit.context(user_id="u-1"):
            logger.info("approved by %s", "ann", extra={"audit": "invoice.approved", "step": 1})
        logger.info("approved", extra={"audit": "invoice.approved", "step": 2})
        listener.stop()
    assert by_step(events) == {1: "u-1", 2: None}
    assert events[0]["message"] == "approved by ann"


def test_a_record_flushed_in_another_request_has_the_context_of_its_own(logger):
    memory = logging.handlers.MemoryHandler(100, target=audit.AuditHandler())
    logger.addHandler(memory)
    with audit.record_events() as events:
        with audit.context(user_id="u-1"):
            logger.info("x", extra={"audit": "invoice.approved", "step": 1})
        logger.info("x", extra={"audit": "invoice.approved", "step": 2})
        with audit.context(user_id="u-3", session_id="s-3"):
            memory.flush()
    assert by_step(events) == {1: "u-1", 2: None}
    assert all("session" not in event for event in events)


@pytest.mark.parametrize("direct", [False, True])
def test_an_exception_is_recorded_as_one_and_not_as_text(logger, direct):
    records = queue.Queue()
    handler = audit.AuditHandler()
    listener = logging.handlers.QueueListener(records, handler)
    logger.addHandler(handler if direct else logging.handlers.QueueHandler(records))
    with audit.record_events() as events:
        listener.start()
        try:
            raise ValueError("no such invoice")
        except ValueError:
            logger.exception("could not approve", extra={"audit": "invoice.approved"})
        listener.stop()
    assert events[0]["message"] == "could not approve"
    assert "Traceback" not in str(events[0])
    assert "ValueError: no such invoice" in str(events[0]["audit"]["metadata"])


def test_a_record_can_still_be_pickled(logger):
    import pickle

    kept = []
    handler = logging.Handler()
    handler.emit = kept.append
    logger.addHandler(handler)
    audit.AuditHandler()
    with audit.context(user_id="u-1", session=threading.Lock()):
        logger.info("x %s", 1, extra={"audit": "invoice.approved", "step": 1})
    record = pickle.loads(pickle.dumps(kept[0]))
    with audit.record_events() as events, audit.context(user_id="u-2"):
        audit.AuditHandler().handle(record)
    assert by_step(events) == {1: "u-1"}
