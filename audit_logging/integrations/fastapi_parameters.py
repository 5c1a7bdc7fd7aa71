"""The parameters of a query, made from the one Filter: the same names as the keywords of Python."""

import inspect
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.security import APIKeyQuery

from audit_logging.errors import FilterError
from audit_logging.integrations.fastapi_access import Access
from audit_logging.query.filter import NEGATION, SEVERITIES, SINGLE, Condition, Filter
from audit_logging.query.values import MAX_VALUES

EXAMPLES: Final = {
    "user_id": ["u-42"],
    "event_type": ["user.*"],
    "category": ["authentication"],
    "outcome": ["failure"],
    "source_ip": ["203.0.113.0/24"],
    "organization_id": ["acme"],
    "metadata": ["plan.tier=gold"],
    "text": "bad password",
    "since": "-24h",
    "until": "now",
}
"""By keyword; the interactive page offers them. They make sense together, too."""


def filter_of_query(access: Callable[..., Any]) -> Callable[..., Filter]:
    """Return the dependency that reads the filter from the query, confined to the tenant that *access* names."""
    conditions = Filter.conditions()

    def where(access: Access, **given: Any) -> Filter:
        wanted = {name: _value(conditions[name], value) for name, value in given.items()}
        return Filter.of(**{**wanted, **access.confinement})

    parameter = inspect.Parameter
    keyword = parameter.KEYWORD_ONLY
    where.__signature__ = inspect.Signature(  # type: ignore[attr-defined] # where FastAPI looks
        [
            parameter("access", keyword, annotation=Annotated[Access, Depends(access)]),
            *(
                parameter(name, keyword, default=None, annotation=_annotation(name, condition))
                for name, condition in conditions.items()
            ),
        ]
    )
    return where


def _annotation(name: str, condition: Condition) -> Any:
    one = _type_of(name.removeprefix(NEGATION))
    negative = name.startswith(NEGATION)
    help_ = f"Without those for which this holds: {condition.help}" if negative else condition.help
    example = None if negative else EXAMPLES.get(name)
    examples: Any = None if example is None else {"example": {"value": example}}
    if condition.kind in SINGLE:
        return Annotated[one, Query(description=help_, openapi_examples=examples)]
    several = "Of several for one path, any will do." if condition.kind == "metadata" else "Of several, any will do."
    query = Query(description=f"{help_} {several}", openapi_examples=examples, min_length=1, max_length=MAX_VALUES)
    return Annotated[list[one], query]  # type: ignore[valid-type]


def _type_of(name: str) -> Any:
    """Return what one value of a condition is in OpenAPI; the filter itself checks the rest.

    What is not given is None all the same; no text in a URL is, and so it is in no type.
    """
    if name == "outcome":
        return Literal["success", "failure", "unknown"]
    if name == "min_severity":
        return Literal[SEVERITIES]
    if name == "metadata":
        return Annotated[str, Query(pattern="^[^=]+=")]
    return Annotated[str, Query(min_length=1)]


def _value(condition: Condition, given: Any) -> Any:
    if condition.kind != "metadata" or given is None:
        return given
    pairs: dict[str, list[str]] = {}
    for text in given:
        path, _, value = text.partition("=")
        pairs.setdefault(path, []).append(value)
    return pairs


def check_names(request: Request) -> None:
    """Refuse a parameter that is not there, for what is misspelt would widen the answer, and one value too many.

    Raises:
        FilterError: There is such a one.
    """
    known = set(_names(_dependant_of(request)))
    several = {name for name, condition in Filter.conditions().items() if condition.kind not in SINGLE}
    given = request.query_params
    for name in given:
        if name not in known:
            close = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else "the API's own description lists them."
            raise FilterError(f"There is no parameter {name[:60]!r}; {hint}")
        if len(given.getlist(name)) > 1 and name not in several:
            raise FilterError(f"The parameter {name!r} is given more than once, and takes one value.")


def _dependant_of(request: Request) -> Dependant:
    """Return what the route depends on, with what the application added where it included the router.

    Newer versions of FastAPI keep that apart from the route; without it more names are refused, and none fewer.
    """
    included = request.scope.get("fastapi", {}).get("effective_route_context")
    route = request.scope["route"] if included is None else included
    dependant: Dependant = route.dependant
    return dependant


def _names(dependant: Dependant) -> Iterator[str]:
    """Yield the query parameters of a route, those of the application's own dependency included."""
    yield from (parameter.alias for parameter in dependant.query_params)
    if isinstance(dependant.call, APIKeyQuery):
        yield dependant.call.model.name
    for each in dependant.dependencies:
        yield from _names(each)
