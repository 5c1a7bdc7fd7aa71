"""WebSocket connections have a context and leave events: connected, closed, refused."""

import asyncio
from contextlib import nullcontext

import pytest
from fastapi import Depends, FastAPI, WebSocket, WebSocketException
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount

import audit_logging as audit
from audit_logging.capture.configuration import current_trail
from audit_logging.integrations.asgi import AuditMiddleware

log = audit.get_logger()


def user(name: str = "u-42"):
    audit.bind_context(user_id=name)


async def room(websocket: WebSocket, _=Depends(user)):
    await websocket.accept()
    async for text in websocket.iter_text():
        log.emit("message.sent", text=text)
        if text == "close":
            await websocket.close(4001, "bye")
        if text == "break":
            raise RuntimeError("broken")
        if text in {"close", "return"}:
            return


async def forbidden(websocket: WebSocket):
    raise WebSocketException(1008, "no ticket")


async def denied(websocket: WebSocket):
    await websocket.send_denial_response(PlainTextResponse("no", 401))


async def broken(websocket: WebSocket):
    raise RuntimeError("broken")


def make_app(**options):
    app = FastAPI()
    app.add_middleware(AuditMiddleware, **options)
    app.websocket("/rooms/{room}")(room)
    for endpoint in (forbidden, denied, broken):
        app.websocket(f"/{endpoint.__name__}")(endpoint)
    return app


CONNECT = {"type": "websocket.connect"}


def run(app, *received, path="/ws", **scope):
    """Run one connection in which the client sends *received*, and return what the application sent."""
    waiting, sent = list(received), []

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    asked = {"type": "websocket", "path": path, "headers": [], "query_string": b"", **scope}
    asyncio.run(app(asked, receive, send))
    return sent


def talk(app, *texts, path="/rooms/7", **scope):
    """Connect, say *texts* and leave; return the events."""
    said = [{"type": "websocket.receive", "text": text} for text in texts]
    with audit.record_events() as events:
        run(app, CONNECT, *said, {"type": "websocket.disconnect", "code": 1001}, path=path, **scope)
    return events


def closing(event):
    metadata = event["audit"]["metadata"]
    return metadata["close_code"], metadata["closed_by"], event["event"]["outcome"], event["event"].get("reason")


def test_events_of_a_connection_carry_its_context():
    headers = [(b"host", b"shop.example"), (b"user-agent", b"ws/1"), (b"x-request-id", b"r-1")]
    events = talk(make_app(), "hello", client=("203.0.113.7", 5000), headers=headers)
    assert events.types() == ["websocket.connected", "message.sent", "websocket.closed"]
    for event in events:
        assert event["user"]["id"] == "u-42"
        assert event["source"] == {"ip": "203.0.113.7", "port": 5000}
        assert event["user_agent"] == {"original": "ws/1"}
        assert event["http"]["request"] == {"id": "r-1"}
        assert event["url"] == {"domain": "shop.example", "path": "/rooms/7"}
    assert events[0]["http"]["route"] == events[2]["http"]["route"] == "/rooms/{room}"
    assert closing(events[2]) == (1001, "client", "success", None)
    assert events[2]["event"]["duration"] > 0
    assert events[0]["message"] == "WebSocket /rooms/{room} connected"
    assert events[2]["message"] == "WebSocket /rooms/{room} closed with code 1001"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("close", (4001, "server", "success", "bye")), ("return", (1000, "server", "success", None))],
)
def test_server_that_closes_is_named_with_its_code(text, expected):
    assert closing(talk(make_app(), "hello", text).one("websocket.closed")) == expected


def test_exception_in_a_connection_counts_as_1011():
    said = {"type": "websocket.receive", "text": "break"}
    with audit.record_events() as events, pytest.raises(RuntimeError, match="broken"):
        run(make_app(), CONNECT, said, path="/rooms/7")
    event = events.one("websocket.closed")
    assert closing(event) == (1011, "server", "failure", "RuntimeError")
    assert event["log"]["level"] == "critical"


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/forbidden", 403, "no ticket"),
        ("/nowhere", 403, None),
        ("/denied", 401, None),
        ("/broken", 500, "RuntimeError"),
    ],
)
def test_refusal_is_an_event_with_its_status(path, status, reason):
    raised = pytest.raises(RuntimeError) if path == "/broken" else nullcontext()
    with audit.record_events() as events, raised:
        run(make_app(), CONNECT, path=path, extensions={"websocket.http.response": {}})
    assert events.types() == ["websocket.refused"]
    event = events[0]
    assert event["http"]["response"]["status_code"] == status
    assert (event["event"]["outcome"], event["event"].get("reason")) == ("failure", reason)
    assert event["url"]["path"] == path
    assert event["log"]["level"] == ("critical" if status == 500 else "warning")


def test_client_that_leaves_before_it_is_accepted_is_499():
    async def app(scope, receive, send):
        await receive()
        await receive()

    with audit.record_events() as events:
        run(AuditMiddleware(app), CONNECT, {"type": "websocket.disconnect", "code": 1006})
    event = events.one("websocket.refused")
    assert (event["http"]["response"]["status_code"], event["event"]["reason"]) == (499, "client disconnected")


@pytest.mark.parametrize(("given", "code"), [({}, 1005), ({"code": None}, 1005), ({"code": 1006}, 1006)])
def test_disconnect_has_the_code_that_the_server_gives(given, code):
    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})
        await receive()
        await receive()

    with audit.record_events() as events:
        run(AuditMiddleware(app), CONNECT, {"type": "websocket.disconnect", **given})
    assert events.types() == ["websocket.connected", "websocket.closed"]
    assert closing(events[1])[:2] == (code, "client")


def test_application_that_neither_accepts_nor_closes_is_500():
    async def app(scope, receive, send):
        await receive()

    with audit.record_events() as events:
        run(AuditMiddleware(app), CONNECT)
    event = events.one("websocket.refused")
    assert (event["http"]["response"]["status_code"], event["event"]["reason"]) == (500, "no response")


def test_cancelled_connection_leaves_its_event():
    async def cancel():
        accepted = asyncio.Event()

        async def app(scope, receive, send):
            await send({"type": "websocket.accept"})
            accepted.set()
            await asyncio.Event().wait()

        async def send(message):
            pass

        task = asyncio.create_task(AuditMiddleware(app)({"type": "websocket", "path": "/", "headers": []}, None, send))
        await accepted.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with audit.record_events(durability="disk") as events:
        asyncio.run(cancel())
    assert closing(events.one("websocket.closed")) == (1011, "server", "failure", "CancelledError")


def test_accepting_message_repeats_the_id_of_the_request():
    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})

    with audit.record_events() as events:
        sent = run(AuditMiddleware(app))
    request_id = events[0]["http"]["request"]["id"]
    assert sent == [{"type": "websocket.accept", "headers": [(b"x-request-id", request_id.encode())]}]


def test_excluded_and_mounted_connections():
    outer = Starlette(routes=[Mount("/chat", make_app(excluded_paths="/rooms/1"))])
    events = talk(outer, "hello", path="/chat/rooms/1")
    assert events.types() == ["message.sent"]
    assert events[0]["url"]["path"] == "/chat/rooms/1"
    route = talk(outer, path="/chat/rooms/2").one("websocket.connected")["http"]["route"]
    assert route == "/chat/rooms/{room}"


class TestTrailFailure:
    """The trail takes no events; a recording trail whose processor raises stands for it."""

    @pytest.fixture(autouse=True)
    def broken(self):
        with audit.record_events() as events:
            trail = current_trail()

            async def refuse(event_type, facts, durability=None):
                raise audit.errors.SpoolFullError("full", event_id=None, state="refused")

            trail.aemit = refuse
            yield events

    async def accepting(self, scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "secret"})
        await receive()

    def test_connection_is_not_accepted(self, caplog):
        assert run(AuditMiddleware(self.accepting), CONNECT) == [{"type": "websocket.close", "code": 1013}]
        assert "Could not record websocket.connected: SpoolFullError: full" in caplog.text

    def test_server_that_can_answer_a_handshake_answers_503(self):
        sent = run(AuditMiddleware(self.accepting), CONNECT, extensions={"websocket.http.response": {}})
        assert [message["type"] for message in sent] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert sent[0]["status"] == 503

    def test_connection_is_accepted_and_the_failure_logged_on_demand(self, caplog):
        app = AuditMiddleware(self.accepting, on_trail_failure="log")
        sent = run(app, CONNECT, {"type": "websocket.disconnect", "code": 1000})
        assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send"]
        assert "Could not record websocket.connected" in caplog.text
        assert "Could not record websocket.closed" in caplog.text

    @pytest.mark.parametrize("option", ["fail", "log"])
    def test_refusal_stays_one(self, option):
        async def refusing(scope, receive, send):
            await send({"type": "websocket.close", "code": 1008})

        assert run(AuditMiddleware(refusing, on_trail_failure=option)) == [{"type": "websocket.close", "code": 1008}]
