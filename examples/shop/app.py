"""A small web shop with an audit trail, to read from top to bottom.

Run it with AUDIT_OPENSEARCH_URL set, or with `audit-logging server up` before:

    uvicorn examples.shop.app:app

Everything that auditing takes is marked with (1) to (8).
"""

from __future__ import annotations

import hmac
import logging.config
import secrets
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import Depends, FastAPI, Header, HTTPException, Response
from pydantic import BaseModel

import audit_logging as audit
from audit_logging.integrations.asgi import AuditMiddleware
from audit_logging.integrations.fastapi import Access, audit_router

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# (1) The trail. Where OpenSearch is, comes from AUDIT_* variables.
audit.configure(service="shop", service_version="1.0")

# (2) The middleware: address, user agent and request id for every event, and `api.call` for every request.


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Ship the last events before the server ends; a server that is killed leaves them to its next start."""
    yield
    audit.shutdown()


app = FastAPI(title="Shop", lifespan=lifespan)
app.add_middleware(AuditMiddleware, excluded_paths=["/health", "/ready"])

# (3) The first way in: typed calls.
log = audit.get_logger()

# (4) The second: a tap in the structlog chain that the shop has anyway. Marked events go to the trail as well.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        audit.AuditProcessor(),
        structlog.processors.LogfmtRenderer(key_order=["level", "event"]),
    ]
)
app_log = structlog.get_logger()

# (5) The third: a handler of the standard library.
logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"audit": {"class": "audit_logging.AuditHandler"}},
        "loggers": {"shop": {"level": "INFO", "handlers": ["audit"], "propagate": False}},
    }
)
shop_log = logging.getLogger("shop")

PASSWORDS = {"ann": "correct horse", "bob": "battery staple", "cleo": "tr0ub4dor", "dora": "hunter2", "root": "s3cret"}
ROLES = {"ann": "member", "bob": "member", "cleo": "member", "dora": "member", "root": "admin"}
SESSIONS: dict[str, str] = {}
PRICES = {"book": Decimal("19.99"), "lamp": Decimal("49.00"), "sofa": Decimal("899.00")}
LIMITS = {"card": Decimal("500.00")}


class Login(BaseModel):
    """What the log-in form sends."""

    user: str
    password: str


def current_user(x_session: Annotated[str, Header()] = "") -> str:
    """Tell who is logged in."""
    user = SESSIONS.get(x_session)
    if user not in PASSWORDS:
        raise HTTPException(401, "log in first")
    # (6) Known from here on: every further event of this request carries the user, `api.call` included.
    audit.bind_context(user_id=f"u-{user}", user_name=user, user_roles=[ROLES[user]])
    return user


def administrator(user: Annotated[str, Depends(current_user)]) -> str:
    """Let administrators alone pass."""
    if ROLES[user] != "admin":
        raise HTTPException(403, "administrators only")
    return user


User = Annotated[str, Depends(current_user)]
Administrator = Annotated[str, Depends(administrator)]


def auditor(user: Administrator) -> Access:
    """Let administrators read the whole trail; a shop of many tenants would name the administrator's here."""
    return Access(user_id=f"u-{user}", user_name=user)


# (7) The trail, for administrators to read: /admin/audit-logs and so on. That they did is in it as well.
app.include_router(audit_router(access=auditor))


@app.get("/health")
def health() -> dict[str, bool]:
    """Say that the shop is up; no event."""
    return {"up": True}


# (8) Whether this process can take more events: for a load balancer, or the readiness probe of Kubernetes.
@app.get("/ready")
def ready(response: Response) -> dict[str, Any]:
    """Say whether work may be sent here, and what is wrong with the trail; no event."""
    health = audit.health()
    response.status_code = 200 if health.is_ready else 503
    return health.to_dict()


@app.post("/login")
def login(form: Login) -> dict[str, str]:
    """Log in; also what fails is an event."""
    if form.user not in PASSWORDS:
        log.security_login_failed(method="password", reason="unknown account", attempted_user=form.user)
        raise HTTPException(401, "wrong user or password")
    audit.bind_context(user_id=f"u-{form.user}", user_name=form.user)
    if not hmac.compare_digest(PASSWORDS[form.user], form.password):
        log.user_login(method="password", outcome="failure", reason="bad password")
        raise HTTPException(401, "wrong user or password")
    log.user_login(method="password")
    session = secrets.token_urlsafe()
    SESSIONS[session] = form.user
    return {"session": session}


@app.post("/logout")
def logout(user: User, x_session: Annotated[str, Header()]) -> dict[str, str]:
    """Log out, told through the structlog chain."""
    del SESSIONS[x_session]
    app_log.info("User logged out", audit="user.logout")
    return {"user": user}


@app.get("/products/{product}")
def product(product: str) -> dict[str, str]:
    """Show a price; no event but `api.call`."""
    if product not in PRICES:
        raise HTTPException(404, "no such product")
    return {"product": product, "price": str(PRICES[product])}


@app.post("/buy/{product}")
def buy(product: str, _: User) -> dict[str, str]:
    """Buy; what the card does not allow is refused."""
    if product not in PRICES:
        raise HTTPException(404, "no such product")
    purchase: dict[str, Any] = {
        "amount": PRICES[product],
        "currency": "EUR",
        "product_id": product,
        "transaction_id": f"t-{secrets.token_hex(6)}",
    }
    log.purchase_initiated(**purchase)
    if PRICES[product] > LIMITS["card"]:
        log.purchase_failed(**purchase, reason="over the card's limit")
        raise HTTPException(402, "card refused")
    log.purchase_completed(**purchase)
    return {"bought": product}


@app.put("/users/{name}/role/{role}")
def change_role(name: str, role: str, by: Administrator) -> dict[str, str]:
    """Change a role; before and after are in the event."""
    if name not in ROLES:
        raise HTTPException(404, "no such user")
    before, ROLES[name] = ROLES[name], role
    log.admin_role_change(
        target_user_id=f"u-{name}", target_user_name=name, changes={"role": {"before": before, "after": role}}
    )
    return {"user": name, "role": role, "by": by}


@app.delete("/users/{name}")
def delete_user(name: str, by: Administrator) -> dict[str, str]:
    """Delete an account; that somebody tried to delete one that is not there is in the trail as well."""
    if PASSWORDS.pop(name, None) is None:
        log.admin_user_delete(target_user_id=f"u-{name}", outcome="failure", reason="no such user")
        raise HTTPException(404, "no such user")
    log.admin_user_delete(
        target_user_id=f"u-{name}", target_user_name=name, changes={"role": {"before": ROLES.pop(name)}}
    )
    return {"deleted": name, "by": by}


@app.put("/settings/card-limit")
def set_card_limit(limit: Decimal, by: Administrator) -> dict[str, str]:
    """Change a setting, told through the standard library."""
    before, LIMITS["card"] = LIMITS["card"], limit
    changes = {"card-limit": {"before": before, "after": limit}}
    shop_log.info("Card limit set to %s", limit, extra={"audit": "admin.config_change", "changes": changes})
    return {"limit": str(limit), "by": by}


@app.get("/users/export")
def export_users(by: Administrator) -> list[str]:
    """Hand out personal data, which is an event of the security family."""
    log.security_data_export(resource="users", record_count=len(ROLES), format="json", requested_by=by)
    return sorted(ROLES)


@app.get("/broken")
def broken() -> None:
    """Fail as shops do: the caller sees a 500 and the trail a critical `api.call`."""
    raise RuntimeError("the warehouse does not answer")
