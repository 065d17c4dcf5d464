"""Small SVG charts for reports: a curve with its interval, whiskers, and two histograms over one axis.

They are text: no plotting library, no script, and their colours are the page's CSS variables, so light and
dark pages share one picture. Every chart names itself (`role="img"`) and says in words what it shows.

>>> ticks(0.0, 1.0, 5)
[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
>>> ticks(17.0, 17.0)
[16.0, 16.5, 17.0, 17.5, 18.0]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from mmalign.stats.intervals import Interval

WIDTH, HEIGHT = 400, 236
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 34


@dataclass(frozen=True)
class Point:
    """One evaluation during training."""

    iteration: int
    estimate: Interval


def percent(value: float) -> str:
    """A share in [0, 1] for people."""
    return f"{100 * value:.0f}%"


def decimal(value: float) -> str:
    """A score for people."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def points(value: float) -> str:
    """A difference of two shares, in percentage points with its sign."""
    return f"{100 * value:+.0f}"


def signed(value: float) -> str:
    """A difference of two scores with its sign."""
    return f"{value:+.2f}"


def ticks(low: float, high: float, num: int = 4) -> list[float]:
    """Round numbers that cover [low, high], about `num` steps of them."""
    if high - low < 1e-9:
        low, high = low - 1, high + 1
    rough = (high - low) / num
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: (s < rough * 0.999, s))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def curve(marks: Sequence[Point], *, title: str, tone: str, show: Callable[[float], str]) -> str:
    """A line through `marks` with its 95% band; `tone` names the CSS variable of its colour."""
    if not marks:
        raise ValueError(f"the chart {title!r} has no point to draw")
    values = [v for p in marks for v in (p.estimate.low, p.estimate.high, p.estimate.mean)]
    levels = ticks(min(values), max(values))
    last = max(marks[-1].iteration, 1)

    def x(iteration: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * iteration / last

    def y(value: float) -> float:
        share = (value - levels[0]) / (levels[-1] - levels[0])
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    upper = [f"{x(p.iteration):.1f},{y(p.estimate.high):.1f}" for p in marks]
    lower = [f"{x(p.iteration):.1f},{y(p.estimate.low):.1f}" for p in reversed(marks)]
    line = " ".join(f"{x(p.iteration):.1f},{y(p.estimate.mean):.1f}" for p in marks)
    dots = "".join(
        f'<circle cx="{x(p.iteration):.1f}" cy="{y(p.estimate.mean):.1f}" r="3.2" fill="var({tone})">'
        f"<title>iteration {p.iteration}: {show(p.estimate.mean)} "
        f"({show(p.estimate.low)} to {show(p.estimate.high)})</title></circle>"
        for p in marks
    )
    words = (
        f"{title}: {show(marks[0].estimate.mean)} at iteration {marks[0].iteration}, "
        f"{show(marks[-1].estimate.mean)} at iteration {marks[-1].iteration}."
    )
    body = (
        grid(levels, y, show)
        + "".join(text(x(tick), HEIGHT - 14, f"{tick:.0f}", "middle") for tick in _whole_ticks(last))
        + text(WIDTH - RIGHT, HEIGHT - 1, "iteration", "end")
        + f'<polygon points="{" ".join(upper + lower)}" fill="var({tone})" opacity=".16"/>'
        + f'<polyline points="{line}" fill="none" stroke="var({tone})" stroke-width="2.4" '
        + f'stroke-linejoin="round"/>{dots}'
    )
    return svg(words, body, HEIGHT)


def whiskers(
    rows: Sequence[tuple[str, Interval]], *, title: str, tone: str, show: Callable[[float], str]
) -> str:
    """One line a row: a dot at the mean and a bar over the 95% interval, all over one axis."""
    if not rows:
        raise ValueError(f"the chart {title!r} has no row to draw")
    levels = ticks(min(e.low for _, e in rows), max(e.high for _, e in rows))
    left, pitch = 70, 34
    height = pitch * len(rows) + 26

    def x(value: float) -> float:
        return left + (WIDTH - left - 22) * (value - levels[0]) / (levels[-1] - levels[0])

    body = "".join(
        f'<line x1="{x(v):.1f}" x2="{x(v):.1f}" y1="4" y2="{height - 22}" class="grid"/>'
        + text(x(v), height - 6, show(v), "middle")
        for v in levels
    )
    for index, (label, estimate) in enumerate(rows):
        middle = pitch * index + 21
        strong = index == len(rows) - 1
        fill = tone if strong else "--card"
        body += (
            text(left - 10, middle + 4, label, "end", "label")
            + f'<line x1="{x(estimate.low):.1f}" x2="{x(estimate.high):.1f}" y1="{middle}" y2="{middle}" '
            f'stroke="var({tone})" stroke-width="{7 if strong else 5}" stroke-linecap="round" opacity=".35"/>'
            f'<circle cx="{x(estimate.mean):.1f}" cy="{middle}" r="6" fill="var({fill})" '
            f'stroke="var({tone})" stroke-width="2.4"/>'
        )
    spoken = "; ".join(f"{n} {show(e.mean)} ({show(e.low)} to {show(e.high)})" for n, e in rows)
    return svg(f"{title}: {spoken}.", body, height)


def histograms(groups: Sequence[tuple[str, str, Sequence[float]]], *, title: str, num_bins: int = 24) -> str:
    """Two or more groups `(label, CSS variable, values)` counted over one axis, one strip each."""
    everything = [v for _, _, values in groups for v in values]
    if not everything:
        raise ValueError(f"the chart {title!r} has no value to count")
    levels = ticks(min(everything), max(everything))
    low, high = levels[0], levels[-1]
    strip, left = 66, LEFT
    height = strip * len(groups) + 26
    wide = (WIDTH - left - RIGHT) / num_bins
    body = ""
    for index, (label, tone, values) in enumerate(groups):
        counts = [0] * num_bins
        for value in values:
            counts[min(num_bins - 1, int((value - low) / (high - low) * num_bins))] += 1
        floor, largest = strip * (index + 1) - 4, max(max(counts), 1)
        body += "".join(
            f'<rect x="{left + i * wide + 0.6:.1f}" y="{floor - 40 * c / largest:.1f}" '
            f'width="{wide - 1.2:.1f}" height="{40 * c / largest:.1f}" fill="var({tone})"/>'
            for i, c in enumerate(counts)
            if c
        )
        body += f'<line x1="{left}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}" class="grid"/>'
        body += text(left, floor - 46, f"{label} ({len(values)})", "start", "label")
    body += "".join(
        text(
            left + (WIDTH - left - RIGHT) * (v - low) / (high - low),
            height - 8,
            f"{v:g}",
            "end" if v == high else "middle",
        )
        for v in levels
    )
    return svg(title, body, height)


def _whole_ticks(last: int) -> list[float]:
    """Whole iterations to name under a curve, its last one always among them."""
    inner = [t for t in ticks(0, last) if t == int(t) and t < last * 0.93]
    return [*inner, float(last)]


def grid(levels: Sequence[float], y: Callable[[float], float], show: Callable[[float], str]) -> str:
    """Level lines across a chart with their values at the left."""
    return "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}" class="grid"/>'
        + text(LEFT - 7, y(v) + 4, show(v), "end")
        for v in levels
    )


def text(x: float, y: float, words: str, anchor: str, kind: str = "tick") -> str:
    """Words at a place; `anchor` is start, middle or end, `kind` a class of the page's style."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


def svg(words: str, body: str, height: float) -> str:
    """A chart of the common width that says in `words` what it shows."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(words, quote=True)}" '
        f'xmlns="http://www.w3.org/2000/svg">{body}</svg>'
    )
