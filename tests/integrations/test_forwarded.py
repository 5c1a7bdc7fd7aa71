"""The address of a request is what one's own proxies saw, and never what a client wrote."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.integrations.forwarded import Origin, find_origin, parse_hop

PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]


def origin(peer, xff=(), forwarded=()):
    return find_origin(peer, x_forwarded_for=list(xff), forwarded=list(forwarded), trusted=PROXIES)


@pytest.mark.parametrize(
    ("peer", "xff", "forwarded", "expected"),
    [
        # A stranger's headers are ignored, whatever they say.
        ("203.0.113.7", ["127.0.0.1"], [], Origin("203.0.113.7", False)),
        ("203.0.113.7", [], ["for=127.0.0.1"], Origin("203.0.113.7", False)),
        # A trusted proxy is believed, and only the hop that it appended.
        ("10.0.0.1", ["198.51.100.4"], [], Origin("198.51.100.4", True)),
        ("10.0.0.1", ["127.0.0.1, 198.51.100.4"], [], Origin("198.51.100.4", True)),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.4, 10.0.0.2"], [], Origin("198.51.100.4", True)),
        ("fd00::1", ["2001:db8::1"], [], Origin("2001:db8::1", True)),
        # Only proxies: the leftmost is as far as it goes.
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], [], Origin("10.0.0.3", True)),
        ("10.0.0.1", [], [], Origin("10.0.0.1", False)),
        # Ports, brackets, mapped addresses.
        ("10.0.0.1", ["198.51.100.4:4711"], [], Origin("198.51.100.4", True)),
        ("10.0.0.1", ["[2001:db8::1]:4711"], [], Origin("2001:db8::1", True)),
        ("10.0.0.1", ["::ffff:198.51.100.4"], [], Origin("198.51.100.4", True)),
        ("::ffff:10.0.0.1", ["198.51.100.4"], [], Origin("198.51.100.4", True)),
        # Garbage ends the walk at the last hop that was believed.
        ("10.0.0.1", ["<script>"], [], Origin("10.0.0.1", False)),
        ("10.0.0.1", ["6.6.6.6, <script>, 10.0.0.2"], [], Origin("10.0.0.2", True)),
        ("10.0.0.1", [", ,"], [], Origin("10.0.0.1", False)),
        ("10.0.0.1", ["6.6.6.6, unknown"], [], Origin("10.0.0.1", False)),
        # RFC 7239, its own examples and its traps.
        ("10.0.0.1", [], ["for=198.51.100.4;proto=http;by=203.0.113.43"], Origin("198.51.100.4", True)),
        ("10.0.0.1", [], ['For="[2001:db8:cafe::17]:4711"'], Origin("2001:db8:cafe::17", True)),
        ("10.0.0.1", [], ['for=6.6.6.6, for="198.51.100.4:80"; proto=https'], Origin("198.51.100.4", True)),
        ("10.0.0.1", [], ['for="_gazonk"'], Origin("10.0.0.1", False)),
        ("10.0.0.1", [], ["for=unknown"], Origin("10.0.0.1", False)),
        ("10.0.0.1", [], ['for="6.6.6.6, for=7.7.7.7"'], Origin("10.0.0.1", False)),
        ("10.0.0.1", [], ["proto=https;host=x"], Origin("10.0.0.1", False)),
        ("10.0.0.1", ["6.6.6.6"], ["for=198.51.100.4"], Origin("198.51.100.4", True)),
        # Without a peer (a Unix socket) nothing is believed.
        (None, ["6.6.6.6"], [], Origin(None, False)),
        ("/run/app.sock", ["6.6.6.6"], [], Origin(None, False)),
    ],
)
def test_of_each_attack(peer, xff, forwarded, expected):
    """A table of what people send."""
    assert origin(peer, xff, forwarded) == expected


header = st.lists(st.text(st.characters(max_codepoint=255), max_size=60), max_size=4)


@given(st.sampled_from(["203.0.113.7", "8.8.8.8", "2001:db8::5"]), header, header)
def test_a_stranger_never_chooses_the_address(peer, xff, forwarded):
    """Whatever the headers."""
    assert origin(peer, xff, forwarded) == Origin(peer, False)


@given(header, header, st.ip_addresses())
def test_what_clients_prepend_never_wins_over_what_the_proxy_appended(xff, forwarded, client):
    """The proxy appends the address that it saw; anything further left is the client's invention."""
    if any(client in network for network in PROXIES if network.version == client.version):
        return
    expected = str(getattr(client, "ipv4_mapped", None) or client)
    assert origin("10.0.0.1", [*xff, str(client)], []).address == expected
    node = f'for="[{client}]"' if client.version == 6 else f"for={client}"
    clean = [line for line in forwarded if line.count('"') % 2 == 0 and "\\" not in line]
    assert origin("10.0.0.1", xff, [*clean, node]).address == expected


@given(st.text(max_size=80))
def test_a_hop_is_an_address_or_nothing(text):
    """Never an exception."""
    hop = parse_hop(text)
    assert hop is None or str(hop)


def test_enormous_headers_cost_little():
    """Only the end is looked at, where one's own proxies write."""
    assert origin("10.0.0.1", ["6.6.6.6, " * 100_000 + "198.51.100.4"]).address == "198.51.100.4"
    assert origin("10.0.0.1", [], ["for=6.6.6.6, " * 100_000 + "for=198.51.100.4"]).address == "198.51.100.4"
