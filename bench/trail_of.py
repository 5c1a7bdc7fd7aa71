"""A stream of any number of synthetic events, to measure reading on.

Each is a canonical document of about 800 bytes, sealed into its writer's chain, and the same for the same arguments.
"""

from __future__ import annotations

import datetime as dt
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson

from audit_logging.integrity.seal import Chain
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.opensearch.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.settings import Settings

BEGIN: Final = dt.datetime(2026, 3, 1, tzinfo=dt.timezone.utc)
WRITERS: Final = 4
BATCH: Final = 4000
REQUESTS_IN_FLIGHT: Final = 3

_SPLICE: Final = len('{"@timestamp":"2026-01-01T00:00:00.000000Z","audit":{')
_KINDS: Final = (
    # event type, category, type, outcome, level, severity number; as often as they are listed
    *[("api.call", "web", "access", "success", "info", 20)] * 6,
    *[("user.login", "authentication", "start", "success", "info", 20)] * 3,
    ("user.login", "authentication", "start", "failure", "warning", 30),
    ("purchase.completed", "web", "info", "success", "info", 20),
    ("admin.role_change", "iam", "change", "success", "warning", 30),
)


def fill(settings: Settings, events: int, *, days: int = 30, users: int = 2000) -> None:
    """Set the stream of *settings* up and store *events* events in it, evenly over *days* days from :data:`BEGIN` on.

    Args:
        settings: Where to.
        events: How many.
        days: Over how many days.
        users: By how many users, named ``u-0`` and so on; each about as often as any other.
    """
    with AuditAdmin(settings=settings) as admin:
        admin.setup()
    client = Client(settings)
    with ThreadPoolExecutor(REQUESTS_IN_FLIGHT - 1) as pool:
        pending: list[Any] = []
        for body in _bodies(events, days, users):
            pending.append(pool.submit(_store, client, settings.stream, body))
            if len(pending) >= REQUESTS_IN_FLIGHT:
                pending.pop(0).result()
        for future in pending:
            future.result()
    client.request("POST", f"/{settings.stream}/_refresh", timeout=120)
    client.close()


def _store(client: Client, stream: str, body: bytes) -> None:
    answer = client.request("POST", f"/{stream}/_bulk", params={"filter_path": "errors"}, body=body, timeout=120)
    assert not answer["errors"]


def _bodies(events: int, days: int, users: int) -> Iterator[bytes]:
    chance = random.Random(20260301)
    chains = [Chain(f"{chance.getrandbits(80):020x}") for _ in range(WRITERS)]
    step = dt.timedelta(days=days) / events
    lines: list[bytes] = []
    for number in range(events):
        chain = chains[chance.randrange(WRITERS)]
        sealed = chain.seal(_document(number, BEGIN + step * number, users, chance), _SPLICE)
        chain.advance(sealed)
        lines += [b'{"create":{"_id":"%b-%d"}}' % (chain.writer.encode(), sealed.sequence), sealed.payload]
        if len(lines) >= 2 * BATCH:
            yield b"\n".join((*lines, b""))
            lines = []
    if lines:
        yield b"\n".join((*lines, b""))


def _document(number: int, moment: dt.datetime, users: int, chance: random.Random) -> bytes:
    event_type, category, ecs_type, outcome, level, severity = _KINDS[chance.randrange(len(_KINDS))]
    user = f"u-{chance.randrange(users)}"
    address = f"203.0.{chance.randrange(256)}.{chance.randrange(256)}"
    document: dict[str, Any] = {
        "@timestamp": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "audit": {"metadata": {"order": f"o-{number}", "amount": "19.99", "currency": "EUR"}, "schema": "1"},
        "event": {
            "action": event_type,
            "category": [category],
            "id": str(UUID(int=chance.getrandbits(128))),
            "kind": "event",
            "outcome": outcome,
            "severity": severity,
            "type": [ecs_type],
        },
        "host": {"name": f"web-{number % 4}"},
        "http": {"request": {"id": f"r-{number}"}},
        "log": {"level": level},
        "message": f"{user}: {event_type} came out as {outcome}",
        "organization": {"id": f"tenant-{number % 20}"},
        "process": {"pid": 4242},
        "related": {"ip": [address], "user": [user]},
        "service": {"environment": "production", "name": "shop"},
        "source": {"ip": address},
        "user": {"id": user},
    }
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
