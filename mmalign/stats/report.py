"""Tables and pages that reports share: one self-contained HTML file, no script, no network, readable on a phone.

>>> table(["name", "score"], [["<a>", 0.5]]).splitlines()[0]
'<div class="scroll"><table>'
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from mmalign.stats.intervals import Interval

Cell = str | float | int | None | Interval
ROUNDING = 1e-9
"""What is smaller is an error of rounding, such as the spread of equal scores, and shown as zero."""

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; --bar: #4c78a8; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.words th, .words td { text-align: left; vertical-align: top; white-space: normal; overflow-wrap: anywhere; }
.words th { overflow-wrap: normal; }
.soft, small, figcaption { color: var(--soft); font-size: .85rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figure img { width: 100%; image-rendering: auto; border-radius: 4px; }
figure img.small { image-rendering: pixelated; }
figcaption { overflow-wrap: anywhere; }
figcaption details { white-space: pre-line; }
svg text { fill: currentColor; font: 12px system-ui, sans-serif; }
"""


def page(title: str, body: Sequence[str], *, note: str = "") -> str:
    """A whole HTML page from parts that are already HTML."""
    name = html.escape(title)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{name}</title>'
    under = f'<p class="soft">{html.escape(note)}</p>' if note else ""
    parts = "\n".join(body)
    return f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style></head>' + (
        f"<body><h1>{name}</h1>{under}\n{parts}\n</body></html>\n"
    )


def heading(text: str) -> str:
    """A section's title."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A sentence or two."""
    return f"<p>{html.escape(text)}</p>"


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, words: bool = False) -> str:
    """An HTML table; numbers are rounded for the eye, intervals shown as mean [low, high]; `words` may wrap."""
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    lines = ["".join(f"<td>{html.escape(show(cell))}</td>" for cell in row) for row in rows]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    kind = ' class="words"' if words else ""
    return f'<div class="scroll"><table{kind}>\n<tr>{head}</tr>\n{body}\n</table></div>'


def show(cell: Cell) -> str:
    """A cell as people read it: three decimals, or three digits of what is smaller; nothing known is a dash.

    >>> show(0.12345), show(-0.0021345), show(1e-17), show(float("nan")), show(7)
    ('0.123', '-0.00213', '0.000', '–', '7')
    """
    if cell is None:
        return "–"
    if isinstance(cell, Interval):
        return f"{show(cell.mean)} [{show(cell.low)}, {show(cell.high)}]"
    if isinstance(cell, float):
        if not math.isfinite(cell):
            return "–"
        return f"{cell:#.3g}" if ROUNDING < abs(cell) < 0.1 else f"{cell:.3f}"
    return str(cell)


def histogram(values: Sequence[float], *, title: str, num_bins: int = 20) -> str:
    """A small inline SVG histogram; values that are not finite are left out and counted in the caption."""
    known = [v for v in values if math.isfinite(v)]
    if not known:
        return paragraph(f"{title}: no value to draw")
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    counts = [0] * num_bins
    for value in known:
        counts[min(num_bins - 1, int((value - low) / span * num_bins))] += 1
    width, height, top = 320.0, 90.0, max(counts)
    bars = "".join(
        f'<rect x="{k * width / num_bins:.1f}" y="{height * (1 - count / top):.1f}" '
        f'width="{width / num_bins - 1:.1f}" height="{height * count / top:.1f}" fill="var(--bar)"/>'
        for k, count in enumerate(counts)
    )
    marks = (
        f'<text x="0" y="106">{low:.3g}</text><text x="{width}" y="106" text-anchor="end">{high:.3g}</text>'
    )
    left_out = f", {len(values) - len(known)} without a score" if len(known) < len(values) else ""
    caption = f"<figcaption>{html.escape(title)} (n={len(known)}{left_out})</figcaption>"
    return f'<figure><svg viewBox="0 0 320 110" width="320" role="img">{bars}{marks}</svg>{caption}</figure>'
