"""However a request ends, there is one ``api.call``, and it says how."""

import asyncio
import threading

import anyio
import anyio.lowlevel
import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

import audit_logging as audit
from audit_logging.integrations.asgi import AuditMiddleware
from tests.integrations.web_server import SECONDS, Ended, connect, serve

START = {"type": "http.response.start", "status": 200, "headers": []}
LAST = {"type": "http.response.body", "body": b""}


def request(**scope):
    return {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("203.0.113.7", 5), **scope}


def call(app, *, receive=None, send=None, **scope):
    """Send one request through the middleware and return the only ``api.call``."""

    async def nothing(_=None):
        return {"type": "http.disconnect"}

    with audit.record_events() as events:
        try:
            asyncio.run(AuditMiddleware(app)(request(**scope), receive or nothing, send or nothing))
        finally:
            assert len(events.of("api.call")) == 1
    return events.one("api.call")


def ending(event):
    """Return status, outcome and reason."""
    return event["http"]["response"]["status_code"], event["event"]["outcome"], event["event"].get("reason")


class TestTheAnswer:
    """What the application says is what is recorded."""

    def test_who_has_the_answer_finds_the_event(self):
        """It is emitted before the last part goes out."""
        seen = []

        async def app(scope, receive, send):
            await send(START)
            await send({**LAST, "more_body": True})
            await send(LAST)

        async def send(message):
            seen.append((message["type"], len(events)))

        with audit.record_events() as events:
            asyncio.run(AuditMiddleware(app)(request(), None, send))
        assert seen == [("http.response.start", 0), ("http.response.body", 0), ("http.response.body", 1)]

    def test_background_tasks_run_after_the_event_and_in_the_context(self):
        """The answer does not wait for them, and neither does its event; theirs still carry the request."""

        def later():
            audit.get_logger().emit("mail.sent")

        async def endpoint(_):
            audit.bind_context(user_id="u-42")
            return PlainTextResponse("done", background=BackgroundTask(later))

        app = AuditMiddleware(Starlette(routes=[Route("/", endpoint)]))

        async def get():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as http:
                await http.get("/", headers={"x-request-id": "r-1"})

        with audit.record_events() as events:
            asyncio.run(get())
        assert events.types() == ["api.call", "mail.sent"]
        assert {(event["user"]["id"], event["http"]["request"]["id"]) for event in events} == {("u-42", "r-1")}

    def test_no_answer_counts_as_500(self):
        """So does the server."""

        async def silent(scope, receive, send):
            pass

        assert ending(call(silent)) == (500, "failure", "no response")

    def test_an_exception_in_the_midst_of_an_answer_counts_as_500(self):
        """Though the client had been told otherwise, which is recorded too."""

        async def breaks(scope, receive, send):
            await send(START)
            raise ValueError("not for the trail")

        with audit.record_events() as events, pytest.raises(ValueError, match="not for"):
            asyncio.run(AuditMiddleware(breaks)(request(), None, _swallow))
        event = events.one("api.call")
        assert ending(event) == (500, "failure", "ValueError")
        assert event["audit"]["metadata"] == {"status_sent": 200}

    def test_an_exception_after_the_answer_changes_nothing(self):
        """The client has its answer; the exception still goes on."""

        async def breaks(scope, receive, send):
            await send(START)
            await send(LAST)
            raise ValueError("late")

        with audit.record_events() as events, pytest.raises(ValueError, match="late"):
            asyncio.run(AuditMiddleware(breaks)(request(), None, _swallow))
        assert ending(events.one("api.call")) == (200, "success", None)


async def _swallow(message):
    pass


class TestTheRequestId:
    """It is in the events, the scope and the answer."""

    def test_handlers_find_it_in_the_scope(self):
        """For error pages and mails to the support."""
        sent = []

        async def app(scope, receive, send):
            await send({**START, "headers": [(b"x-seen", scope["audit_logging.request_id"].encode())]})

        async def send(message):
            sent.append(message)

        event = call(app, send=send)
        names = dict(sent[0]["headers"])
        assert names[b"x-seen"] == names[b"x-request-id"] == event["http"]["request"]["id"].encode()

    def test_what_the_application_answers_is_left_alone(self):
        """One header, not two."""
        sent = []

        async def app(scope, receive, send):
            await send({**START, "headers": [(b"X-Request-ID", b"mine")]})

        async def send(message):
            sent.append(message)

        call(app, send=send)
        assert sent[0]["headers"] == [(b"X-Request-ID", b"mine")]


class TestCancellation:
    """A task that is cancelled still leaves its event, also where emitting means waiting."""

    @pytest.mark.parametrize("durability", ["process", "disk"])
    def test_by_the_server(self, durability):
        """As servers do that shut down."""

        async def cancel():
            entered = asyncio.Event()

            async def app(scope, receive, send):
                entered.set()
                await asyncio.Event().wait()

            task = asyncio.create_task(AuditMiddleware(app)(request(), None, None))
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        with audit.record_events(durability=durability) as events:
            asyncio.run(cancel())
        assert ending(events.one("api.call")) == (500, "failure", "CancelledError")

    def test_by_a_scope_that_cancels_again_and_again(self):
        """As anyio's do at every wait."""

        async def cancel():
            with anyio.CancelScope() as around:

                async def app(scope, receive, send):
                    around.cancel()
                    await asyncio.Event().wait()

                await AuditMiddleware(app)(request(), None, None)
            assert around.cancelled_caught
            # the thread that emits is waited for by the end of the loop

        with audit.record_events(durability="disk") as events:
            asyncio.run(cancel())
        assert ending(events.one("api.call")) == (500, "failure", "CancelledError")


class TestClientsThatHangUp:
    """They are no error of the application's."""

    def test_before_the_answer(self):
        """In the middle of a body that was announced."""

        async def upload(request):
            entered.set()
            await request.body()

        entered, ended = (
            threading.Event(),
            Ended(AuditMiddleware(Starlette(routes=[Route("/", upload, methods=["POST"])]))),
        )
        with audit.record_events() as events, serve(ended) as address:
            connection = connect(address, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
            assert entered.wait(SECONDS)
            connection.close()
            ended.wait()
        event = events.one("api.call")
        assert ending(event) == (499, "failure", "client disconnected")
        assert event["log"]["level"] == "warning"
        assert event["source"]["ip"] == "127.0.0.1"

    def test_in_the_midst_of_the_answer(self):
        """What it got of it is not known."""

        async def endless():
            while True:
                yield b"more"
                await anyio.lowlevel.checkpoint()

        async def stream(_):
            return StreamingResponse(endless())

        ended = Ended(AuditMiddleware(Starlette(routes=[Route("/", stream)])))
        with audit.record_events() as events, serve(ended) as address:
            connection = connect(address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(100)
            connection.close()
            ended.wait()
        assert ending(events.one("api.call")) == (200, "unknown", "client disconnected")

    def test_where_the_server_raises_it(self):
        """ASGI: an OSError from send."""

        async def app(scope, receive, send):
            await send(START)

        async def gone(message):
            raise BrokenPipeError

        with audit.record_events() as events, pytest.raises(BrokenPipeError):
            asyncio.run(AuditMiddleware(app)(request(), None, gone))
        assert ending(events.one("api.call")) == (200, "unknown", "client disconnected")

    def test_an_answer_that_nobody_hears_is_none(self):
        """What the application would have said is in the metadata."""

        async def app(scope, receive, send):
            await receive()
            await send({**START, "status": 404})

        event = call(app)
        assert ending(event) == (499, "failure", "client disconnected")
        assert event["audit"]["metadata"] == {"status_sent": 404}

    def test_an_error_stays_one(self):
        """Whether it was heard to its end or not."""

        async def app(scope, receive, send):
            await send({**START, "status": 404})
            await receive()

        assert ending(call(app)) == (404, "failure", "client disconnected")

    def test_after_the_answer_is_how_every_request_ends(self):
        """Applications may wait for that."""

        async def app(scope, receive, send):
            await send(START)
            await send(LAST)
            await receive()

        assert ending(call(app)) == (200, "success", None)


def test_threads_of_a_real_server_keep_their_requests_apart():
    """Many at once, each with a user that a thread of the pool names."""

    def endpoint(request):
        audit.bind_context(user_id=request.path_params["name"])
        audit.get_logger().user_logout(seen=request.path_params["name"])
        return PlainTextResponse(request.path_params["name"])

    app = AuditMiddleware(Starlette(routes=[Route("/{name}", endpoint)]))

    async def all_at_once(base_url):
        async with httpx.AsyncClient(base_url=base_url) as http:
            await asyncio.gather(*(http.get(f"/u-{number}") for number in range(60)))

    with audit.record_events() as events, serve(app) as (host, port):
        asyncio.run(all_at_once(f"http://{host}:{port}"))
    assert len(events) == 120
    assert all(event["user"]["id"] == event["audit"]["metadata"]["seen"] for event in events.of("user.logout"))
    users = {event["http"]["request"]["id"]: event["user"]["id"] for event in events.of("user.logout")}
    assert len(users) == 60
    assert all(users[event["http"]["request"]["id"]] == event["user"]["id"] for event in events.of("api.call"))


def test_the_loop_goes_on_while_the_trail_waits():
    """A durability that waits for the disk waits in a thread."""
    release, turns = threading.Event(), []

    def slow(logger, method_name, event_dict):
        assert release.wait(SECONDS)
        return event_dict

    async def app(scope, receive, send):
        await send(START)
        await send(LAST)

    async def both():
        answered = asyncio.create_task(AuditMiddleware(app)(request(), None, _swallow))
        for turn in range(3):
            await asyncio.sleep(0)
            turns.append(turn)
        release.set()
        await answered

    with audit.record_events(durability="disk") as events:
        from audit_logging.capture.configuration import current_trail

        current_trail()._processors += (slow,)
        asyncio.run(both())
    assert len(turns) == 3
    assert events.types() == ["api.call"]
