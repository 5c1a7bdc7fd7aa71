"""The filter options of reading commands, made from the one Filter."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from audit_logging.query.filter import NEGATION, Condition, Filter

Command = TypeVar("Command", bound=Callable[..., Any])


def filter_options(command: Command) -> Command:
    """Add an option for every condition and its negative; the command receives them as one ``where``."""
    conditions = Filter.conditions()

    @functools.wraps(command)
    def with_filter(**options: Any) -> Any:
        given = {name: _value(conditions[name], options.pop(_parameter(name))) for name in conditions}
        return command(where=Filter.of(**given), **options)

    decorated: Any = with_filter
    for name, condition in reversed(conditions.items()):
        decorated = _option(name, condition)(decorated)
    return decorated  # type: ignore[no-any-return]


def _parameter(name: str) -> str:
    return f"where_{name}"


def _option(name: str, condition: Condition) -> Callable[[Any], Any]:
    negative = name.startswith(NEGATION)
    single = condition.kind in {"severity", "time", "text"}
    return click.option(
        f"--not-{condition.option}" if negative else f"--{condition.option}",
        _parameter(name),
        metavar=condition.metavar,
        multiple=not single,
        help=None if negative else condition.help,
        hidden=negative,
    )


def _value(condition: Condition, given: Any) -> Any:
    """Return an option's value as the filter takes it; what was not given is None."""
    if given is None or given == ():  # an empty text is a mistake that must not widen the search
        return None
    if condition.kind != "metadata":
        return given
    pairs: dict[str, list[str]] = {}
    for text in given:
        path, separator, value = text.partition("=")
        if not separator:
            raise click.BadParameter(f"{text!r} is no PATH=VALUE.", param_hint=f"--{condition.option}")
        pairs.setdefault(path, []).append(value)
    return pairs
