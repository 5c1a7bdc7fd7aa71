"""Which address a request came from, behind any number of proxies.

``X-Forwarded-For`` and ``Forwarded`` grow on the right: each proxy appends the address it was called from. What a
client sent itself stands on the left of that, so the left is whatever the client likes to claim. Hence the one sound
reading: begin with the address of the socket, and go leftwards for as long as the one who reports is our own proxy.
The first address that is not our own proxy's is the answer, and nothing further left is looked at.

Elements are split off from the right as well. Read from the left, one unclosed quote of the client's would swallow
what the proxies appended.

Sources: RFC 7239 (``Forwarded``: section 4 grammar, section 6 nodes, section 8.1 what to believe); RFC 9110, section
5.3 (several header lines are one list) and section 5.6.1 (empty elements of a list are skipped).
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from audit_logging.settings import Network

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

HeaderName = Literal["x-forwarded-for", "forwarded"]

MAX_HOPS: Final = 64
"""Proxies that are walked over. Only our own proxies can make a chain longer, and no real one comes near."""

MAX_ELEMENT_CHARACTERS: Final = 1024
"""Longest element of ``Forwarded`` that is looked at; ours are some fifty characters long."""

_PORT = r"(?::(?:(?P<port>[0-9]{1,5})|_[A-Za-z0-9._-]+))?"
_NODE = re.compile(
    r"(?:(?P<four>[0-9]{1,3}(?:\.[0-9]{1,3}){3})|\[(?P<six>[0-9A-Fa-f:.]{2,45})\])" + _PORT
    + r"|(?P<bare_six>[0-9A-Fa-f:.]{2,45})"
)  # fmt: skip
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110, section 5.6.2
# Many proxies write for=192.0.2.1:80 and for=[2001:db8::1] without the quotes that the grammar asks for.
_PAIR = re.compile(rf'({_TOKEN})=(?:"((?:[^"\\]|\\.)*)"|([][:!#$%&\'*+.^_`|~0-9A-Za-z-]+))', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_SEPARATOR = re.compile(r"[ \t]*(?:;[ \t]*)+|\Z")


class Node(NamedTuple):
    """One end of a connection.

    Attributes:
        address: Its address; one of IPv4 written as IPv6 is the IPv4 one.
        port: Its port, where it is known.
    """

    address: Address
    port: int | None = None


class Origin(NamedTuple):
    """Where a request came from.

    Attributes:
        node: The rightmost end that is not one of our proxies, or the last one that could be believed.
        proxies: Our proxies that it came through, the nearest first; empty when the socket's peer is the origin.
    """

    node: Node
    proxies: tuple[str, ...] = ()


def find_origin(
    peer: Node | None,
    *,
    trusted: Sequence[Network],
    x_forwarded_for: Sequence[str] = (),
    forwarded: Sequence[str] = (),
) -> Origin | None:
    """Return where a request came from, or None when the peer is not known. Never raises.

    Where both headers are there, ``X-Forwarded-For`` is read and ``Forwarded`` is not. A proxy usually appends to one
    and passes on what the client put into the other, so give only the one that yours writes if you know it.

    Args:
        peer: The other end of the socket.
        trusted: Networks of our own proxies.
        x_forwarded_for: The values of all such header lines, in their order.
        forwarded: The same of ``Forwarded`` (RFC 7239).

    Example:
        >>> proxies = [ipaddress.ip_network("10.0.0.0/8")]
        >>> claimed = ["127.0.0.1, 203.0.113.7", "10.1.2.3"]
        >>> origin = find_origin(parse_node("10.0.0.1"), trusted=proxies, x_forwarded_for=claimed)
        >>> str(origin.node.address), origin.proxies
        ('203.0.113.7', ('10.0.0.1', '10.1.2.3'))
    """
    if peer is None:
        return None
    hops = parse_x_forwarded_for(x_forwarded_for) if x_forwarded_for else parse_forwarded(forwarded)
    believed = peer
    proxies: list[str] = []
    while _is_trusted(believed.address, trusted) and len(proxies) < MAX_HOPS:
        hop = next(hops, None)
        if hop is None:  # the list ends here, or this proxy does not tell, or what it tells is no address
            break
        proxies.append(str(believed.address))
        believed = hop
    return Origin(believed, tuple(proxies))


def find_reported_origin(peer: Node | None, reported: Sequence[str], *, trusted: Sequence[Network]) -> Origin | None:
    """Return where a request came from by a header that holds one address, such as ``X-Real-IP``. Never raises.

    It is believed where the peer is a trusted proxy and there is one line with one address; otherwise the origin is
    the peer. Of two lines, one may be the client's.

    Args:
        peer: The other end of the socket.
        reported: The values of all lines of the header.
        trusted: Networks of our own proxies.

    Example:
        >>> proxies = [ipaddress.ip_network("10.0.0.0/8")]
        >>> str(find_reported_origin(parse_node("10.0.0.1"), ["203.0.113.7"], trusted=proxies).node.address)
        '203.0.113.7'
    """
    if peer is None:
        return None
    node = parse_node(reported[0].strip(" \t")) if len(reported) == 1 else None
    if node is None or not _is_trusted(peer.address, trusted):
        return Origin(peer)
    return Origin(node, (str(peer.address),))


def parse_x_forwarded_for(lines: Sequence[str]) -> Iterator[Node | None]:
    """Yield the elements of ``X-Forwarded-For`` from the right; None for one that holds no address.

    There is no standard for it; addresses come bare, in brackets and with ports.

    Example:
        >>> [str(node.address) for node in parse_x_forwarded_for(["192.0.2.1:4711, 2001:db8::1"])]
        ['2001:db8::1', '192.0.2.1']
    """
    for line in reversed(lines):
        end = len(line)
        while end >= 0:
            comma = line.rfind(",", 0, end)
            element = line[comma + 1 : end].strip(" \t")
            end = comma
            if element:
                yield parse_node(element)


def parse_forwarded(lines: Sequence[str]) -> Iterator[Node | None]:
    """Yield the ``for`` of each element of ``Forwarded`` from the right; None for one that holds no address.

    Such are ``unknown``, obfuscated ones (``_hidden``), elements without ``for``, and what is not well-formed; after
    the last kind the iteration ends, for nothing tells where the element begins.

    Example:
        >>> line = 'for="[2001:db8::1]:4711";proto=https, for=unknown, For="192.0.2.1"'
        >>> [node and str(node.address) for node in parse_forwarded([line])]
        ['192.0.2.1', None, '2001:db8::1']
    """
    for line in reversed(lines):
        end = len(line)
        while end >= 0:
            comma = _comma_before(line, end)
            if comma is None:
                yield None
                return
            element = line[comma + 1 : end].strip(" \t")
            end = comma
            if element:
                yield _forwarded_for(element)


def parse_node(text: str) -> Node | None:
    """Return the address and port that *text* gives, or None when it gives no address. Never raises.

    Example:
        >>> parse_node("[::ffff:192.0.2.1]:443"), parse_node("_hidden"), parse_node("192.0.2.999")
        (Node(address=IPv4Address('192.0.2.1'), port=443), None, None)
    """
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else None
    try:
        address = ipaddress.ip_address(match["four"] or match["six"] or match["bare_six"])
    except ValueError:
        return None
    is_bracketed_four = match["four"] is None and address.version == 4  # noqa: PLR2004
    if is_bracketed_four or (port is not None and port > 65535):  # noqa: PLR2004
        return None
    return Node(getattr(address, "ipv4_mapped", None) or address, port)


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _comma_before(line: str, end: int) -> int | None:
    """Return where the comma stands that the element ending at *end* begins after; -1: at the line's beginning.

    None when the element's quotes do not match, or it is too long to be one.
    """
    least = max(end - MAX_ELEMENT_CHARACTERS, 0)
    position = end
    while True:
        comma, quote = line.rfind(",", least, position), line.rfind('"', least, position)
        if comma > quote:
            return comma
        if quote < 0:
            return -1 if least == 0 else None
        opening = _opening_quote(line, quote, least)
        if opening is None:
            return None
        position = opening


def _opening_quote(line: str, closing: int, least: int) -> int | None:
    """Return where the quoted string begins that ends at *closing*: at the nearest quote that is not escaped."""
    position = line.rfind('"', least, closing)
    while position >= 0:
        before = line[least:position]
        if (len(before) - len(before.rstrip("\\"))) % 2 == 0:
            return position
        position = line.rfind('"', least, position)
    return None


def _forwarded_for(element: str) -> Node | None:
    """Return the node of the one ``for`` in *element*, whose pairs must all be well-formed."""
    found, position = None, len(element) - len(element.lstrip("; \t"))
    while position < len(element):
        pair = _PAIR.match(element, position)
        separator = pair and _SEPARATOR.match(element, pair.end())
        if pair is None or separator is None:
            return None
        name, quoted, plain = pair.groups()
        if name.lower() == "for":
            if found is not None:
                return None
            found = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
        position = separator.end()
    return parse_node(found) if found else None
