"""Which address a request came from, when proxies stand between.

Forwarding headers are written by anybody; only what one's own proxies append counts. So the walk begins at the socket
peer and goes from the right: as long as a hop is a trusted proxy, the one before it is believed.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from audit_logging.settings import Network

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_HOPS = 50
"""More hops than any real path has; what lies further left is not looked at."""

# RFC 7239, section 4: `for=` with a token or a quoted string, in elements separated by commas.
_FOR = re.compile(r'(?:^|[;\s])for\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))', re.IGNORECASE)
_ELEMENT = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,"])+')
_PORT = r"(?::(?:\d{1,5}|_[A-Za-z0-9._-]+))?"
_BRACKETED = re.compile(rf"\[([0-9A-Fa-f:.]+)\]{_PORT}")
_WITH_PORT = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}")


class Origin(NamedTuple):
    """Where a request came from.

    Attributes:
        address: The socket peer, or the rightmost hop outside the trusted networks; None without either.
        forwarded: Whether a trusted proxy told it.
    """

    address: str | None
    forwarded: bool


def find_origin(
    peer: str | None, *, x_forwarded_for: Sequence[str], forwarded: Sequence[str], trusted: Sequence[Network]
) -> Origin:
    """Return the address a request came from. Never raises, whatever the headers hold.

    Args:
        peer: Address of the socket's other end.
        x_forwarded_for: The ``X-Forwarded-For`` header lines, in order.
        forwarded: The ``Forwarded`` header lines, in order (RFC 7239); where there are any, they are taken instead.
        trusted: Networks of one's own proxies.

    Example:
        >>> proxies = [ipaddress.ip_network("10.0.0.0/8")]
        >>> find_origin("10.0.0.1", x_forwarded_for=["6.6.6.6, 203.0.113.7"], forwarded=[], trusted=proxies)
        Origin(address='203.0.113.7', forwarded=True)
        >>> find_origin("203.0.113.7", x_forwarded_for=["127.0.0.1"], forwarded=[], trusted=proxies)
        Origin(address='203.0.113.7', forwarded=False)
    """
    address = parse_hop(peer or "")
    if address is None:
        return Origin(None, forwarded=False)
    believed, told = address, False
    if _is_in(address, trusted):
        for hop in _hops_from_the_right(x_forwarded_for, forwarded):
            candidate = parse_hop(hop)
            if candidate is None:  # garbage, `unknown`, an obfuscated name: nothing further left can be believed
                break
            believed, told = candidate, True
            if not _is_in(candidate, trusted):
                break
    return Origin(str(believed), told)


def parse_hop(text: str) -> Address | None:
    """Return the address of one hop, with or without port and brackets; IPv4 within IPv6 as IPv4; None for others.

    Example:
        >>> parse_hop("[2001:db8::1]:4711"), parse_hop("::ffff:203.0.113.7"), parse_hop("unknown")
        (IPv6Address('2001:db8::1'), IPv4Address('203.0.113.7'), None)
    """
    text = text.strip()
    if match := _BRACKETED.fullmatch(text) or _WITH_PORT.fullmatch(text):
        text = match[1]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _hops_from_the_right(x_forwarded_for: Sequence[str], forwarded: Sequence[str]) -> list[str]:
    if forwarded:
        elements = _ELEMENT.findall(_last(",".join(forwarded)))
        return [_node(element) for element in reversed(elements[-MAX_HOPS:])]
    return list(reversed(_last(",".join(x_forwarded_for)).rsplit(",", MAX_HOPS)[-MAX_HOPS:])) if x_forwarded_for else []


def _last(text: str) -> str:
    """Return the end of a header, where one's own proxies wrote; a hostile beginning costs nothing."""
    return text[-8192:]


def _node(element: str) -> str:
    match = _FOR.search(element)
    if match is None:
        return ""
    quoted, token = match[1], match[2]
    return re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else token
