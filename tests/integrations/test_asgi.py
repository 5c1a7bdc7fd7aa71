"""Every event of a request knows the request, and the request itself is an event."""

import asyncio
import ipaddress
from importlib.metadata import version

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import audit_logging as audit
from audit_logging.errors import SettingsError
from audit_logging.integrations.asgi import AuditMiddleware

log = audit.get_logger()
STARLETTE = tuple(map(int, version("starlette").split(".")[:2]))
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
    assert call["url"]["path"] == "/items/7"
    assert call["http"]["route"] == "/items/{item}"
    assert "metadata" not in call["audit"]
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
    [
        ({"x-forwarded-for": "6.6.6.6, 198.51.100.4"}, "198.51.100.4"),
        ({"forwarded": "for=198.51.100.5"}, "198.51.100.5"),
    ],
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
        app.state.barrier = asyncio.Barrier(2)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as http:
            await asyncio.gather(http.get("/meet/ann"), http.get("/meet/bob"))

    with audit.record_events() as events:
        asyncio.run(both())
    for event in events.of("user.logout"):
        assert event["user"]["id"] == event["audit"]["metadata"]["seen"]
    assert {event["user"]["id"] for event in events.of("api.call")} == {"ann", "bob"}
    assert len({event["http"]["request"]["id"] for event in events}) == 2


def test_hostile_headers_stay_harmless():
    """A forged request id or trace is replaced or left out; bytes of any kind are recorded."""
    hostile = {
        "x-request-id": "a b\x01",
        "traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01",
        "user-agent": b"\xff\x1b[31m",
    }
    with audit.record_events() as events:
        response = get(make_app(), "/health", headers=hostile)
    assert len(response.headers["x-request-id"]) == 36
    assert "trace" not in events[0]
    assert events[0]["user_agent"]["original"] == "\xff\x1b[31m"


def test_other_scopes_pass_through_untouched():
    """Such as lifespan."""
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    async def both():
        await AuditMiddleware(app)({"type": "lifespan"}, "receive", "send")

    with audit.record_events() as events:
        asyncio.run(both())
    assert seen == [({"type": "lifespan"}, "receive", "send")]
    assert events == []


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/v1/acme/items/7", "/v1/{tenant}/items/{item}"),
        # Starlette names the route of a request itself from 1.8 on; before, only FastAPI did.
        ("/mounted/items/7", "/mounted/items/{item:int}" if STARLETTE >= (1, 8) else "/mounted/items/7"),
        ("/mounted/nothing", "/mounted/nothing"),
        ("/v1/acme/items", "/v1/acme/items"),
    ],
)
def test_an_endpoint_has_its_prefixes(path, endpoint):
    """Of routers that were included and of applications that were mounted."""
    router = APIRouter(prefix="/{tenant}")

    @router.get("/items/{item}")
    def item(tenant: str, item: str):
        return tenant + item

    app = FastAPI()
    app.add_middleware(AuditMiddleware)
    app.include_router(router, prefix="/v1")
    inner = Starlette(routes=[Route("/items/{item:int}", lambda _: PlainTextResponse("x"))])
    app.router.routes.append(Mount("/mounted", inner))
    with audit.record_events() as events:
        get(app, path)
    call = events.one("api.call")
    assert (call["url"]["path"], call["http"]["route"]) == (path, endpoint)


@pytest.mark.parametrize("patterns", ["/items/*", ["/health", "/items/*"], {"*"}])
def test_excluded_paths_may_be_patterns(patterns):
    """One or several."""
    with audit.record_events() as events:
        get(make_app(excluded_paths=patterns), "/items/7")
        get(make_app(excluded_paths="/health"), "/health/x")
    assert [event["url"]["path"] for event in events.of("api.call")] == ["/health/x"]


def test_only_the_header_that_was_named_is_read():
    """The other one is the client's."""
    both = {"x-forwarded-for": "198.51.100.4", "forwarded": "for=198.51.100.5"}
    with audit.record_events() as events:
        for header in ("x-forwarded-for", "forwarded", None):
            app = make_app(trusted_proxies="10.0.0.0/8", forwarding_header=header)
            get(app, "/health", client=("10.0.0.1", 1), headers=both)
    found = [event["source"]["ip"] for event in events.of("api.call")]
    assert found == ["198.51.100.4", "198.51.100.5", "198.51.100.4"]


def test_the_call_names_the_proxies_that_it_came_through():
    """So that somebody can see later why this is the address; the port is the client's where it is told."""
    with audit.record_events() as events:
        get(
            make_app(trusted_proxies=["10.0.0.0/8"]),
            "/nowhere",
            client=("10.0.0.1", 1),
            headers={"x-forwarded-for": "127.0.0.1, 198.51.100.4:4711, 10.0.0.2"},
        )
    call = events.one("api.call")
    assert call["source"] == {"ip": "198.51.100.4", "port": 4711}
    assert call["client"] == {"ip": "198.51.100.4"}
    assert call["audit"]["metadata"] == {"proxies": ["10.0.0.1", "10.0.0.2"]}


@pytest.mark.parametrize("client", [None, ("testclient", 50000), ("/run/shop.sock", 0), ("", 0)])
def test_a_peer_without_an_address_has_none_in_the_event(client):
    """And its headers are not believed, whatever the settings."""
    with audit.record_events(trusted_proxies="0.0.0.0/0,::/0") as events:
        get(make_app(), "/health", client=client, headers={"x-forwarded-for": "6.6.6.6"})
    assert all("source" not in event for event in events)


def test_a_link_local_peer_has_its_address_without_the_zone():
    """The zone means nothing outside of this host."""
    with audit.record_events() as events:
        get(make_app(), "/health", client=("fe80::1%eth0", 1))
    assert events[0]["source"]["ip"] == "fe80::1"


def test_a_second_middleware_further_in_does_nothing():
    """One request is one event, also where a mounted application has a middleware of its own."""
    inner = make_app()
    outer = FastAPI()
    outer.add_middleware(AuditMiddleware)
    outer.mount("/shop", inner)
    with audit.record_events() as events:
        get(outer, "/shop/items/7")
    assert events.types() == ["data.accessed", "api.call"]
    assert (events[1]["url"]["path"], events[1]["http"]["route"]) == ("/shop/items/7", "/shop/items/{item}")


@pytest.mark.parametrize(
    "wrong", [{"trusted_proxies": ["10.0.0.1/8"]}, {"trusted_proxies": "everyone"}, {"forwarding_header": "via"}]
)
def test_wrong_options_stop_the_program_at_its_start(wrong):
    """In one sentence that names the option."""
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        AuditMiddleware(make_app(), **wrong)


@pytest.mark.parametrize(
    ("root_path", "path", "asked_for"),
    [
        ("/api", "/api/items/7", "/api/items/7"),  # uvicorn --root-path
        ("/api", "/items/7", "/api/items/7"),  # FastAPI(root_path=...), hypercorn
        ("/api/", "/items/7", "/api/items/7"),
        ("", "/items/7", "/items/7"),
        ("/item", "/items/7", "/item/items/7"),
    ],
)
def test_prefix_of_a_proxy_is_part_of_path_and_route(root_path, path, asked_for):
    request = {"type": "http", "method": "GET", "headers": [], "query_string": b"", "root_path": root_path}
    with audit.record_events() as events:
        asyncio.run(make_app()({**request, "path": path, "client": ("203.0.113.7", 5)}, _never, _swallow))
    assert {event["url"]["path"] for event in events} == {asked_for}
    call = events.one("api.call")
    assert call["http"]["response"]["status_code"] == 200
    assert call["http"]["route"] == asked_for.replace("/7", "/{item}")


async def _never():
    await asyncio.Event().wait()


async def _swallow(message):
    pass


@pytest.mark.parametrize("excluded", ["/health", "/api/health"])
@pytest.mark.parametrize("path", ["/health", "/api/health"])
def test_excluded_paths_match_with_and_without_the_prefix_of_a_proxy(excluded, path):
    app = make_app(excluded_paths=excluded)
    request = {"type": "http", "method": "GET", "headers": [], "query_string": b"", "root_path": "/api", "path": path}
    with audit.record_events() as events:
        asyncio.run(app(request, _never, _swallow))
    assert events.types() == ["user.logout"]


def test_middleware_of_a_mounted_application_records_the_whole_path():
    outer = Starlette(routes=[Mount("/shop", make_app(excluded_paths="/health"))])
    with audit.record_events() as events:
        get(outer, "/shop/items/7")
        get(outer, "/shop/health")
    call = events.one("api.call")
    assert (call["url"]["path"], call["http"]["route"]) == ("/shop/items/7", "/shop/items/{item}")


@pytest.mark.parametrize("methods", ["OPTIONS", ["options"], {"OPTIONS", "HEAD"}])
def test_calls_of_excluded_methods_are_not_recorded(methods):
    async def options(app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as http:
            return await http.options("/items/7")

    with audit.record_events() as events:
        asyncio.run(options(make_app(excluded_methods=methods)))
        asyncio.run(options(make_app()))
        get(make_app(excluded_methods=methods), "/items/7")
    assert [event["http"]["request"]["method"] for event in events.of("api.call")] == ["OPTIONS", "GET"]


@pytest.mark.parametrize(
    ("client", "lines", "expected"),
    [
        ("10.0.0.1", ["198.51.100.4"], "198.51.100.4"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("203.0.113.7", ["198.51.100.4"], "203.0.113.7"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.4"], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.4"], "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
    ],
)
@pytest.mark.parametrize("name", ["X-Real-IP", "cf-connecting-ip"])
def test_address_header_is_believed_from_a_trusted_proxy_only(name, client, lines, expected):
    """One line with one address; forwarding headers, which the client may have written, are not read."""
    app = make_app(trusted_proxies="10.0.0.0/8", address_header=name)
    headers = [(name, line) for line in lines] + [("x-forwarded-for", "7.7.7.7")]
    with audit.record_events() as events:
        get(app, "/health", client=(client, 1), headers=headers)
    assert {event["source"]["ip"] for event in events} == {expected}
    believed = expected != client
    assert events.one("api.call").get("client") == ({"ip": expected} if believed else None)


def test_address_header_is_not_believed_without_trusted_proxies():
    with audit.record_events() as events:
        get(make_app(address_header="x-real-ip"), "/health", headers={"x-real-ip": "6.6.6.6"})
    assert events[0]["source"]["ip"] == "203.0.113.7"


def test_request_id_header_has_the_name_that_was_given():
    """In the request and in the response; the default name is then any header."""
    app = make_app(request_id_header="X-Correlation-ID")
    with audit.record_events() as events:
        response = get(app, "/health", headers={"x-correlation-id": "c-1", "x-request-id": "r-1"})
        hostile = get(app, "/health", headers={"x-correlation-id": "a b"})
    assert events[0]["http"]["request"]["id"] == response.headers["x-correlation-id"] == "c-1"
    assert "x-request-id" not in response.headers
    assert len(hostile.headers["x-correlation-id"]) == 36


@pytest.mark.parametrize(
    "wrong",
    [
        {"address_header": "x real ip"},
        {"address_header": ""},
        {"address_header": "x-forwarded-for"},
        {"address_header": "x-real-ip", "forwarding_header": "forwarded"},
        {"request_id_header": "x-id\r\n"},
        {"excluded_methods": ["GET POST"]},
        {"on_trail_failure": "ignore"},
    ],
)
def test_malformed_options_are_refused_by_name(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        AuditMiddleware(make_app(), **wrong)
