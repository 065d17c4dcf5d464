"""Charts of the trust report: intervals down a column of labels, and lines or dots over two axes. SVG text, as in
`charts.py`: colours are the page's CSS variables, and every chart says in words what it shows.

Shape legend: none; everything is plain numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

from mmalign.stats.intervals import Interval
from pipelines.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, grid, svg, text, ticks

PITCH = 27
LABELS = 158
"""Width of the column of labels, of the chart's 400."""


@dataclass(frozen=True)
class Mark:
    """A row of a forest: its label, the estimate with its colour, and a fainter one to compare it with."""

    label: str
    estimate: Interval
    tone: str
    faint: Interval | None = None


@dataclass(frozen=True)
class Series:
    """A line through points (x, y), with a band (x, low, high), dots of given radii, or dashes."""

    label: str
    tone: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()
    radii: Sequence[float] = ()
    dashed: bool = False
    line: bool = True
    titles: Sequence[str] = field(default_factory=tuple)


def forest(
    rows: Sequence[Mark],
    *,
    title: str,
    low: float,
    high: float,
    lines: Sequence[tuple[float, str]],
    show: Callable[[float], str],
) -> str:
    """A row an estimate on the axis [low, high]; `lines` are values that matter, with their words."""
    if not rows:
        raise ValueError(f"the chart {title!r} has no row to draw")
    top = 20
    height = top + PITCH * len(rows) + 26

    def x(value: float) -> float:
        return LABELS + (WIDTH - LABELS - 14) * (min(max(value, low), high) - low) / (high - low)

    body = "".join(
        f'<line x1="{x(v):.1f}" x2="{x(v):.1f}" y1="{top}" y2="{height - 22}" class="grid"/>'
        + text(min(x(v), WIDTH - 20), height - 6, show(v), "middle")
        for v in ticks(low, high)
        if low - 1e-9 <= v <= high + 1e-9
    )
    body += "".join(
        f'<line x1="{x(v):.1f}" x2="{x(v):.1f}" y1="{top}" y2="{height - 22}" class="limit"/>'
        + text(x(v), 12, words, "end" if x(v) > WIDTH - 50 else "middle")
        for v, words in lines
    )
    for number, row in enumerate(rows):
        y = top + PITCH * number + PITCH / 2
        body += text(LABELS - 10, y + 4, row.label, "end", "label")
        if row.faint is not None and math.isfinite(row.faint.mean):
            body += _whisker(x, y + 5, row.faint, "--muted", 2.4, faint=True)
        if math.isfinite(row.estimate.mean):
            lift = 0 if row.faint is None else -3
            body += _whisker(x, y + lift, row.estimate, row.tone, 4.6, faint=False)
    spoken = "; ".join(f"{row.label} {_words(row.estimate, show)}" for row in rows)
    return svg(f"{title}: {spoken}.", body, height)


def _whisker(
    x: Callable[[float], float], y: float, found: Interval, tone: str, radius: float, *, faint: bool
) -> str:
    bar = ""
    if math.isfinite(found.low) and math.isfinite(found.high):
        bar = (
            f'<line x1="{x(found.low):.1f}" x2="{x(found.high):.1f}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="var({tone})" stroke-width="{1.6 if faint else 5}" stroke-linecap="round" '
            f'opacity="{0.7 if faint else 0.35}"/>'
        )
    return bar + f'<circle cx="{x(found.mean):.1f}" cy="{y:.1f}" r="{radius}" fill="var({tone})"/>'


def _words(found: Interval, show: Callable[[float], str]) -> str:
    if not math.isfinite(found.mean):
        return "not measured"
    return f"{show(found.mean)} ({show(found.low)} to {show(found.high)})"


def plot(
    series: Sequence[Series],
    *,
    title: str,
    across: Sequence[tuple[float, str]],
    axis: str,
    show: Callable[[float], str],
    height: int = HEIGHT,
    low: float | None = None,
    high: float | None = None,
) -> str:
    """Several series over one pair of axes; `across` are the x values to name, `axis` what x is."""
    drawn = [one for one in series if one.points]
    if not drawn:
        raise ValueError(f"the chart {title!r} has no point to draw")
    ys = [y for one in drawn for _, y in one.points] + [
        v for one in drawn for _, a, b in one.band for v in (a, b)
    ]
    ys = [value for value in ys if math.isfinite(value)]
    xs = [x for one in drawn for x, _ in one.points] + [value for value, _ in across]
    levels = ticks(min(ys) if low is None else low, max(ys) if high is None else high)
    left, right = min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1

    def place(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT - 6) * (value - left) / (right - left)

    def rise(value: float) -> float:
        share = (value - levels[0]) / (levels[-1] - levels[0])
        return height - BOTTOM - (height - TOP - BOTTOM) * share

    body = grid(levels, rise, show)
    body += "".join(text(place(value), height - 19, words, "middle") for value, words in across)
    body += text(WIDTH - RIGHT, height - 4, axis, "end")
    body += "".join(_series(one, place, rise) for one in drawn)
    spoken = "; ".join(
        f"{one.label} from {show(one.points[0][1])} to {show(one.points[-1][1])}" for one in drawn
    )
    return svg(f"{title}: {spoken}.", body, height)


def _series(one: Series, place: Callable[[float], float], rise: Callable[[float], float]) -> str:
    body = ""
    band = [point for point in one.band if all(map(math.isfinite, point))]
    if band:
        edge = [f"{place(x):.1f},{rise(b):.1f}" for x, _, b in band]
        edge += [f"{place(x):.1f},{rise(a):.1f}" for x, a, _ in reversed(band)]
        body += f'<polygon points="{" ".join(edge)}" fill="var({one.tone})" opacity=".16"/>'
    if one.line:
        path = " ".join(f"{place(x):.1f},{rise(y):.1f}" for x, y in one.points)
        dashes = ' stroke-dasharray="5 4"' if one.dashed else ""
        body += (
            f'<polyline points="{path}" fill="none" stroke="var({one.tone})" '
            f'stroke-width="{1.6 if one.dashed else 2.4}" stroke-linejoin="round"{dashes}/>'
        )
    for k, radius in enumerate(one.radii):
        x, y = one.points[k]
        words = f"<title>{escape(one.titles[k])}</title>" if k < len(one.titles) else ""
        body += (
            f'<circle cx="{place(x):.1f}" cy="{rise(y):.1f}" r="{radius:.1f}" fill="var({one.tone})" '
            f'fill-opacity=".8">{words}</circle>'
        )
    return body
