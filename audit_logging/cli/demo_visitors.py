"""The demo's visitors: what they do in the shop, from where, the same at every run."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from typing_extensions import Self

SEED: Final = 7
TIMEOUT_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Visitor:
    """Somebody who uses the shop. Addresses are from the ranges kept for documentation (RFC 5737, RFC 3849)."""

    name: str
    password: str
    weight: int
    addresses: tuple[str, ...]
    user_agent: str


VISITORS: Final = (
    Visitor("ann", "correct horse", 5, ("203.0.113.7", "2001:db8::42"), "Mozilla/5.0 (X11; Linux x86_64)"),
    Visitor("bob", "battery staple", 4, ("198.51.100.23",), "ShopApp/3.1 (iPhone)"),
    Visitor("cleo", "tr0ub4dor", 3, ("198.51.100.77", "203.0.113.80"), "ShopApp/3.0 (Android)"),
    Visitor("root", "s3cret", 2, ("203.0.113.250",), "Mozilla/5.0 (Windows NT 10.0)"),
)
INTRUDER: Final = "127.0.0.1, 192.0.2.66"
"""Guesses passwords from 192.0.2.66, and claims to be the machine itself. Only what our proxy appended is believed."""

# How often, relative to each other; method; path; what is sent.
_ERRANDS: Final[tuple[tuple[float, str, str], ...]] = (
    (6, "GET", "/products/{product}"),
    (4, "POST", "/buy/{affordable}"),
    (2, "POST", "/buy/sofa"),
    (3, "POST", "/logout"),
    (1, "GET", "/products/unicorn"),
    (0.3, "GET", "/broken"),
)
_ADMINISTRATION: Final[tuple[tuple[float, str, str], ...]] = (
    (2, "PUT", "/users/{member}/role/{role}"),
    (1, "PUT", "/settings/card-limit?limit=500.00"),
    (1, "GET", "/users/export"),
    (1, "DELETE", "/users/{member}"),
)


class Visits:
    """Sends the visitors' requests to the shop at *url*. Close it, or use it in a ``with`` block."""

    def __init__(self, url: str) -> None:
        import httpx

        self._client = httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS)
        self._chance = random.Random(SEED)  # noqa: S311 - the same visits at every run
        self._sessions: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def wait_until_open(self) -> None:
        """Return once the shop answers."""
        self._client.get("/health")

    def run(self, count: int) -> Iterator[int]:
        """Send *count* requests and yield after each how many were sent."""
        for sent in range(1, count + 1):
            if self._chance.random() < 0.08:  # noqa: PLR2004
                self._intrude()
            else:
                self._visit()
            yield sent

    def _visit(self) -> None:
        visitor = self._chance.choices(VISITORS, [visitor.weight for visitor in VISITORS])[0]
        if visitor.name not in self._sessions or self._chance.random() < 0.1:  # noqa: PLR2004
            self._log_in(visitor)
            return
        errands = _ADMINISTRATION if visitor.name == "root" else _ERRANDS
        _, method, path = self._chance.choices(errands, [weight for weight, _, _ in errands])[0]
        path = path.format(
            product=self._chance.choice(["book", "lamp", "sofa"]),
            affordable=self._chance.choice(["book", "lamp"]),
            member=self._chance.choice(["ann", "bob", "dora"]) if method == "PUT" else "dora",
            role=self._chance.choice(["editor", "member"]),
        )
        self._send(visitor, method, path, headers={"x-session": self._sessions[visitor.name]})
        if path == "/logout":
            del self._sessions[visitor.name]

    def _log_in(self, visitor: Visitor) -> None:
        mistaken = self._chance.random() < 0.2  # noqa: PLR2004
        form = {"user": visitor.name, "password": "caps lock" if mistaken else visitor.password}
        answer = self._send(visitor, "POST", "/login", json=form)
        if answer.is_success:
            self._sessions[visitor.name] = answer.json()["session"]

    def _intrude(self) -> None:
        name = self._chance.choice(["root", "root", "admin", "test"])
        headers = {"x-forwarded-for": INTRUDER, "user-agent": "python-requests/2.31"}
        self._client.post("/login", json={"user": name, "password": "123456"}, headers=headers)

    def _send(self, visitor: Visitor, method: str, path: str, **rest: Any) -> httpx.Response:
        headers = {
            "x-forwarded-for": self._chance.choice(visitor.addresses),
            "user-agent": visitor.user_agent,
            **rest.pop("headers", {}),
        }
        return self._client.request(method, path, headers=headers, **rest)
