"""Context reaches the events it should, and no others."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import structlog

import audit_logging as audit

log = audit.get_logger()


def user_of(event):
    return event.get("user", {}).get("id")


def test_contexts_nest_and_end():
    """The inner one wins, and afterwards all is as before."""
    with audit.record_events() as events:
        with audit.context(user_id="outer", request_id="r-1"):
            with audit.context(user_id="inner"):
                log.user_logout()
            log.user_logout()
        log.user_logout()
    assert [user_of(event) for event in events] == ["inner", "outer", None]
    assert events[0]["http"]["request"]["id"] == "r-1"


def test_the_call_wins_over_context_and_context_over_structlog():
    """Three sources, one order; None means not given."""
    structlog.contextvars.bind_contextvars(user_id="structlog", session_id="s-1", shop="north")
    with audit.record_events() as events, audit.context(user_id="context"):
        log.user_logout(user_id="call")
        log.user_logout(user_id=None)
    assert [user_of(event) for event in events] == ["call", "context"]
    assert events[0]["session"]["id"] == "s-1"
    assert events[0]["audit"]["metadata"] == {"shop": "north"}


def test_it_is_a_decorator_too():
    """For jobs and commands."""

    @audit.context(user_id="job")
    def job():
        log.user_logout()

    with audit.record_events() as events:
        job()
    assert user_of(events.one("user.logout")) == "job"


def test_threads_do_not_see_each_others_context():
    """Each thread its own, although they run at the same time."""
    barrier = threading.Barrier(4)

    def work(name):
        with audit.context(user_id=name):
            barrier.wait()
            log.user_logout(thread=name)

    with audit.record_events() as events:
        threads = [threading.Thread(target=work, args=(f"t-{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(user_of(event) for event in events) == ["t-0", "t-1", "t-2", "t-3"]
    assert all(event["audit"]["metadata"]["thread"] == user_of(event) for event in events)


def test_tasks_do_not_see_each_others_context():
    """A task that binds nothing never gets another task's user."""

    async def binds(name, started, go):
        with audit.context(user_id=name):
            started.set()
            await go.wait()
            log.user_logout(task=name)

    async def main():
        started, go = asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(binds(name, started, go)) for name in ("a", "b")]
        await started.wait()
        with audit.context():
            audit.bind_context(user_id="main")
            plain = asyncio.create_task(asyncio.sleep(0))
            go.set()
            await asyncio.gather(*tasks, plain)

    with audit.record_events() as events:
        asyncio.run(main())
        log.user_logout(task="none")
    assert {event["audit"]["metadata"]["task"]: user_of(event) for event in events} == {
        "a": "a",
        "b": "b",
        "none": None,
    }


def test_what_a_thread_pool_dependency_binds_is_seen_by_the_request():
    """The user becomes known inside; the event emitted outside, at the end, carries it."""

    async def request():
        with audit.context(request_id="r-1"):
            await asyncio.to_thread(audit.bind_context, user_id="u-42")
            await log.aemit("api.call", endpoint="/", method="GET", status_code=200)

    with audit.record_events() as events:
        asyncio.run(request())
        log.user_logout()
    assert [user_of(event) for event in events] == ["u-42", None]


def test_executors_carry_the_context_when_asked():
    """Plain submit does not; carry_context does, also several times at once."""
    with audit.record_events() as events, ThreadPoolExecutor(2) as pool:
        with audit.context(user_id="u-42"):
            carried = audit.carry_context(log.user_logout)
            list(pool.map(lambda _: carried(), range(4)))
        pool.submit(log.user_logout).result()
    assert [user_of(event) for event in events] == ["u-42"] * 4 + [None]
