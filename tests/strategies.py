"""Hypothesis strategies for what applications put into events, the awkward kinds above all."""

import dataclasses
import datetime as dt
import decimal
import enum
import ipaddress
import pathlib
import uuid

from hypothesis import strategies as st
from pydantic import BaseModel


class Colour(enum.Enum):
    RED = "red"
    MANY = ("a", 1)


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    x: object
    y: object


class Model(BaseModel):
    a: object
    b: list[object] = []


class Raising:
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class LyingText(str):
    def __str__(self):
        raise RuntimeError("no text")


class BrokenMapping(dict):
    def items(self):
        raise RuntimeError("no items")


def _cycle_list():
    cycle = [1]
    cycle.append(cycle)
    return cycle


def _cycle_dict():
    cycle = {"a": 1}
    cycle["self"] = cycle
    return cycle


short_text = st.text(st.characters(exclude_categories=()), max_size=30)
"""Any characters, lone surrogates among them."""

long_text = st.builds(
    lambda unit, size: (unit * (size // max(len(unit.encode("utf-8", "surrogatepass")), 1) + 1))[:size],
    st.sampled_from(["x", "é", "漢", "🎉", "a\ud800", '"\\\n', "\0"]),
    st.integers(30_000, 70_000),
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.builds(lambda: 10**5000),
    st.floats(),
    st.decimals(),
    short_text,
    long_text,
    st.binary(max_size=40),
    st.binary(max_size=40).map(bytearray),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.sampled_from([dt.datetime.min.replace(tzinfo=dt.timezone.utc), dt.datetime.max, dt.date(1, 1, 1), dt.time(3)]),
    st.timedeltas(),
    st.uuids(),
    st.sampled_from([Colour.RED, Colour.MANY, Level.HIGH, ValueError("bad"), object, ...]),
    st.sampled_from([ipaddress.ip_address("::1"), pathlib.Path("/tmp"), decimal.Decimal("NaN"), uuid.UUID(int=7)]),
    st.builds(Raising),
    st.builds(lambda: LyingText("liar")),
    st.builds(_cycle_list),
    st.builds(_cycle_dict),
    st.builds(lambda: BrokenMapping(a=1)),
    st.builds(lambda: iter([1])),
)

keys = st.one_of(
    short_text,
    st.sampled_from(["", ".", "a.b", "a", "1", "password", "\ud800", "\\ud800", "[cut]", "user_id", "None", "null"]),
    st.integers(0, 2),
    st.booleans(),
    st.none(),
    st.floats(),
    st.tuples(st.integers(), st.text(max_size=3)),
    long_text,
)


def _deep(value, depth):
    for level in range(depth):
        value = {"deeper": value} if level % 2 else [value]
    return value


values = st.one_of(
    st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.tuples(inner, inner),
            st.dictionaries(keys, inner, max_size=4),
            st.builds(Point, inner, inner),
            st.builds(Model, a=inner, b=st.lists(inner, max_size=2)),
        ),
        max_leaves=8,
    ),
    st.builds(_deep, scalars, st.integers(10, 300)),
    st.sets(st.integers() | st.text(max_size=5), max_size=5),
    st.frozensets(st.text(max_size=5), max_size=5),
)

COMMON = (
    "event_id timestamp user_id user_name user_email user_roles effective_user_id target_user_id target_user_name"
    " organization_id source_ip source_port client_ip user_agent url_path url_domain http_method request_id session_id"
    " trace_id span_id outcome reason message tags labels changes metadata"
).split()
OWN = (
    "method amount currency product_id plan endpoint status_code response_time_ms key_id resource record_count".split()
)

good_changes = st.dictionaries(
    st.text(min_size=1, max_size=10), scalars | st.fixed_dictionaries({"before": scalars, "after": scalars})
)

facts = st.dictionaries(
    st.sampled_from(COMMON) | st.sampled_from(OWN) | short_text,
    st.one_of(
        values,
        st.sampled_from(
            ["203.0.113.7", "2001:db8::1", "success", "failure", "19.99", "EUR", 200, 503, "2026-01-01T00:00:00Z"]
        ),
        good_changes,
    ),
    max_size=8,
)
"""The keywords of a call: common ones, own ones and unknown ones, with values that fit or do not."""

event_types = (
    st.sampled_from(
        [
            "user.login",
            "purchase.completed",
            "purchase.failed",
            "api.call",
            "admin.role_change",
            "data.accessed",
            "new.type",
        ]
    )
    | short_text
)
