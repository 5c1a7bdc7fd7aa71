"""Every event of a request knows the request, and the request itself is an event."""

import asyncio
import ipaddress

import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket

import audit_logging as audit
from audit_logging.integrations.asgi import AuditMiddleware

log = audit.get_logger()
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def make_app(**options):
    app = FastAPI()
    app.add_middleware(AuditMiddleware, **options)

    def user(name: str = "u-42"):
        audit.bind_context(user_id=name)
        return name

    @app.get("/items/{item}")
    def item(item: str, name: str = Depends(user)):
        log.data_accessed(resource=f"item {item}")
        return {"item": item}

    @app.get("/meet/{name}")
    async def meet(name: str):
        audit.bind_context(user_id=name)
        await app.state.barrier.wait()
        log.user_logout(seen=name)
        return name

    @app.get("/broken")
    def broken():
        raise RuntimeError("broken")

    @app.get("/health")
    def health():
        log.user_logout()
        return "up"

    @app.websocket("/ws")
    async def ws(websocket: WebSocket):
        await websocket.accept()
        await websocket.close()

    return app


def get(app, path, *, client=("203.0.113.7", 5000), headers=None):
    async def send():
        transport = httpx.ASGITransport(app, client=client, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as http:
            return await http.get(path, headers=headers)

    return asyncio.run(send())


def test_the_request_is_an_event_and_gives_its_facts_to_every_event_within():
    """A synchronous dependency in the thread pool names the user; both events carry everything."""
    with audit.record_events() as events:
        response = get(
            make_app(), "/items/7", headers={"user-agent": "curl/8", "x-request-id": "r-1", "traceparent": TRACEPARENT}
        )
    assert events.types() == ["data.accessed", "api.call"]
    for event in events:
        assert event["user"]["id"] == "u-42"
        assert event["source"] == {"ip": "203.0.113.7", "port": 5000}
        assert event["user_agent"] == {"original": "curl/8"}
        assert event["http"]["request"] == {"id": "r-1", "method": "GET"}
        assert event["trace"] == {"id": "4bf92f3577b34da6a3ce929d0e0e4736"}
        assert event["span"] == {"id": "00f067aa0ba902b7"}
    assert events[0]["url"] == {"domain": "shop.example", "path": "/items/7"}
    call = events[1]
    assert call["url"]["path"] == "/items/{item}"
    assert call["audit"]["metadata"] == {"url_path": "/items/7"}
    assert call["http"]["response"] == {"status_code": 200}
    assert call["event"]["duration"] > 0
    assert response.headers["x-request-id"] == "r-1"


def test_an_exception_counts_as_500_and_goes_on():
    """The server still gets to see it."""
    with audit.record_events() as events:
        response = get(make_app(), "/broken")
    call = events.one("api.call")
    assert (response.status_code, call["http"]["response"]["status_code"]) == (500, 500)
    assert call["log"]["level"] == "critical"

    async def raising(scope, receive, send):
        raise RuntimeError("bare")

    with audit.record_events() as events, pytest.raises(RuntimeError, match="bare"):
        asyncio.run(AuditMiddleware(raising)({"type": "http", "method": "GET", "path": "/x"}, None, None))
    assert events.one("api.call")["http"]["response"]["status_code"] == 500


def test_paths_that_do_not_exist_are_events_under_their_own_path():
    """Probing shows in the trail."""
    with audit.record_events() as events:
        get(make_app(), "/wp-admin.php")
    call = events.one("api.call")
    assert (call["url"]["path"], call["http"]["response"]["status_code"]) == ("/wp-admin.php", 404)


def test_excluded_paths_are_no_event_but_have_their_context():
    """Health checks do not flood the trail."""
    with audit.record_events() as events:
        get(make_app(excluded_paths={"/health"}), "/health")
    assert events.types() == ["user.logout"]
    assert events[0]["source"]["ip"] == "203.0.113.7"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({"x-forwarded-for": "6.6.6.6, 198.51.100.4"}, "198.51.100.4"), ({"forwarded": "for=198.51.100.5"}, "198.51.100.5")],
)
def test_a_trusted_proxy_tells_the_client(headers, expected):
    """From the argument, or from the setting; a stranger's header never."""
    proxies = [ipaddress.ip_network("10.0.0.0/8")]
    with audit.record_events() as events:
        get(make_app(trusted_proxies=proxies), "/health", client=("10.0.0.1", 1), headers=headers)
        get(make_app(trusted_proxies=proxies), "/health", client=("203.0.113.7", 1), headers=headers)
    with audit.record_events(trusted_proxies=proxies) as from_setting:
        get(make_app(), "/health", client=("10.0.0.1", 1), headers=headers)
    assert [event["source"]["ip"] for event in events.of("api.call")] == [expected, "203.0.113.7"]
    assert events[0]["client"] == {"ip": expected}
    assert from_setting[0]["source"]["ip"] == expected


def test_concurrent_requests_do_not_see_each_other():
    """Two users at the same moment, each in their own events."""
    app = make_app()

    async def both():
        app.state.barrier = asyncio.Barrier(2) if hasattr(asyncio, "Barrier") else _Pair()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as http:
            await asyncio.gather(http.get("/meet/ann"), http.get("/meet/bob"))

    with audit.record_events() as events:
        asyncio.run(both())
    for event in events.of("user.logout"):
        assert event["user"]["id"] == event["audit"]["metadata"]["seen"]
    assert {event["user"]["id"] for event in events.of("api.call")} == {"ann", "bob"}
    assert len({event["http"]["request"]["id"] for event in events}) == 2


class _Pair:
    """asyncio.Barrier(2) for Python 3.10."""

    def __init__(self):
        self.waiting, self.both = 0, asyncio.Event()

    async def wait(self):
        self.waiting += 1
        if self.waiting == 2:
            self.both.set()
        await self.both.wait()


def test_hostile_headers_stay_harmless():
    """A forged request id or trace is replaced or left out; bytes of any kind are recorded."""
    hostile = {"x-request-id": "a b\x01", "traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "user-agent": b"\xff\x1b[31m"}
    with audit.record_events() as events:
        response = get(make_app(), "/health", headers=hostile)
    assert len(response.headers["x-request-id"]) == 36
    assert "trace" not in events[0]
    assert events[0]["user_agent"]["original"] == "\xff\x1b[31m"


def test_other_scopes_pass_through_untouched():
    """Lifespan and websockets are none of its business."""
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    async def both():
        for kind in ("lifespan", "websocket"):
            await AuditMiddleware(app)({"type": kind}, "receive", "send")

    with audit.record_events() as events:
        asyncio.run(both())
    assert seen == [({"type": "lifespan"}, "receive", "send"), ({"type": "websocket"}, "receive", "send")]
    assert events == []
