"""What clients get while the trail cannot take the events of their requests."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

import audit_logging as audit
from audit_logging.capture.configuration import swap_trail
from audit_logging.errors import SpoolFullError
from audit_logging.integrations.asgi import AuditMiddleware
from tests.integrations.web_server import SECONDS, connect, serve


@pytest.fixture
def trail(tmp_path):
    """A trail with a small spool that nothing empties, and a function that fills it."""
    before = swap_trail(None)
    made = audit.configure(
        service="shop", spool_dir=str(tmp_path / "spool"), spool_max_bytes=1 << 16, spool_block_seconds=0, ship=False,
        signing=False, console=False,
    )  # fmt: skip

    def fill():
        with pytest.raises(SpoolFullError):
            while True:
                audit.get_logger().emit("spool.filled")

    yield fill
    ours = swap_trail(before)
    ours.shutdown(1)
    del made


class Passing(BaseHTTPMiddleware):
    """Turns every response into one of several parts, as this class of Starlette's does."""

    async def dispatch(self, request, call_next):
        return await call_next(request)


ran = []


def make_app(tmp_path, **options):
    async def plain(_):
        return PlainTextResponse("done", background=BackgroundTask(ran.append, "task"))

    async def empty(_):
        return Response(status_code=204)

    async def stream(_):
        async def parts():
            yield b"a"
            yield b"b"

        return StreamingResponse(parts())

    async def sse(_):
        async def parts():
            yield b"data: 1\n\n"

        return StreamingResponse(parts(), media_type="text/event-stream")

    async def broken(_):
        raise RuntimeError("broken")

    async def file(_):
        return FileResponse(tmp_path / "file")

    (tmp_path / "file").write_bytes(b"x" * 1000)
    endpoints = [plain, empty, stream, sse, broken, file]
    routes = [Route(f"/{each.__name__}", each, methods=["GET", "POST"]) for each in endpoints]
    through = Mount("/through", routes=routes, middleware=[Middleware(Passing)])
    return Starlette(routes=[*routes, through], middleware=[Middleware(AuditMiddleware, **options)])


PATHS = ["/plain", "/empty", "/stream", "/sse", "/broken", "/file", "/nowhere"]
PATHS += ["/through/plain", "/through/empty", "/through/file", "/through/broken"]


@pytest.mark.parametrize("path", PATHS)
def test_request_that_cannot_be_recorded_gets_503(trail, tmp_path, path):
    ran.clear()
    with serve(make_app(tmp_path)) as (host, port):
        trail()
        response = httpx.get(f"http://{host}:{port}{path}", headers={"x-request-id": "r-1"})
        assert (response.status_code, response.text) == (503, "Service Unavailable\n")
        assert response.headers["x-request-id"] == "r-1"
        assert int(response.headers["content-length"]) == len(response.content)
        assert httpx.head(f"http://{host}:{port}{path}").status_code == 503
    assert ran == []


@pytest.mark.parametrize("path", PATHS)
def test_request_that_cannot_be_recorded_is_answered_and_logged_on_demand(trail, tmp_path, path, caplog):
    expected = {"empty": 204, "broken": 500, "nowhere": 404}.get(path.rpartition("/")[2], 200)
    with serve(make_app(tmp_path, on_trail_failure="log")) as (host, port):
        trail()
        response = httpx.get(f"http://{host}:{port}{path}")
        httpx.get(f"http://{host}:{port}{path}")
    assert response.status_code == expected
    assert len(response.content) == int(response.headers.get("content-length", len(response.content)))
    logged = [record.getMessage() for record in caplog.records if "api.call" in record.getMessage()]
    assert len(logged) == 1  # of the two
    assert logged[0].startswith("Could not record api.call: SpoolFullError: ")


def test_stream_whose_end_cannot_be_recorded_breaks_off(trail):
    """The client sees that it is not complete."""

    async def stream(_):
        async def parts():
            yield b"a"
            trail()
            yield b"b"

        return StreamingResponse(parts())

    app = Starlette(routes=[Route("/", stream)], middleware=[Middleware(AuditMiddleware)])
    with serve(app) as (host, port), pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        httpx.get(f"http://{host}:{port}/")


def test_excluded_requests_are_answered_while_the_trail_is_full(trail, tmp_path):
    with serve(make_app(tmp_path, excluded_paths=["/plain", "/stream"], excluded_methods="POST")) as (host, port):
        trail()
        with httpx.Client(base_url=f"http://{host}:{port}") as http:
            assert http.get("/plain").status_code == 200
            assert http.get("/stream").text == "ab"
            assert http.post("/file").status_code == 200


def test_event_stream_starts_before_its_first_event(trail):
    """Its client waits for the headers; they are not held until there is a body."""
    release = asyncio.Event()

    async def sse(_):
        async def parts():
            await release.wait()
            yield b"data: 1\n\n"

        return StreamingResponse(parts(), media_type="text/event-stream")

    loops = []

    async def app(scope, receive, send):
        loops.append(asyncio.get_running_loop())
        await AuditMiddleware(Starlette(routes=[Route("/", sse)]))(scope, receive, send)

    with serve(app) as address:
        connection = connect(address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        loops[0].call_soon_threadsafe(release.set)
        connection.settimeout(SECONDS)
        while connection.recv(1000):
            pass
        connection.close()


def test_application_that_handles_audit_errors_still_answers_503(trail):
    """Its handler comes too late: the client has its answer."""
    app = FastAPI()
    app.add_middleware(AuditMiddleware)
    app.add_exception_handler(audit.errors.AuditError, lambda *_: PlainTextResponse("handled", 418))

    @app.get("/")
    def index():
        return {}

    with serve(app) as (host, port):
        trail()
        assert httpx.get(f"http://{host}:{port}/").status_code == 503


def test_client_that_hung_up_needs_no_503(trail):
    sent = []

    async def app(scope, receive, send):
        await receive()
        raise RuntimeError("gone")

    async def gone():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    trail()
    with pytest.raises(RuntimeError, match="gone"):
        request = {"type": "http", "method": "GET", "path": "/", "headers": []}
        asyncio.run(AuditMiddleware(app)(request, gone, send))
    assert sent == []


@pytest.mark.parametrize(("option", "status"), [("fail", 503), ("log", 200)])
def test_trail_that_cannot_be_made_from_its_settings(monkeypatch, tmp_path, option, status, caplog):
    before = swap_trail(None)
    try:
        monkeypatch.setenv("AUDIT_SPOOL_MAX_BYTES", "many")
        with serve(make_app(tmp_path, on_trail_failure=option)) as (host, port):
            assert httpx.get(f"http://{host}:{port}/plain").status_code == status
    finally:
        swap_trail(before)
    assert "Could not record api.call: SettingsError: " in caplog.text


@pytest.mark.parametrize("kind", ["pipelined", "single"])
def test_503_leaves_the_connection_usable(trail, tmp_path, kind):
    with serve(make_app(tmp_path)) as address:
        trail()
        count = 3 if kind == "pipelined" else 1
        last = b"GET /plain HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        connection = connect(address, b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n" * (count - 1) + last)
        received = b""
        while part := connection.recv(4096):
            received += part
        connection.close()
    assert received.count(b"HTTP/1.1 503") == count
    assert received.count(b"Service Unavailable\n") == count


@given(parts=st.lists(st.binary(max_size=4), max_size=5), announced=st.booleans(), is_last_empty=st.booleans())
def test_response_in_any_parts_is_passed_on_unchanged(parts, announced, is_last_empty):
    """With its one event, and in the order of its messages."""
    given_parts = [*parts, b""] if is_last_empty or not parts else parts
    headers = [(b"content-length", b"%d" % len(b"".join(parts)))] if announced else []
    messages = [{"type": "http.response.start", "status": 200, "headers": [*headers, (b"x-request-id", b"r")]}]
    for number, part in enumerate(given_parts, 1):
        messages.append({"type": "http.response.body", "body": part, "more_body": number < len(given_parts)})
    sent = []

    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    async def send(message):
        sent.append(message)

    with audit.record_events() as events:
        asyncio.run(AuditMiddleware(app)({"type": "http", "method": "GET", "path": "/", "headers": []}, None, send))
    assert sent == messages
    assert events.types() == ["api.call"]


@pytest.mark.parametrize("kind", ["http.response.pathsend", "http.response.zerocopysend"])
def test_files_that_the_server_sends_are_not_started_unrecorded(trail, kind):
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": kind, "path": "/etc/hostname"})

    async def send(message):
        sent.append(message)

    trail()
    asyncio.run(AuditMiddleware(app)({"type": "http", "method": "GET", "path": "/", "headers": []}, None, send))
    assert [message.get("status") for message in sent] == [503, None]
