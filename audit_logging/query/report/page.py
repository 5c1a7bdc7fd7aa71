"""A report as one page of HTML that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from audit_logging._version import __version__, install_command
from audit_logging.errors import SettingsError
from audit_logging.printable import printable
from audit_logging.query.report.chart import change, svg

if TYPE_CHECKING:
    from audit_logging.query.event import Event
    from audit_logging.query.period import Period
    from audit_logging.query.report.run import Report

MOST_EVENTS = 2000
"""Events that the page about a person shows one by one; all of them are in the file beside it."""


def report_page(report: Report) -> str:
    """Return the report of a period as HTML.

    Raises:
        SettingsError: The package `jinja2` is missing.
    """
    return _render("report.html.j2", report=report)


def subject_page(subject: str, period: Period | None, events: list[Event], total: int, made: dt.datetime) -> str:
    """Return what the trail holds about *subject* as HTML.

    Args:
        subject: Id, name or address of mail.
        period: The time, or None for all of it.
        events: The newest of the events, at most :data:`MOST_EVENTS`.
        total: How many events there are.
        made: When they were read.

    Raises:
        SettingsError: The package `jinja2` is missing.
    """
    return _render("subject.html.j2", subject=subject, period=period, events=events, total=total, made=made)


def _render(name: str, **facts: Any) -> str:
    return str(_environment().get_template(name).render(version=__version__, **facts))


@lru_cache(maxsize=1)
def _environment() -> Any:
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError as error:
        raise SettingsError(f"Reports need one more package: {install_command('report')}.") from error
    folder = resources.files("audit_logging.query.report") / "pages"
    loader = jinja2.FunctionLoader(lambda name: (folder / name).read_text("utf-8"))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "shown": lambda value: "-" if value is None else printable(str(value)),
        "moment": lambda moment: _time(moment, "%Y-%m-%d %H:%M:%S"),
        "minute": lambda moment: _time(moment, "%Y-%m-%d %H:%M"),
        "number": lambda number: f"{number:,}",
        # What svg() returns has escaped its texts itself.
        "chart": lambda statistics: Markup(svg(statistics)),  # noqa: S704
        "change": lambda statistics: change(statistics.total, statistics.before.total),
    }
    return environment


def _time(moment: dt.datetime | None, layout: str) -> str:
    return "-" if moment is None else format(moment.astimezone(dt.timezone.utc), layout)
