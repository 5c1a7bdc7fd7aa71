"""A stamp prints what the exact way draws, byte for byte."""

import datetime as dt
import decimal
import enum
import uuid
from typing import Annotated, Literal

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from audit_logging.events.catalogue import Catalogue
from audit_logging.events.document import DocumentBuilder
from audit_logging.events.values import PlainValues
from audit_logging.privacy.redaction import SecretKeys
from audit_logging.settings import Settings
from tests import strategies

SETTINGS = Settings.load(service="Café %b {user_id}", severity_overrides={"user.logout": "critical"})


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Order(BaseModel):
    """Every kind of field that an application would have."""

    order_id: str
    note: Annotated[str, Field(min_length=2, max_length=40)] | None = None
    count: int = 1
    rank: Annotated[int, Field(ge=1, le=70_000)] | None = None
    weight: float | None = None
    ratio: Annotated[float, Field(ge=0, lt=1)] | None = None
    price: decimal.Decimal | None = None
    size: Size | None = None
    state: Literal["new", "paid"] | None = None
    urgent: bool = False
    day: dt.date | None = None
    anything: object = None


class Trimmed(BaseModel):
    """White space goes."""

    model_config = ConfigDict(str_strip_whitespace=True)
    code: str = ""


class Upper(BaseModel):
    """Code of the application's changes one field."""

    code: str = ""

    @field_validator("code")
    @classmethod
    def upper(cls, value):
        return value.upper()


class Loose(BaseModel):
    """A common keyword made free."""

    outcome: str = "success"


today = {"day": "Monday"}


class Daily(BaseModel):
    """A validator whose answer depends on more than the value."""

    code: Annotated[str, AfterValidator(lambda value: f"{value} on {today['day']}")] = ""


def catalogue():
    made = Catalogue()
    made.register(
        "order.made", fields=Order, message="{actor} % ordered {order_id} ({note}, {price}) for {target}: {count}"
    )
    made.register("order.trimmed", fields=Trimmed, message="{actor} {code}")
    made.register("order.upper", fields=Upper, message="{actor} {code}")
    made.register("order.loose", fields=Loose, failure_severity="critical")
    made.register("order.daily", fields=Daily)
    return made


def builder(**settings):
    chosen = Settings.load(**settings) if settings else SETTINGS
    return DocumentBuilder(chosen, catalogue(), PlainValues(SecretKeys()))


def exact(made, event_type, facts, document):
    """Draw the document of the same event the exact way."""
    parsed = document.fields
    drawn, _ = made._draw(event_type, facts, document.event_id, parsed["@timestamp"])
    return drawn


def is_printed(made, event_type, facts):
    return made._stamps.print(event_type, facts, "i" * 36, "2026-01-01T00:00:00.000000Z") is not None


kinds = st.sampled_from(
    [
        st.text(max_size=12),
        st.sampled_from(
            ["u-1", "u-2", "Ann", "", '"', "\\", '","', "%b%%", "{actor}", "\0", "é", "\ud800", "  x ", "-0"]
        ),
        st.sampled_from(["203.0.113.7", "::ffff:203.0.113.7", "2001:DB8::1", "unknown"]),
        st.sampled_from(["EUR", "success", "failure", "new", "small", "1", "12.50", "1e3"]),
        st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000001Z", "2026-13-01T00:00:00.000000Z"]),
        st.integers(-3, 3),
        st.integers() | st.sampled_from([200, 404, 503, 65_535, 70_000, 2**63, -(2**63)]),
        st.floats(),
        st.floats(0, 1),
        st.booleans(),
        st.none(),
        st.decimals(),
        st.uuids(),
        st.datetimes(timezones=st.none() | st.just(dt.timezone.utc)),
        st.sampled_from(Size),
    ]
)
"""Strategies of values of one type each."""

names = st.sampled_from(
    [*strategies.COMMON, *strategies.OWN, *Order.model_fields, "code", "password", "extra", "größe"]
)
known_types = st.sampled_from(
    "user.login api.call purchase.completed admin.role_change security.suspicious_activity"
    " order.made order.trimmed order.upper order.loose order.daily new.type".split()
)


@st.composite
def shapes(draw):
    """One event type, and several events of it with the same keywords and the same types of values."""
    alike = st.fixed_dictionaries(draw(st.dictionaries(names, kinds, max_size=7)))
    return draw(known_types), draw(st.lists(alike, min_size=2, max_size=5))


class TestEveryDocument:
    @given(shapes())
    @example(("user.login", [{"user_id": "a", "user_name": "b"}, {"user_id": "b", "user_name": "a"}]))
    @example(("user.login", [{"user_id": "a", "user_name": "b"}, {"user_id": "b", "user_name": "b"}]))
    @example(("user.login", [{"user_id": "a", "session_id": "a"}, {"user_id": "a", "session_id": "b"}]))
    @example(("user.login", [{"user_name": "a", "user_id": "b"}, {"user_name": "", "user_id": "b"}]))
    @example(("user.login", [{"tag": '","'}, {"tag": "a"}]))
    @example(("order.made", [{"order_id": "o", "ratio": 0.0}, {"order_id": "o", "ratio": -0.0}]))
    @example(("order.loose", [{"outcome": "anything"}, {"outcome": "failure"}]))
    @example(("order.trimmed", [{"code": "a"}, {"code": " a "}]))
    @example(("order.upper", [{"code": "A"}, {"code": "a"}]))
    def test_is_the_one_that_the_exact_way_draws(self, shape):
        """Whatever the first event of a shape taught, the next ones are the same byte for byte."""
        event_type, events = shape
        made = builder()
        for facts in events:
            document = made.build(event_type, facts)
            assert document == exact(made, event_type, facts, document)

    @given(strategies.event_types, st.lists(strategies.facts, min_size=2, max_size=4))
    def test_also_of_the_awkward_kinds(self, event_type, events):
        """All that applications put into events, through one builder that has learnt from the others."""
        made = builder()
        for facts in [*events, *events]:
            given_facts = {name: value for name, value in facts.items() if not isinstance(value, type(iter([])))}
            document = made.build(event_type, given_facts)
            assert document == exact(made, event_type, given_facts, document)


class TestWhatIsPrinted:
    @pytest.mark.parametrize(
        ("event_type", "facts", "others"),
        [
            ("user.login", {"user_id": "u-1", "source_ip": "203.0.113.7", "outcome": "failure", "reason": "bad"}, {}),
            (
                "user.login",
                {"user_id": 42, "user_name": "Ann", "source_ip": "::1", "source_port": 4711},
                {"user_id": 7},
            ),
            ("user.login", {"user_id": uuid.UUID(int=1), "user_name": "Ann"}, {"user_id": uuid.UUID(int=2)}),
            ("user.login", {"timestamp": dt.datetime.now(dt.timezone.utc), "message": "x"}, {"message": "é"}),
            ("user.login", {"timestamp": "2026-01-01T00:00:00.000000Z", "event_id": "e"}, {"event_id": "f"}),
            ("user.logout", {"password": "secret", "size": 3, "rate": 1.5, "on": True}, {"size": 4, "rate": 2.5}),
            ("purchase.completed", {"amount": "19.99", "currency": "EUR", "product_id": "p"}, {"amount": "7"}),
            ("purchase.completed", {"amount": decimal.Decimal("19.99"), "currency": "EUR", "product_id": "p"}, {}),
            (
                "api.call",
                {"endpoint": "/a", "method": "GET", "status_code": 200, "response_time_ms": 1.5, "url_path": "/a/1"},
                {"response_time_ms": 2.25},
            ),
            ("data.accessed", {"resource": "r", "record_count": 12}, {"record_count": 0}),
            ("new.type", {"user_id": "u-1", "colour": "red"}, {"colour": "blue"}),
            (
                "order.made",
                {"order_id": "o", "count": 3, "weight": 1.5, "price": decimal.Decimal("1.10"), "size": Size.SMALL},
                {"count": 4, "weight": 2.0, "price": decimal.Decimal("2.30")},
            ),
            (
                "order.made",
                {"order_id": "o", "note": "ab", "rank": 9, "state": "new", "urgent": True},
                {"rank": 70_000},
            ),
        ],
    )
    def test_the_second_event_of_a_shape_is_printed(self, event_type, facts, others):
        """The ordinary events of the core and of applications never take the exact way twice."""
        made = builder()
        assert not is_printed(made, event_type, facts)
        made.build(event_type, facts)
        assert is_printed(made, event_type, facts | others)

    @pytest.mark.parametrize(
        "facts",
        [{"reason": ""}, {"reason": "\ud800"}, {"reason": "x" * 30_000}, {"source_ip": "nope"}, {"tags": ["a"]}],
        ids=lambda facts: ascii(facts)[:40],
    )
    def test_the_awkward_is_for_the_exact_way(self, facts):
        """Whether a stamp for its shape is there or not."""
        made = builder()
        ordinary = {"reason": "ordinary", "source_ip": "::1"} | ({"tags": ["b"]} if "tags" in facts else {})
        for _ in range(2):
            made.build("user.login", ordinary | facts)
            assert not is_printed(made, "user.login", ordinary | facts)
            made.build("user.login", ordinary)

    def test_code_of_the_applications_runs_every_time(self, monkeypatch):
        """What a validator did to a value once says nothing of the next time."""
        made = builder()
        for day in ("Monday", "Monday", "Tuesday"):
            monkeypatch.setitem(today, "day", day)
            metadata = made.build("order.daily", {"code": "c"}).fields["audit"]["metadata"]
            assert metadata == {"code": f"c on {day}"}

    def test_a_registration_is_seen_at_once(self):
        """A type that was unknown when its first event came."""
        made = builder()
        for _ in range(2):
            assert made.build("late.type", {"user_id": "u"}).fields["log"]["level"] == "info"
        made._catalogue.register("late.type", severity="critical", message="{actor} was late")
        for _ in range(2):
            assert made.build("late.type", {"user_id": "u"}).fields["message"] == "u was late"

    def test_what_is_learnt_has_a_bound(self):
        """Made-up keywords and made-up values fill no memory."""
        made = builder()
        for number in range(1100):
            made.build("new.type", {f"key{number}": "x"})
        for number in range(300):
            made.build("purchase.completed", {"amount": "1", "product_id": "p", "currency": f"A{chr(65 + number // 26)}{chr(65 + number % 26)}"})  # fmt: skip
        assert len(made._stamps._shapes) == 1000
        made = builder()
        for number in range(300):
            made.build("purchase.completed", {"amount": "1", "product_id": "p", "currency": f"A{chr(65 + number // 26)}{chr(65 + number % 26)}"})  # fmt: skip
        assert [len(shape.stamps) for shape in made._stamps._shapes.values()] == [200]


def test_documents_are_what_they_were_when_recorded():
    """The wire document of the same facts does not change without a new ``audit.schema``."""
    made = DocumentBuilder(Settings.load(service="shop"), Catalogue(), PlainValues(SecretKeys()))
    made._host = {"name": "host"}
    for event_type, facts, recorded in RECORDED:
        for _ in range(2):  # drawn, then printed
            parsed = made.build(event_type, facts).fields
            parsed["event"]["id"], parsed["@timestamp"] = "id", "time"
            parsed["process"]["pid"] = 1
            assert orjson.dumps(parsed, option=orjson.OPT_SORT_KEYS).decode() == recorded


RECORDED = [
    ("user.login", {"user_id": "u-42", "source_ip": "::ffff:203.0.113.7", "outcome": "failure", "method": "totp"}, '{"@timestamp":"time","audit":{"metadata":{"method":"totp"},"schema":"1"},"event":{"action":"user.login","category":["authentication"],"id":"id","kind":"event","outcome":"failure","severity":30,"type":["start"]},"host":{"name":"host"},"log":{"level":"warning"},"message":"u-42 failed to log in","process":{"pid":1},"related":{"ip":["203.0.113.7"],"user":["u-42"]},"service":{"environment":"production","name":"shop"},"source":{"ip":"203.0.113.7"},"user":{"id":"u-42"}}'),
    ("api.call", {"endpoint": "/users/{id}", "url_path": "/users/7", "method": "GET", "status_code": 503, "response_time_ms": 1.5, "user_id": 7, "user_name": "Ann"}, '{"@timestamp":"time","audit":{"schema":"1"},"event":{"action":"api.call","category":["api"],"duration":1500000,"id":"id","kind":"event","outcome":"failure","severity":50,"type":["access"]},"host":{"name":"host"},"http":{"request":{"method":"GET"},"response":{"status_code":503},"route":"/users/{id}"},"log":{"level":"critical"},"message":"GET /users/{id} answered 503","process":{"pid":1},"related":{"user":["7","Ann"]},"service":{"environment":"production","name":"shop"},"url":{"path":"/users/7"},"user":{"id":"7","name":"Ann"}}'),
    ("purchase.completed", {"amount": 19.99, "currency": "EUR", "product_id": "p", "password": "x", "größe": 1.5}, '{"@timestamp":"time","audit":{"metadata":{"amount":"19.99","currency":"EUR","größe":"1.5","password":"[redacted]","product_id":"p"},"schema":"1"},"event":{"action":"purchase.completed","category":["web"],"id":"id","kind":"event","outcome":"success","severity":20,"type":["info"]},"host":{"name":"host"},"log":{"level":"info"},"message":"Somebody bought p for 19.99 EUR","process":{"pid":1},"service":{"environment":"production","name":"shop"}}'),
    ("admin.role_change", {"user_id": "u-1", "target_user_id": "u-42", "changes": {"role": {"before": "a", "after": "b"}}}, '{"@timestamp":"time","audit":{"changes":[{"after":"b","before":"a","field":"role"}],"schema":"1"},"event":{"action":"admin.role_change","category":["iam"],"id":"id","kind":"event","outcome":"success","severity":30,"type":["user","change"]},"host":{"name":"host"},"log":{"level":"warning"},"message":"u-1 changed the role of u-42","process":{"pid":1},"related":{"user":["u-1","u-42"]},"service":{"environment":"production","name":"shop"},"user":{"id":"u-1","target":{"id":"u-42"}}}'),
    ("invoice.approved", {"invoice_id": 'i"7', "ok": True, "nothing": None, "metadata": {"b": [1, 2.5], "a": {}}}, r'{"@timestamp":"time","audit":{"metadata":{"a":{},"b":[1,"2.5"],"invoice_id":"i\"7","nothing":null,"ok":true},"schema":"1"},"event":{"action":"invoice.approved","id":"id","kind":"event","outcome":"unknown","severity":20},"host":{"name":"host"},"log":{"level":"info"},"message":"Somebody: invoice.approved","process":{"pid":1},"service":{"environment":"production","name":"shop"}}'),
]  # fmt: skip
