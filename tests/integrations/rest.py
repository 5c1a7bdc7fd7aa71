"""An application that lets its users read the trail: in one process with the test, or behind a real uvicorn."""

from __future__ import annotations

import asyncio
from typing import Annotated

import httpx
from fastapi import FastAPI, Header, HTTPException

from audit_logging.integrations.asgi import AuditMiddleware
from audit_logging.integrations.fastapi import Access, audit_router

ACCOUNTS = {
    "root": Access(user_id="u-root", user_name="root"),
    "ann": Access(user_id="u-ann", organization_id="acme"),
    "eve": Access(user_id="u-eve", organization_id="evil"),
}


def account(x_user: Annotated[str, Header()] = "") -> Access:
    """Let nobody in but those above."""
    if not x_user:
        raise HTTPException(401, "log in first", {"WWW-Authenticate": "Session"})
    if x_user not in ACCOUNTS:
        raise HTTPException(403, "auditors only")
    return ACCOUNTS[x_user]


def application(settings, access=account, **options):
    """Return an application with the router in it."""
    app = FastAPI()
    app.include_router(audit_router(access=access, settings=settings, **options))
    app.add_middleware(AuditMiddleware)
    return app


class Browser:
    """Asks an application in this process, as *user*."""

    def __init__(self, app, user="root"):
        self.app, self.user = app, user

    def get(self, path, user=None, method="GET", **parameters):
        return asyncio.run(self._request(method, path, self.user if user is None else user, parameters))

    def json(self, path, **more):
        answer = self.get(path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def problem(self, path, status, **more):
        answer = self.get(path, **more)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
        assert answer.json()["status"] == status
        assert answer.json()["type"] == "about:blank"
        return answer.json()

    async def _request(self, method, path, user, parameters):
        transport = httpx.ASGITransport(self.app, client=("203.0.113.7", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
            return await client.request(method, f"/admin/{path}", params=parameters or None, headers={"x-user": user})


def ids(events):
    return [each["event"]["id"] for each in events]
