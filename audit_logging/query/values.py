"""Values of a filter, checked and brought into the form in which they are stored. They raise ``ValueError``."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

MAX_VALUES: Final = 1000
"""Values of one condition. Lucene takes 1,024 clauses, and each pattern is one."""

MAX_PATTERN_LENGTH: Final = 256
"""Characters of a pattern. Lucene refuses to compile those of some thousand."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAPPED_IPV4: Final = ipaddress.IPv6Network("::ffff:0:0/96")


def several(value: Any) -> tuple[str, ...]:
    """Return one value or a collection of them as distinct, sorted texts."""
    return _distinct(_word(member) for member in _members(value))


def patterns(values: tuple[str, ...]) -> tuple[str, ...]:
    """Check the event types that hold a ``*``."""
    if any("*" in value and len(value) > MAX_PATTERN_LENGTH for value in values):
        raise ValueError(f"a pattern has at most {MAX_PATTERN_LENGTH} characters")
    return values


def one_of(*allowed: str) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    """Return a check that every value is one of *allowed*."""

    def check(values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if value not in allowed:
                raise ValueError(f"{value[:60]!r} is none of {', '.join(allowed)}")
        return values

    return check


def networks(value: Any) -> tuple[str, ...]:
    """Return addresses and networks (CIDR, host bits ignored) in their canonical text.

    An IPv4 address in IPv6 clothing (``::ffff:203.0.113.7``) is that IPv4 address, as it is to OpenSearch.

    Example:
        >>> networks(["203.0.113.7/24", "::ffff:203.0.113.7", "2001:DB8::/32"])
        ('2001:db8::/32', '203.0.113.0/24', '203.0.113.7')
    """
    return _distinct(_network(member) for member in _members(value))


def metadata_terms(value: Any) -> dict[str, tuple[str, ...]]:
    """Return ``{path: value or values}`` with checked paths, and values as their stored text.

    Example:
        >>> metadata_terms({"plan.tier": ["gold", 3], "beta": True, "ratio": 1.5})
        {'beta': ('true',), 'plan.tier': ('3', 'gold'), 'ratio': ('1.5',)}
    """
    if not isinstance(value, Mapping) or not value:
        raise ValueError("give a mapping of path to value, like {'plan.tier': 'gold'}")
    return {
        _path(path): _distinct(_stored_text(member) for member in _members(value[path]))
        for path in sorted(value, key=str)
    }


def _members(value: Any) -> list[Any]:
    members = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
    if not members:
        # "Any of nothing" would find nothing, and reading it as "not given" would find everything.
        raise ValueError("the list is empty: give at least one value, or leave the filter out")
    if len(members) > MAX_VALUES:
        raise ValueError(f"at most {MAX_VALUES} values at once, not {len(members)}")
    return members


def _distinct(values: Any) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


def _word(value: Any) -> str:
    if isinstance(value, (int, UUID)) and not isinstance(value, bool):
        return str(value)
    return _encodable(value)


def _encodable(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"give text, not {type(value).__name__}")  # noqa: TRY004 - pydantic gathers ValueErrors
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds half a character (a lone surrogate)") from None
    return str.__str__(value)


def _stored_text(value: Any) -> str:
    """Return what a flat_object field compares with for *value*, as :mod:`audit_logging.events` stores it."""
    from audit_logging.events.values import PlainValues

    plain = PlainValues().of(value)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, int):
        return str(plain)
    if isinstance(plain, str):
        return plain
    raise ValueError(f"metadata is compared with text, numbers and booleans, not {type(value).__name__}")


def _path(path: Any) -> str:
    path = _encodable(path)
    if not all(path.split(".")) or any(char in "*?=" or not char.isprintable() for char in path):
        # In the index a path and its value stand as "path=value", so that a "=" in a path would blur the two.
        raise ValueError(f"{path[:60]!r} is not a path: give keys joined by dots, without '*', '?' and '='")
    return str(path)


def _network(value: Any) -> str:
    try:
        network = ipaddress.ip_network(str(value).strip(), strict=False)
    except ValueError:
        network = None
    if network is None or "%" in str(network):
        raise ValueError(
            f"{str(value)[:60]!r} is no address or network: give one like 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32"
        )
    network = _without_mapping(network)
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _without_mapping(network: Network) -> Network:
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(MAPPED_IPV4):
        mapped = network.network_address.ipv4_mapped
        assert mapped is not None
        return ipaddress.IPv4Network((mapped, network.prefixlen - MAPPED_IPV4.prefixlen))
    return network
