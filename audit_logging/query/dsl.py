"""A filter as OpenSearch's query DSL. Pure functions; values only ever stand where the DSL takes a plain value."""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import TYPE_CHECKING, Any

from audit_logging.errors import FilterError
from audit_logging.query.filter import NEGATION, SEVERITIES, Filter
from audit_logging.query.values import MAPPED_IPV4

if TYPE_CHECKING:
    from collections.abc import Callable

    from audit_logging.query.filter import Kind

Query = dict[str, Any]

REASON = "event.reason"
USER_NAME = "user.name"
ALL_IPV4 = "0.0.0.0/0"


def query_of(filter_: Filter) -> Query:
    """Return the query that finds what *filter_* asks for.

    Args:
        filter_: Its times are absolute (see :meth:`Filter.at`).

    Example:
        >>> query_of(Filter.of(user_id="u-42", not_outcome="success"))["bool"]["must_not"]
        [{'term': {'event.outcome': 'success'}}]
    """
    wanted: list[Query] = []
    unwanted: list[Query] = []
    for name, condition in Filter.conditions().items():
        value = getattr(filter_, name)
        if value is not None and condition.kind != "time":
            (unwanted if name.startswith(NEGATION) else wanted).extend(_CLAUSES[condition.kind](condition.field, value))
    wanted.extend(_time_range(filter_.since, filter_.until))
    return all_of(wanted, unwanted)


def all_of(wanted: list[Query], unwanted: list[Query] | None = None) -> Query:
    """Return a query that every one of *wanted* and none of *unwanted* matches; everything when both are empty."""
    parts = {"filter": wanted, "must_not": unwanted or []}
    given = {name: clauses for name, clauses in parts.items() if clauses}
    return {"bool": given} if given else {"match_all": {}}


def any_of(queries: list[Query]) -> Query:
    """Return a query that at least one of *queries* matches."""
    return queries[0] if len(queries) == 1 else {"bool": {"should": queries, "minimum_should_match": 1}}


def timestamp(value: dt.datetime) -> str:
    """Return *value* as documents hold it: UTC, microseconds, ``Z``."""
    return value.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _terms(field: str, values: tuple[str, ...]) -> list[Query]:
    return [{"term": {field: values[0]}} if len(values) == 1 else {"terms": {field: list(values)}}]


def _user(field: str, values: tuple[str, ...]) -> list[Query]:
    return [any_of([query for name in (field, USER_NAME) for query in _terms(name, values)])]


def _patterns(field: str, values: tuple[str, ...]) -> list[Query]:
    exact = tuple(value for value in values if "*" not in value)
    queries = [{"wildcard": {field: {"value": _literal_but_star(value)}}} for value in values if "*" in value]
    return [any_of([*(_terms(field, exact) if exact else []), *queries])]


def _literal_but_star(pattern: str) -> str:
    """Escape what a wildcard query would read as more than itself, except for ``*``."""
    return pattern.replace("\\", "\\\\").replace("?", "\\?")


def _addresses(field: str, values: tuple[str, ...]) -> list[Query]:
    # To OpenSearch an IPv4 address is an IPv6 one beginning with ::ffff, so that ::/0 would find it as well.
    wide = [value for value in values if _covers_ipv4_as_ipv6(value)]
    plain = tuple(value for value in values if value not in wide)
    queries = [all_of([{"term": {field: value}}], [{"term": {field: ALL_IPV4}}]) for value in wide]
    return [any_of([*(_terms(field, plain) if plain else []), *queries])]


def _covers_ipv4_as_ipv6(value: str) -> bool:
    network = ipaddress.ip_network(value)
    return isinstance(network, ipaddress.IPv6Network) and MAPPED_IPV4.subnet_of(network)


def _metadata(field: str, terms: dict[str, tuple[str, ...]]) -> list[Query]:
    return [query for path, values in terms.items() for query in _terms(f"{field}.{path}", values)]


def _text(field: str, words: str) -> list[Query]:
    return [any_of([{"match": {name: {"query": words, "operator": "and"}}} for name in (field, REASON)])]


def _at_least(field: str, severity: str) -> list[Query]:
    return _terms(field, SEVERITIES[SEVERITIES.index(severity) :])


def _time_range(since: dt.datetime | str | None, until: dt.datetime | str | None) -> list[Query]:
    bounds = {}
    for name, value in (("gte", since), ("lt", until)):
        if isinstance(value, str):
            raise FilterError(f"{value!r} is a relative time: make the filter absolute first, with Filter.at(now).")
        if value is not None:
            bounds[name] = timestamp(value)
    return [{"range": {"@timestamp": {**bounds, "format": "strict_date_optional_time_nanos"}}}] if bounds else []


_CLAUSES: dict[Kind, Callable[[str, Any], list[Query]]] = {
    "term": _terms,
    "user": _user,
    "pattern": _patterns,
    "address": _addresses,
    "metadata": _metadata,
    "text": _text,
    "severity": _at_least,
}
