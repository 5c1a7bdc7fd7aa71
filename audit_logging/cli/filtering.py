"""What reading commands share: the filter options, made from the one Filter, and the reader."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from audit_logging.cli.spelling import option_name, option_of
from audit_logging.errors import FilterError
from audit_logging.query.filter import NEGATION, SINGLE, Condition, Filter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_logging.query.reader import AuditReader
    from audit_logging.settings import Settings

NEGATIVES = "Each filter has a negative, --not-user, --not-type and so on. Several values of one filter: any of them."

Command = TypeVar("Command", bound=Callable[..., Any])


def filter_options(command: Command) -> Command:
    """Add an option for every condition and its negative; the command receives them as one ``where``."""
    return _with_options(command, {})


def event_filter_options(command: Command) -> Command:
    """Add the options of :func:`filter_options` to a command that has a time of its own, with other names for times.

    The time of the events is ``--events-since`` and ``--events-until`` there.
    """
    times = {
        name: option_name(name, f"events-{condition.option}")
        for name, condition in Filter.conditions().items()
        if condition.kind == "time"
    }
    return _with_options(command, times)


def _with_options(command: Command, renamed: dict[str, str]) -> Command:
    conditions = Filter.conditions()

    @functools.wraps(command)
    def with_filter(**options: Any) -> Any:
        given = {name: _value(conditions[name], options.pop(_parameter(name))) for name in conditions}
        try:
            return command(where=Filter.of(**given), **options)
        except FilterError as error:
            raise FilterError(error.spelled(functools.partial(option_of, renamed=renamed))) from None

    decorated: Any = with_filter
    for name, condition in reversed(conditions.items()):
        option = renamed.get(name) or option_name(name, condition.option)
        decorated = _option(name, option, condition)(decorated)
    return decorated  # type: ignore[no-any-return]


@contextmanager
def open_reader(settings: Settings) -> Iterator[AuditReader]:
    """Open a reader. The record of a reading goes to the stream that is read; of a restored one, to the live stream."""
    from audit_logging.query.reader import AuditReader

    if settings.audit_searches:
        from audit_logging.capture.configuration import configure
        from audit_logging.query.access import live_stream

        given = {name: getattr(settings, name) for name in settings.model_fields_set}
        configure(replace=True, **{**given, "console": False, "stream": live_stream(settings.stream)})
    with AuditReader(settings=settings) as reader:
        yield reader


def _parameter(name: str) -> str:
    return f"where_{name}"


def _option(name: str, option: str, condition: Condition) -> Callable[[Any], Any]:
    negative = name.startswith(NEGATION)
    return click.option(
        option,
        _parameter(name),
        metavar=condition.metavar,
        multiple=condition.kind not in SINGLE,
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
