"""Any Python value becomes plain JSON, and nothing disappears unmarked."""

import datetime as dt
import decimal
import math
import uuid
from collections import OrderedDict, deque

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.events.values import MAX_KEY_BYTES, MAX_TEXT_BYTES, PlainValues, text
from audit_logging.privacy.redaction import SecretKeys
from tests import strategies

plain = PlainValues()


def depth_of(value):
    if isinstance(value, dict):
        return 1 + max((depth_of(member) for member in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth_of(member) for member in value), default=0)
    return 0


def assert_plain(value, path_bytes=0):
    """Check that only the allowed kinds are there, within the bounds that OpenSearch sets."""
    if isinstance(value, dict):
        for key, member in value.items():
            assert type(key) is str
            size = len(key.encode())
            assert size <= MAX_KEY_BYTES + 8
            assert_plain(member, path_bytes + size + 1)
    elif isinstance(value, list):
        for member in value:
            assert_plain(member, path_bytes)
    elif type(value) is str:
        assert len(value.encode()) + path_bytes <= MAX_TEXT_BYTES
    elif type(value) is int:
        assert -(2**63) <= value < 2**63
    else:
        assert value is None or type(value) is bool


class TestEveryValue:
    @given(strategies.values)
    def test_becomes_plain_json_within_bounds(self, value):
        """Whatever it is: no exception, allowed kinds only, every text within what a Lucene term holds."""
        result = plain.of_mapping({"key": value})
        assert_plain(result)
        assert depth_of(result) <= 18
        assert orjson.loads(orjson.dumps(result)) == result

    @given(strategies.values)
    def test_plain_values_are_a_fixed_point(self, value):
        """What is plain already stays as it is, so a second pass changes nothing."""
        once = plain.of_mapping({"key": value})
        assert plain.of_mapping(once) == once

    @given(st.data())
    def test_no_leaf_disappears_unmarked(self, data):
        """Every leaf is in the result, or the result says that something was cut."""
        counter = iter(range(10_000))
        leaf = st.builds(lambda: f"leaf-{next(counter)}-")
        shape = st.recursive(
            leaf,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strategies.keys, inner, max_size=3),
            max_leaves=30,
        )
        value = strategies._deep(data.draw(shape), data.draw(st.integers(0, 30)))
        given_leaves = set()
        collect_leaves(value, given_leaves)
        rendered = orjson.dumps(plain.of(value)).decode()
        missing = {found for found in given_leaves if found not in rendered}
        assert not missing or "[cut, " in rendered


def collect_leaves(value, leaves):
    if isinstance(value, str):
        leaves.add(value)
    elif isinstance(value, dict):
        for member in value.values():
            collect_leaves(member, leaves)
    else:
        for member in value:
            collect_leaves(member, leaves)


class TestOutcomes:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (1.5, "1.5"),
            (1e100, "1e+100"),
            (math.nan, "NaN"),
            (math.inf, "Infinity"),
            (-math.inf, "-Infinity"),
            (2**63 - 1, 2**63 - 1),
            (2**63, "9223372036854775808"),
            (-(2**63) - 1, "-9223372036854775809"),
            (True, True),
            (b"\x00\xff", "base64:AP8="),
            ("\ud800", "\\ud800"),
            (decimal.Decimal("1.10"), "1.10"),
            (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
            (dt.datetime(2026, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))), "2026-01-01T00:00:00.000000Z"),
            (dt.datetime(2026, 1, 1), "2026-01-01T00:00:00"),
            (dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-1))), "9999-12-31T23:59:59.999999-01:00"),
            (dt.date(2026, 1, 1), "2026-01-01"),
            ({3, 1, 2}, [1, 2, 3]),
            (deque([1, (2,)]), [1, [2]]),
            (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
            (strategies.Colour.RED, "red"),
            (strategies.Colour.MANY, ["a", 1]),
            (strategies.Level.HIGH, 3),
            (strategies.Point(1, {"z": None}), {"x": 1, "y": {"z": None}}),
            (strategies.Model(a=1.5, b=[b""]), {"a": "1.5", "b": ["base64:"]}),
            (ValueError("bad"), "ValueError: bad"),
            (strategies.Raising(), "[unprintable Raising: RuntimeError]"),
            (strategies.LyingText("liar"), "liar"),
            (strategies.BrokenMapping(a=1), "[unprintable BrokenMapping: RuntimeError]"),
            ({1: "a", "1": "b", True: "c", None: "d", 1.5: "e"}, {"1": "b", "1~2": "c", "null": "d", "1.5": "e"}),
            ({"\ud800": 1, "\\ud800": 2}, {"\\ud800": 2, "\\ud800~2": 1}),
        ],
    )
    def test_of_each_awkward_kind(self, value, expected):
        """The table of the module, row by row."""
        assert plain.of(value) == expected

    def test_a_cycle_is_named_where_it_closes(self):
        """A value within itself is named, and the same value twice beside itself is not a cycle."""
        cycle = {"a": [1]}
        cycle["a"].append(cycle)
        shared = [1]
        assert plain.of(cycle) == {"a": [1, "[cycle]"]}
        assert plain.of([shared, shared]) == [[1], [1]]

    def test_an_integer_too_long_for_decimal_is_told_in_hexadecimal_and_cut(self):
        """Python refuses to print integers of thousands of digits; the event is not lost over it."""
        assert plain.of(10**5000).startswith("0x")

    def test_depth_ends_in_json_text(self):
        """What is too deep for the index stays readable as text, and tells how much is deeper still."""
        deep = strategies._deep("bottom", 40)
        assert "bottom" in orjson.dumps(plain.of(deep)).decode()
        assert "more inside]" in orjson.dumps(plain.of(strategies._deep("bottom", 300))).decode()

    def test_long_text_is_cut_with_its_original_size(self):
        """The mark says how long it was, and cutting never splits a character."""
        cut = text("é" * 40_000)
        assert cut.endswith("…[cut, 80000 bytes]")
        assert len(cut.encode()) <= MAX_TEXT_BYTES
        assert text("x" * MAX_TEXT_BYTES) == "x" * MAX_TEXT_BYTES

    def test_secret_keys_are_redacted_at_any_depth(self):
        """Also inside dataclasses and models, which no dictionary walk would see."""
        redacting = PlainValues(SecretKeys(["iban"]))
        value = {"password": "p", "a": [{"apiKey": "k", "user": strategies.Point("x", {"IBAN": "i"})}], 1: {"token": 2}}
        assert redacting.of_mapping(value) == {
            "password": "[redacted]",
            "a": [{"apiKey": "[redacted]", "user": {"x": "x", "y": {"IBAN": "[redacted]"}}}],
            "1": {"token": "[redacted]"},
        }


class TestCost:
    def test_an_attackers_input_takes_linear_time(self):
        """70,000 keys and 200 KB strings: bounded work, no recursion error."""
        result = plain.of_mapping({f"k{number}": number for number in range(70_000)} | {"big": "x" * 200_000})
        assert len(result) == 70_001
