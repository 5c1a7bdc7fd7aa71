"""What a request says about itself is taken only where it is harmless."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.integrations.http_request import choose_request_id, domain_of, endpoint_of, parse_trace_parent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize("given_id", ["r-1", "a", "A.b_c-9", "x" * 128])
def test_a_harmless_request_id_is_kept(given_id):
    """So that one id leads through all services."""
    assert choose_request_id([given_id]) == given_id


@pytest.mark.parametrize("given_ids", [[], [""], ["x" * 129], ["a b"], ["a\nb"], ["é"], ["<b>"], ["a", "b"], ["r-1\n"]])
def test_any_other_is_replaced(given_ids):
    """It would stand in logs and headers."""
    assert len(choose_request_id(given_ids)) == 36


@pytest.mark.parametrize("value", [f"00-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-00", f"01-{TRACE}-{SPAN}-01-more"])
def test_a_valid_trace_parent(value):
    """Later versions may have more parts (W3C Trace Context, section 3.2.4)."""
    assert parse_trace_parent([value]) == (TRACE, SPAN)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        [f"ff-{TRACE}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN}-01-more"],
        [f"00-{TRACE}-{SPAN}-01more"],
        [f"00-{'0' * 32}-{SPAN}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE.upper()}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN}"],
        [f"00-{TRACE}-{SPAN}-01"] * 2,
    ],
)
def test_an_invalid_trace_parent_is_none(values):
    """The specification lets nobody guess."""
    assert parse_trace_parent(values) is None


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("shop.example", "shop.example"),
        ("Shop.Example:8443", "shop.example"),
        ("[2001:DB8::1]:80", "[2001:db8::1]"),
        ("xn--bcher-kva.example:", "xn--bcher-kva.example"),
        ("user@shop.example", "user@shop.example"),
        ("a:b:c", "a:b:c"),
    ],
)
def test_the_domain_is_the_host_without_its_port(host, domain):
    """One that is malformed is evidence, and stays as it came."""
    assert domain_of(host) == domain


@pytest.mark.parametrize(
    ("path", "template", "parameters", "endpoint"),
    [
        ("/items/7", "/items/{item}", {"item": 7}, "/items/{item}"),
        ("/items/7", "/items/{item:int}", {"item": 7}, "/items/{item:int}"),
        ("/items", "/items", {}, "/items"),
        ("/", "/", {}, "/"),
        # A router that was included, or an application that was mounted, under a prefix.
        ("/v1/items/7", "/items/{item}", {"item": "7"}, "/v1/items/{item}"),
        ("/v1/", "/", {}, "/v1/"),
        ("/acme/v1/items/7", "/items/{item}", {"item": "7", "tenant": "acme"}, "/{tenant}/v1/items/{item}"),
        ("/v1/v1/items/7", "/items/{item}", {"item": "7", "tenant": "v1"}, "/v1/{tenant}/items/{item}"),
        ("/files/a/b/c", "/files/{path:path}", {"path": "a/b/c"}, "/files/{path:path}"),
        ("/v1/files/a/files/c", "/files/{path:path}", {"path": "a/files/c"}, "/v1/files/{path:path}"),
        ("/a/7-8", "/a/{x}-{y}", {"x": "7", "y": "8"}, "/a/{x}-{y}"),
        # No route, or one that is not this path's.
        ("/nowhere", None, {}, "/nowhere"),
        ("/static/a.css", "/static", {}, "/static/a.css"),
        ("/", "/items/{item}", {}, "/"),
        ("/items/7", 42, {}, "/items/7"),
        ("/items/7", "items/{item}", {}, "/items/7"),
    ],
)
def test_calls_of_one_endpoint_have_one_name(path, template, parameters, endpoint):
    """Whatever prefixes it was built from."""
    assert endpoint_of(path, template, parameters) == endpoint


segments = st.lists(st.text(st.characters(exclude_characters="/{}"), min_size=1, max_size=5), max_size=4)


@given(segments, segments, st.text(st.characters(exclude_characters="/{}"), min_size=1, max_size=5))
def test_a_prefix_is_kept_and_never_raises(prefix, literal, value):
    """Any prefix before any template."""
    template = "/".join(["", *literal, "{value}"])
    path = "/".join(["", *prefix, *literal, value])
    assert endpoint_of(path, template, {"value": value}) == "/".join(["", *prefix]) + template
