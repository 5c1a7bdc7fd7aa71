"""The address of a request is what one's own proxies saw, and never what a client wrote."""

import ipaddress
import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from audit_logging.integrations.forwarded import (
    MAX_HOPS,
    find_origin,
    parse_forwarded,
    parse_node,
    parse_x_forwarded_for,
)

PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]
NEAREST = "10.0.0.1"
"""Our own proxy, which the socket is connected to."""


def walk(peer=NEAREST, *, xff=(), forwarded=()):
    """Return the origin as text, with port, and how many of our proxies reported it."""
    origin = find_origin(parse_node(peer), trusted=PROXIES, x_forwarded_for=xff, forwarded=forwarded)
    address, port = origin.node
    return (f"{address} {port}" if port is not None else str(address)), len(origin.proxies)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # The proxy is believed, and only the hop that it appended.
        (["198.51.100.4"], ("198.51.100.4", 1)),
        (["127.0.0.1, 198.51.100.4"], ("198.51.100.4", 1)),
        (["6.6.6.6", "198.51.100.4, 10.0.0.2"], ("198.51.100.4", 2)),
        (["10.0.0.9, 198.51.100.4, fd00::2, 10.0.0.2"], ("198.51.100.4", 3)),
        (["2001:db8::1"], ("2001:db8::1", 1)),
        # Only proxies: the leftmost is as far as it goes.
        (["10.0.0.3, 10.0.0.2"], ("10.0.0.3", 2)),
        ([], (NEAREST, 0)),
        ([""], (NEAREST, 0)),
        # Ports, brackets, mapped addresses, all that proxies write.
        (["198.51.100.4:4711"], ("198.51.100.4 4711", 1)),
        (["[2001:db8::1]:4711"], ("2001:db8::1 4711", 1)),
        (["[2001:db8::1]"], ("2001:db8::1", 1)),
        (["::ffff:198.51.100.4"], ("198.51.100.4", 1)),
        (["[::ffff:198.51.100.4]:80"], ("198.51.100.4 80", 1)),
        (["6.6.6.6, ::ffff:10.0.0.2"], ("6.6.6.6", 2)),
        (["\t198.51.100.4 ,, "], ("198.51.100.4", 1)),
        # Garbage ends the walk at the last address that could be believed.
        (["6.6.6.6, <script>"], (NEAREST, 0)),
        (["6.6.6.6, <script>, 10.0.0.2"], ("10.0.0.2", 1)),
        (["6.6.6.6, unknown"], (NEAREST, 0)),
        (["6.6.6.6, _hidden, 10.0.0.2"], ("10.0.0.2", 1)),
        (["6.6.6.6, 198.51.100.4:99999"], (NEAREST, 0)),
        (["6.6.6.6, 198.51.100.4:"], (NEAREST, 0)),
        (["6.6.6.6, [198.51.100.4]"], (NEAREST, 0)),
        (["6.6.6.6, 198.51.100.04"], (NEAREST, 0)),
        (["6.6.6.6, 3325256708"], (NEAREST, 0)),
        (["6.6.6.6, 0x7f000001"], (NEAREST, 0)),
        (["6.6.6.6, fe80::1%eth0"], (NEAREST, 0)),
        (['6.6.6.6, "198.51.100.4"'], (NEAREST, 0)),
        (["6.6.6.6, 198.51.100.4\r\nX: y"], (NEAREST, 0)),
        (["6.6.6.6, \xa0198.51.100.4"], (NEAREST, 0)),
        (["6.6.6.6, 198.51.100.\xb2"], (NEAREST, 0)),
    ],
)
def test_x_forwarded_for(lines, expected):
    """What people send, what proxies write, and where the walk ends."""
    assert walk(xff=lines) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # RFC 7239's own examples (sections 4 to 7).
        (['for="_gazonk"'], (NEAREST, 0)),
        (['For="[2001:db8:cafe::17]:4711"'], ("2001:db8:cafe::17 4711", 1)),
        (["for=192.0.2.60;proto=http;by=203.0.113.43"], ("192.0.2.60", 1)),
        (["for=192.0.2.43, for=198.51.100.17"], ("198.51.100.17", 1)),
        (["for=_hidden, for=_SEVKISEK"], (NEAREST, 0)),
        (["for=192.0.2.43", 'for="[2001:db8:cafe::17]", for=unknown'], (NEAREST, 0)),
        (["for=192.0.2.43,for=10.0.0.2"], ("192.0.2.43", 2)),
        # The rest of the grammar, and what proxies write beside it.
        (['for="198.51.100.4:80"; proto=https'], ("198.51.100.4 80", 1)),
        (['for="198.51.100.4:_port"'], ("198.51.100.4", 1)),
        (["for=198.51.100.4:80"], ("198.51.100.4 80", 1)),
        (["for=[2001:db8::1]"], ("2001:db8::1", 1)),
        (['for="198\\.51.100.4"'], ("198.51.100.4", 1)),
        ([" ; ;for=198.51.100.4"], ("198.51.100.4", 1)),
        (["for=198.51.100.4;"], ("198.51.100.4", 1)),
        (["for=198.51.100.4, ,"], ("198.51.100.4", 1)),
        (['host="a, b; c\\"d";for=198.51.100.4'], ("198.51.100.4", 1)),
        # The client's host name within our proxy's element.
        (['host="a;for=6.6.6.6";for=198.51.100.4'], ("198.51.100.4", 1)),
        (['host="a, for=6.6.6.6";for=198.51.100.4'], ("198.51.100.4", 1)),
        (['for=198.51.100.4;host="\\", for=6.6.6.6"'], ("198.51.100.4", 1)),
        # The client leaves a quote or an escape open, to swallow what the proxies append.
        (['for="6.6.6.6', "for=198.51.100.4"], ("198.51.100.4", 1)),
        (['for=6.6.6.6;x="', 'for="[2001:db8::1]"'], ("2001:db8::1", 1)),
        (['for=6.6.6.6;x="\\', 'for="198.51.100.4:1"'], ("198.51.100.4 1", 1)),
        (['for=6.6.6.6;x=", for="198.51.100.4:1"'], ("198.51.100.4 1", 1)),
        # Not well-formed: nothing is believed.
        (['for="6.6.6.6, for=7.7.7.7"'], (NEAREST, 0)),
        (["for=6.6.6.6;for=7.7.7.7"], (NEAREST, 0)),
        (["for=6.6.6.6;;proto=http"], ("6.6.6.6", 1)),
        (["for = 6.6.6.6"], (NEAREST, 0)),
        (["for=6.6.6.6 x"], (NEAREST, 0)),
        (['for="6.6.6.6'], (NEAREST, 0)),
        (['for=6.6.6.6"'], (NEAREST, 0)),
        (["for="], (NEAREST, 0)),
        (['for=""'], (NEAREST, 0)),
        (["proto=https;host=x"], (NEAREST, 0)),
        (["6.6.6.6"], (NEAREST, 0)),
    ],
)
def test_forwarded(lines, expected):
    """RFC 7239: its examples, its grammar and its traps."""
    assert walk(forwarded=lines) == expected


def test_of_both_headers_the_one_that_most_proxies_write_is_read():
    """Else any client behind such a proxy could name an address in the other one, which is passed on unread."""
    assert walk(xff=["198.51.100.4"], forwarded=["for=6.6.6.6"]) == ("198.51.100.4", 1)


def test_without_a_peer_nothing_is_believed():
    """A Unix socket, or a client that was gone before the server asked for its address."""
    assert find_origin(None, trusted=PROXIES, x_forwarded_for=["6.6.6.6"]) is None


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "fd00::1"])
def test_a_trusted_peer_in_any_spelling(peer):
    """An IPv4 proxy on a socket for both families is the same proxy."""
    assert walk(peer, xff=["198.51.100.4"]) == ("198.51.100.4", 1)


header = st.lists(st.text(st.characters(max_codepoint=255), max_size=60), max_size=4)
# Text that is nearly a header goes deeper into the parser than noise does.
pieces = st.sampled_from(
    [*'",;=\\[]:%_ \t', "for=", "For=", "by=", "6.6.6.6", "10.0.0.2", "2001:db8::1", "unknown", "80"]
)
nearly = st.lists(st.lists(pieces, max_size=30).map("".join), max_size=4)
lines = header | nearly
strangers = st.ip_addresses().map(lambda address: getattr(address, "ipv4_mapped", None) or address)


@given(st.sampled_from(["203.0.113.7", "8.8.8.8", "2001:db8::5"]), lines, lines)
def test_a_stranger_never_chooses_the_address(peer, xff, forwarded):
    """Whatever the headers say."""
    assert walk(peer, xff=xff, forwarded=forwarded) == (peer, 0)


@given(lines, strangers, st.booleans())
@example(['for=6.6.6.6;x="'], ipaddress.ip_address("2001:db8::1"), True)
def test_what_a_client_sends_never_wins_over_what_the_proxy_appended(sent, client, on_one_line):
    """Proxies append to the last line or add one of their own."""
    assume(not any(client in network for network in PROXIES))
    node = f'for="[{client}]";proto=https' if client.version == 6 else f"for={client};proto=https"
    for append, name in ((node, "forwarded"), (str(client), "xff")):
        appended = [*sent[:-1], f"{sent[-1]}, {append}"] if on_one_line and sent else [*sent, append]
        assert walk(**{name: appended}) == (str(client), 1)


@given(lines)
def test_any_lines_give_addresses_or_nothing(given_lines):
    """Never an exception."""
    for parse in (parse_x_forwarded_for, parse_forwarded):
        assert all(node is None or node.address.version in (4, 6) for node in parse(given_lines))


@given(st.ip_addresses(), st.none() | st.integers(0, 65535))
def test_every_address_is_read_in_every_spelling(address, port):
    """Bare, in brackets, with a port."""
    expected = getattr(address, "ipv4_mapped", None) or address
    text = f"[{address}]" if address.version == 6 else str(address)
    assert parse_node(text if port is None else f"{text}:{port}") == (expected, port)
    assert parse_node(str(address)) == (expected, None)


def test_a_chain_of_proxies_has_an_end():
    """However long the chain that somebody within the trusted networks makes up."""
    assert walk(xff=[", ".join(["6.6.6.6"] + ["10.0.0.2"] * 10_000)]) == ("10.0.0.2", MAX_HOPS)


@pytest.mark.parametrize(
    "hostile",
    [
        "6.6.6.6, " * 10_000,
        "," * 65_536,
        "10.0.0.2," * 7_000,
        '"' * 65_536,
        '\\"' * 32_768,
        'for="' * 13_000,
        'for="\\"\\"\\"",' * 5_000,
        "for=" + "a" * 65_536,
        "for=10.0.0.2;" * 5_000,
        "[" * 65_536,
        ":" * 65_536,
        "9" * 65_536,
    ],
)
def test_enormous_headers_cost_little(hostile):
    """64 KB of anything, or 10,000 hops: a few milliseconds at most, and nothing is believed but addresses."""
    begun = time.process_time()
    for sent in ([hostile], [hostile, "198.51.100.4"]):
        walk(xff=sent)
    for sent in ([hostile], [hostile, "for=198.51.100.4"]):
        walk(forwarded=sent)
    assert time.process_time() - begun < 2
    assert walk(xff=[hostile, "198.51.100.4"]) == ("198.51.100.4", 1)
    assert walk(forwarded=[hostile, "for=198.51.100.4"]) == ("198.51.100.4", 1)
