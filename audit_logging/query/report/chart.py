"""Statistics as a picture: one SVG file without scripts, fonts or links, readable on light and on dark ground."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from audit_logging.printable import printable
from audit_logging.query.times import zone_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from audit_logging.query.results import Interval, Statistics

WIDTH: Final = 860
MARGIN: Final = 24
LABELS: Final = 240
"""Where bars begin: the room for their labels, in pixels."""

COUNTS: Final = 150
"""The room for the numbers behind the bars, in pixels."""

ROW: Final = 26
BAR: Final = 15
LONGEST_LABEL: Final = 32
MOST_BARS: Final = 40
PLOT_HEIGHT: Final = 180
MOST_TICKS: Final = 7

STYLE: Final = """
text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2933; }
.title { font-size: 18px; font-weight: 600; }
.quiet { fill: #5c6b7a; font-size: 12px; }
.ground { fill: #ffffff; }
.bar { fill: #2b6cb0; }
.before { fill: none; stroke: #d9822b; stroke-width: 2; }
.line { stroke: #dde3e9; stroke-width: 1; }
@media screen and (prefers-color-scheme: dark) {
  text { fill: #e6ebf0; }
  .quiet { fill: #9fb0c0; }
  .ground { fill: #14191f; }
  .bar { fill: #63a4e8; }
  .before { stroke: #f0a955; }
  .line { stroke: #2c3641; }
}
"""


def svg(found: Statistics) -> str:
    """Return *found* as an SVG document: a bar for each value and, with an interval, a column for each step of time.

    Other values and none are told as numbers alone, for they would dwarf the bars. The same statistics give the same
    text. Where the period before was counted, a mark stands where a bar ended then.
    """
    parts = [*_head(found)]
    top = 78
    rows = _rows(found)
    most = max((max(bar.count, bar.before or 0) for bar in rows if bar.drawn), default=0)
    for bar in rows:
        parts.extend(_bar(bar, top, most))
        top += ROW
    if found.histogram:
        parts.extend(_columns(found.histogram, top + 40, str(found.interval), found.timezone))
        top += 40 + PLOT_HEIGHT + 40
    height = top + MARGIN
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        f' role="img" aria-label="{_text(_title(found), quoted=True)}">\n<style>{STYLE}</style>\n'
        f'<rect class="ground" width="{WIDTH}" height="{height}"/>\n{body}\n</svg>\n'
    )


def _title(found: Statistics) -> str:
    return f"Events by {found.by.replace('_', ' ')}"


def _head(found: Statistics) -> Iterator[str]:
    yield f'<text class="title" x="{MARGIN}" y="36">{_text(_title(found))}</text>'
    facts = [f"{found.total:,} events"]
    facts.extend(
        f"{word} {moment:%Y-%m-%d %H:%M} UTC"
        for word, moment in (("from", found.since), ("to", found.until))
        if moment is not None
    )
    if found.before is not None:
        facts.append(f"the marks: {found.before.total:,} events in the period before")
    yield f'<text class="quiet" x="{MARGIN}" y="58">{_text(" · ".join(facts))}</text>'


@dataclass(frozen=True)
class _Bar:
    label: str
    count: int
    before: int | None = None
    drawn: bool = True


def _rows(found: Statistics) -> list[_Bar]:
    shown, hidden = found.buckets[:MOST_BARS], found.buckets[MOST_BARS:]
    rest = (("(others)", found.other + sum(each.count for each in hidden)), ("(none)", found.missing))
    return [
        *(_Bar(each.key, each.count, each.before) for each in shown),
        *(_Bar(label, count, drawn=False) for label, count in rest if count),
    ]


def _bar(bar: _Bar, top: int, most: int) -> Iterator[str]:
    room = WIDTH - MARGIN - LABELS - COUNTS
    short = bar.label if len(bar.label) <= LONGEST_LABEL else bar.label[: LONGEST_LABEL - 1] + "…"
    number, middle = f"{bar.count:,}", top + BAR - 3
    end = width = _length(bar.count, most, room) if bar.drawn else 0
    whole = f"<title>{_text(bar.label)}</title>"
    yield f'<text x="{LABELS - 10}" y="{middle}" text-anchor="end">{_text(short)}{whole}</text>'
    if bar.drawn:
        yield f'<rect class="bar" x="{LABELS}" y="{top}" width="{width}" height="{BAR}" rx="2"/>'
    if bar.before is not None:
        number = f"{number} ({change(bar.count, bar.before)})"
        mark = _length(bar.before, most, room)
        end = max(width, mark)
        yield f'<path class="before" d="M{LABELS + mark} {top - 3}v{BAR + 6}"/>'
    yield f'<text class="quiet" x="{LABELS + end + 8}" y="{middle}">{_text(number)}</text>'


def _columns(steps: Sequence[Interval], top: int, interval: str, timezone: str) -> Iterator[str]:
    left, right = MARGIN + 56, WIDTH - MARGIN
    bottom = top + PLOT_HEIGHT
    ceiling = _round_up(max(step.count for step in steps))
    yield f'<text class="quiet" x="{MARGIN}" y="{top - 14}">events in each {_text(interval)}, {_text(timezone)}</text>'
    for share in (0, 0.5, 1):
        y = round(bottom - share * PLOT_HEIGHT, 1)
        yield f'<path class="line" d="M{left} {y}H{right}"/>'
        yield f'<text class="quiet" x="{left - 8}" y="{y + 4}" text-anchor="end">{ceiling * share:,g}</text>'
    slot = (right - left) / len(steps)
    gap = min(3.0, slot * 0.2)
    zone = zone_of(timezone)
    ticks = set(range(0, len(steps), math.ceil(len(steps) / MOST_TICKS)))
    for number, step in enumerate(steps):
        x, height = left + number * slot, _length(step.count, ceiling, PLOT_HEIGHT)
        moment = step.start.astimezone(zone)
        name = f"{moment:%Y-%m-%d %H:%M}: {step.count:,}"
        yield (
            f'<rect class="bar" x="{x + gap / 2:.2f}" y="{bottom - height:g}" width="{slot - gap:.2f}"'
            f' height="{height:g}"><title>{name}</title></rect>'
        )
        if number in ticks:
            yield f'<text class="quiet" x="{x:.1f}" y="{bottom + 18}">{_moment(moment, steps)}</text>'


def _moment(moment: dt.datetime, steps: Sequence[Interval]) -> str:
    """Return a label for the axis: with the time of day where the steps do not all begin days."""
    whole_days = len(steps) > 1 and steps[1].start - steps[0].start >= dt.timedelta(hours=23)
    return f"{moment:%Y-%m-%d}" if whole_days else f"{moment:%m-%d %H:%M}"


def change(count: int, before: int) -> str:
    """Return by how much *count* differs from *before*, in words as short as a table allows.

    Example:
        >>> change(150, 100), change(1, 0), change(0, 0), change(3, 4)
        ('+50 %', 'new', '±0 %', '-25 %')
    """
    if not before:
        return "new" if count else "±0 %"
    percent = round(100 * (count - before) / before)
    return f"{percent:+,} %" if percent else "±0 %"


def _length(count: int, most: int, room: int) -> float:
    """Return the length of a bar in pixels; what is there can be seen."""
    return max(round(room * count / most, 1), 1.5) if count else 0.0


def _round_up(most: int) -> int:
    """Return the next number of the kind 1, 2, 5, 10, 20 … that is at least *most*, for the top of an axis."""
    step = 10 ** int(math.log10(max(most, 1)))
    return next(step * factor for factor in (1, 2, 5, 10) if step * factor >= most) if most > 1 else 2


def _text(text: str, *, quoted: bool = False) -> str:
    return escape(printable(text), {'"': "&quot;"} if quoted else {})
