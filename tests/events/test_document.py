"""Facts become one canonical ECS document, whatever they are."""

import json
import logging

import orjson
import pytest
from hypothesis import given
from pydantic import BaseModel, model_validator

from audit_logging.errors import EventError, InvalidEventError
from audit_logging.events.bounds import MAX_DOCUMENT_BYTES
from audit_logging.events.catalogue import Catalogue
from audit_logging.events.document import DocumentBuilder
from audit_logging.events.values import PlainValues
from audit_logging.integrity.seal import Chain, canonical_form
from audit_logging.settings import Settings
from tests import strategies

catalogue = Catalogue()


def builder(**settings):
    return DocumentBuilder(Settings.load(**settings), catalogue, PlainValues())


def build(event_type, /, **facts):
    return orjson.loads(builder(service="shop").build(event_type, facts).canonical)


def assert_canonical(encoded):
    """Check against a second, independent encoder: sorted keys, no white space, integers of 64 bits only."""
    parsed = json.loads(encoded)

    def walk(value):
        if isinstance(value, dict):
            for member in value.values():
                walk(member)
        elif isinstance(value, list):
            for member in value:
                walk(member)
        else:
            assert not isinstance(value, float)
            assert not isinstance(value, int) or -(2**63) <= value < 2**63

    walk(parsed)
    assert json.dumps(parsed, sort_keys=True, separators=(",", ":"), ensure_ascii=False) == encoded.decode().replace(
        "\u007f", "\x7f"
    )


class TestEveryEvent:
    @given(strategies.event_types, strategies.facts)
    def test_becomes_a_canonical_document_within_its_bounds(self, event_type, facts):
        """No facts raise; the document is canonical with its seal as without, and at most 1 MiB."""
        document = builder().build(event_type, facts)
        sealed = Chain("w" * 20).seal(document.canonical, document.splice)
        assert_canonical(document.canonical)
        assert_canonical(sealed.payload)
        assert len(sealed.payload) <= MAX_DOCUMENT_BYTES
        assert canonical_form(orjson.loads(sealed.payload)) == document.canonical
        parsed = orjson.loads(document.canonical)
        assert parsed["event"]["id"] == document.event_id
        assert parsed["event"]["outcome"] in {"success", "failure", "unknown"}
        assert parsed["log"]["level"] in {"info", "warning", "critical"}

    @given(strategies.facts)
    def test_every_keyword_is_somewhere(self, facts):
        """A keyword with a value is in its field, in the metadata, or both named and kept as invalid."""
        document = orjson.loads(builder().build("user.login", facts).canonical)
        audit = document["audit"]
        metadata = audit.get("metadata", {})
        for name in facts:
            if name in audit.get("invalid", []):
                assert any(key == name or key.startswith(f"{name}~") for key in metadata), name
            elif name not in strategies.COMMON and facts[name] is not None and not _changes_shape(name):
                plain_name = next(iter(PlainValues().of_mapping({name: 0})))
                assert any(key == plain_name or key.startswith(f"{plain_name}~") for key in metadata), name


def _changes_shape(name):
    return name == "method"


class TestFields:
    def test_keywords_stand_where_ecs_has_them(self):
        """The table of paths, one event through and through."""
        document = build(
            "user.login",
            user_id=42,
            user_name="Ann",
            user_email="ann@example.com",
            user_roles="admin",
            effective_user_id="u-2",
            target_user_id="u-3",
            target_user_name="Bob",
            organization_id="acme",
            source_ip="::ffff:203.0.113.7",
            source_port=443,
            user_agent="curl/8",
            request_id="r-1",
            session_id="s-1",
            trace_id="t-1",
            outcome="failure",
            reason="bad password",
            tags={"b", "a"},
            labels={"region": "eu"},
            changes={"role": {"before": "member", "after": "admin"}, "plan": "pro"},
            metadata={"basket": [1, 2]},
            shop="north",
            method="totp",
        )
        assert document["user"] == {
            "id": "42",
            "name": "Ann",
            "email": "ann@example.com",
            "roles": ["admin"],
            "effective": {"id": "u-2"},
            "target": {"id": "u-3", "name": "Bob"},
        }
        assert document["source"] == {"ip": "203.0.113.7", "port": 443}
        assert document["related"] == {"ip": ["203.0.113.7"], "user": ["42", "Ann", "Bob", "u-2", "u-3"]}
        assert document["event"]["category"] == ["authentication"]
        assert document["event"]["type"] == ["start"]
        assert document["event"]["severity"] == 30
        assert document["log"] == {"level": "warning"}
        assert document["message"] == "Ann failed to log in"
        assert document["tags"] == ["a", "b"]
        assert document["audit"]["changes"] == [
            {"field": "role", "before": "member", "after": "admin"},
            {"field": "plan", "after": "pro"},
        ]
        assert document["audit"]["metadata"] == {"method": "totp", "basket": [1, 2], "shop": "north"}
        assert "invalid" not in document["audit"]
        assert document["service"] == {"name": "shop", "environment": "production"}

    @pytest.mark.parametrize(
        ("status", "outcome", "level"),
        [(204, "success", "info"), (404, "failure", "warning"), (503, "failure", "critical")],
    )
    def test_an_api_call_is_judged_by_its_status(self, status, outcome, level):
        """2xx and 3xx info, 4xx warning, 5xx critical."""
        document = build("api.call", endpoint="/users/{id}", method="GET", status_code=status, response_time_ms=1.5)
        assert (document["event"]["outcome"], document["log"]["level"]) == (outcome, level)
        assert document["event"]["duration"] == 1_500_000
        assert document["url"] == {"path": "/users/{id}"}
        assert document["http"] == {
            "request": {"method": "GET"},
            "response": {"status_code": status},
            "route": "/users/{id}",
        }

    def test_severities_can_be_overridden(self):
        """The setting wins over the catalogue."""
        made = builder(severity_overrides={"user.logout": "critical"}).build("user.logout", {})
        assert made.fields["log"] == {"level": "critical"}

    def test_metadata_that_clashes_keeps_both(self):
        """A keyword, its namesake in metadata: neither hides the other."""
        document = build("invoice.approved", metadata={"amount": 1}, amount=2)
        assert document["audit"]["metadata"] == {"amount": 1, "amount~2": 2}

    def test_times_given_are_kept_in_utc(self):
        """An event that happened elsewhere keeps its own time and id."""
        document = build("a.b", timestamp="2023-07-10T12:00:00.5+02:00", event_id="their-id")
        assert document["@timestamp"] == "2023-07-10T10:00:00.500000Z"
        assert document["event"]["id"] == "their-id"


class TestInvalid:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("source_ip", "unknown"),
            ("source_ip", "fe80::1%eth0"),
            ("outcome", "maybe"),
            ("source_port", 70_000),
            ("timestamp", "2026-01-01T00:00:00"),
            ("timestamp", "1969-12-31T23:59:59Z"),
            ("timestamp", "2300-01-01T00:00:00Z"),
            ("timestamp", "gestern"),
            ("timestamp", 2**56),
            ("timestamp", 2**62),
            ("changes", "everything"),
            ("changes", [{"after": 1}]),
            ("labels", ["a"]),
            ("metadata", "text"),
            ("user_id", {"id": 1}),
            ("tags", [{"a": 1}]),
            ("event_id", ""),
        ],
    )
    def test_a_value_that_does_not_validate_is_recorded_as_it_came_and_named(self, name, value):
        """The event is never lost over it."""
        document = build("user.login", user_name="Ann", **{name: value})
        assert document["audit"]["invalid"] == [name]
        assert document["audit"]["metadata"] == {name: value}
        assert document["user"] == {"name": "Ann"}

    def test_missing_required_keywords_are_named(self):
        """Through emit() a purchase without an amount is still an event."""
        document = build("purchase.completed", currency="euro", product_id="p", amount="12,50")
        assert document["audit"]["invalid"] == ["amount", "currency"]
        assert document["audit"]["metadata"] == {"product_id": "p", "amount": "12,50", "currency": "euro"}
        assert build("purchase.completed")["audit"]["invalid"] == ["amount", "currency", "product_id"]

    def test_strict_settings_raise(self):
        """For tests: the error names the event type and the keywords."""
        with pytest.raises(InvalidEventError, match=r"user\.login.*source_ip") as caught:
            builder(on_invalid="raise").build("user.login", {"source_ip": "nope"})
        assert caught.value.fields == ("source_ip",)

    def test_it_is_warned_of_once(self, caplog):
        """A mistake in a hot path must not flood the log."""
        one = builder()
        with caplog.at_level(logging.WARNING, "audit_logging"):
            for _ in range(3):
                one.build("user.login", {"source_ip": "nope"})
        assert len(caplog.records) == 1
        assert "source_ip" in caplog.text


class TestBounds:
    def test_seventy_thousand_keys_are_cut_to_fit_and_say_so(self):
        """The largest entries give way, and a mark says how many and how large they were."""
        encoded = builder().build("a.b", {"metadata": {f"key{number}": "x" * 20 for number in range(70_000)}}).canonical
        document = orjson.loads(encoded)
        assert len(encoded) <= MAX_DOCUMENT_BYTES
        assert "entries" in document["audit"]["metadata"]["[cut]"]
        assert len(document["audit"]["metadata"]) > 10_000

    @pytest.mark.parametrize(
        "facts",
        [
            {"tags": [f"tag{number}" for number in range(200_000)]},
            {"changes": {f"field{number}": "x" * 50 for number in range(30_000)}},
            {"labels": {f"label{number}": "x" * 50 for number in range(30_000)}},
            {"user_roles": ["x" * 10_000] * 200},
            dict.fromkeys(strategies.COMMON, "x" * 70000) | {"metadata": {"a": ["x" * 30_000] * 50}},
        ],
        ids=["tags", "changes", "labels", "roles", "all"],
    )
    def test_whatever_is_too_much_gives_way_with_a_mark(self, facts):
        """Any bag an application can fill without end."""
        document = builder().build("user.login", facts)
        assert len(document.canonical) <= MAX_DOCUMENT_BYTES
        assert b"[cut, " in document.canonical
        assert_canonical(Chain("w" * 20).seal(document.canonical, document.splice).payload)


class Approval(BaseModel):
    invoice_id: str
    amount: float = 0.0

    @model_validator(mode="after")
    def amount_is_positive(self):
        if self.amount < 0:
            raise ValueError("negative")
        return self


class TestRegistration:
    def test_a_registered_type_is_validated_by_its_own_model(self):
        """Its keywords are metadata, its severity and category its own, its validators run."""
        catalogue.register(
            "invoice.approved", fields=Approval, severity="warning", category=("database",), ecs_type=("change",), message="{actor} approved {invoice_id}"
        )  # fmt: skip
        document = build("invoice.approved", user_name="Ann", invoice_id="i-1", amount=2.5)
        assert document["audit"]["metadata"] == {"invoice_id": "i-1", "amount": "2.5"}
        assert document["log"]["level"] == "warning"
        assert document["message"] == "Ann approved i-1"
        assert build("invoice.approved", invoice_id="i", amount=-1)["audit"]["invalid"] == ["amount", "invoice_id"]
        assert catalogue.by_call("invoice_approved").required == ("invoice_id",)

    def test_it_may_be_repeated_but_not_contradicted(self):
        """Two modules that register the same are fine; two that differ are a mistake."""
        one = Catalogue()
        one.register("a.b", severity="warning")
        one.register("a.b", severity="warning")
        with pytest.raises(EventError, match="differs"):
            one.register("a.b", severity="critical")
        with pytest.raises(EventError, match="differs"):
            one.register("user.login")

    @pytest.mark.parametrize("name", ["Invoice", "invoice", "invoice.Approved", "a..b", ".a", "a b.c", ""])
    def test_malformed_names_are_refused(self, name):
        """An event type is noun.verb in lower case."""
        with pytest.raises(EventError, match="noun"):
            Catalogue().register(name)

    @pytest.mark.parametrize("message", ["{amount:>10}", "{user_id!r}", "{0}", "{}", "{a.b}", "{a[0]}", "{actor", "}"])
    def test_a_message_holds_keywords_and_nothing_more(self, message):
        """What could fail with some value is refused before there is an event to lose."""
        with pytest.raises(EventError, match="message"):
            Catalogue().register("a.b", message=message)

    def test_only_ecs_pairs_are_allowed(self):
        """Category and type are ECS's, and fit together."""
        with pytest.raises(EventError, match="no ECS category"):
            Catalogue().register("a.b", category=("money",))
        with pytest.raises(EventError, match="no type 'deletion'"):
            Catalogue().register("a.b", category=("authentication",), ecs_type=("deletion",))

    def test_the_core_catalogue_holds_to_ecs_itself(self):
        """Every core type registers under the same rules as an application's."""
        for event_type in Catalogue():
            Catalogue().register(f"copy.{event_type.call}", category=event_type.category, ecs_type=event_type.ecs_type)
