"""The page `quickstart` writes: one HTML file that holds its pictures, charts and words and needs no network.

What is said is derived from what was measured: `headline` and `story` have a sentence for a gain, for a gain
within noise, for a loss, and for a proxy that rose while the truth did not.

Shapes: pictures are (T, C, H, W) in [0, 1], see `pipelines.gallery`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined, select_autoescape
from markupsafe import Markup

from mmalign.stats.intervals import Interval
from pipelines.charts import Point, curve, decimal, histograms, percent, points, signed, whiskers
from pipelines.gallery import Panel, Row

OUTCOMES = {
    "fixed": ("fail → pass", "failed before, passes now"),
    "broken": ("pass → fail", "passed before, fails now"),
    "kept": ("pass → pass", "passed before and after"),
    "missed": ("fail → fail", "failed before and after"),
}


@dataclass(frozen=True)
class Change:
    """One measure before and after on the same prompts and seeds; `difference` is the paired one."""

    base: Interval
    aligned: Interval
    difference: Interval

    @property
    def verdict(self) -> str:
        """`gain` or `loss` when the paired interval lies on one side of zero, `noise` otherwise."""
        if self.difference.low > 0:
            return "gain"
        return "loss" if self.difference.high < 0 else "noise"


@dataclass(frozen=True)
class Judge:
    """How the learned reward orders images whose true verdict is known."""

    passing: tuple[float, ...]
    failing: tuple[float, ...]
    examples: tuple[tuple[str, Panel], ...]

    @property
    def agreement(self) -> float | None:
        """The share of (passing, failing) pairs whose passing image has the higher reward; ties half."""
        if not self.passing or not self.failing:
            return None
        wins = sum((p > f) + 0.5 * (p == f) for p in self.passing for f in self.failing)
        return wins / (len(self.passing) * len(self.failing))


@dataclass(frozen=True)
class Report:
    """Everything the page says."""

    gold: Change
    proxy: Change
    gold_curve: tuple[Point, ...]
    proxy_curve: tuple[Point, ...]
    outcomes: tuple[str, ...]
    categories: tuple[tuple[str, Change], ...]
    rows: tuple[Row, ...]
    selection: str
    judge: Judge
    facts: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...]
    recipe: str


def headline(report: Report) -> str:
    """The result in one sentence."""
    before, after = percent(report.gold.base.mean), percent(report.gold.aligned.mean)
    if report.gold.verdict == "gain":
        return f"The generator now draws what was asked {after} of the time, up from {before}."
    if report.gold.verdict == "loss":
        return f"Alignment made the generator worse: {after} of its images are right, down from {before}."
    return f"No clear change: {before} of the images were right before, {after} are after."


def story(report: Report) -> list[str]:
    """What was done and what came of it, in plain words."""
    gold, proxy, counts = report.gold, report.proxy, Counter(report.outcomes)
    agreement = report.judge.agreement
    said = [
        "A small text-to-image generator was tuned to please a reward model, which had itself learned from "
        "preference pairs. The generator never saw the exact checker that grades the images on this page, "
        "and none of the prompts graded here was used in training."
    ]
    if agreement is not None:
        said.append(
            "The reward model is no checker, only an opinion learned from data: shown an image that is right "
            f"and one that is wrong, it scores the right one higher {percent(agreement)} of the time."
        )
    low, high = 100 * gold.difference.low, 100 * gold.difference.high
    said.append(
        f"On {gold.base.n} pairs of images with equal prompt and seed the share of right images moved by "
        f"{100 * gold.difference.mean:+.0f} points (95% interval {low:+.0f} to {high:+.0f}): "
        f"{counts['fixed']} images were fixed and {counts['broken']} broke."
    )
    if proxy.verdict == "gain" and gold.verdict != "gain":
        said.append(
            "The reward model likes the new images better, the checker does not: the generator learned to "
            "please the judge instead of doing the task. Fewer iterations, a smaller learning rate or a KL "
            "term help."
        )
    elif gold.verdict == "noise":
        said.append(
            "That interval holds zero, so this run alone does not show a change. More iterations may."
        )
    return said


def render(report: Report) -> str:
    """The page as one HTML text."""
    folder = resources.files("pipelines") / "templates"
    environment = Environment(
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.from_string((folder / "report.html").read_text(encoding="utf-8"))
    style = Markup((folder / "report.css").read_text(encoding="utf-8"))
    counts = Counter(report.outcomes)
    return template.render(
        report=report,
        style=style,
        headline=headline(report),
        story=story(report),
        outcomes=[(key, *OUTCOMES[key], counts[key]) for key in OUTCOMES],
        shown=Counter(row.outcome for row in report.rows),
        labels=OUTCOMES,
        charts={name: Markup(chart) for name, chart in _charts(report).items()},
        show={"percent": percent, "decimal": decimal, "points": points, "signed": signed},
    )


def write(report: Report, path: Path) -> Path:
    """Write the page to `path`."""
    path.write_text(render(report), encoding="utf-8")
    return path


def _charts(report: Report) -> dict[str, str]:
    def both(change: Change) -> Sequence[tuple[str, Interval]]:
        return [("base", change.base), ("aligned", change.aligned)]

    charts = {
        "gold": whiskers(both(report.gold), title="Right images", tone="--gold", show=percent),
        "proxy": whiskers(both(report.proxy), title="Learned reward", tone="--proxy", show=decimal),
        "gold_curve": curve(report.gold_curve, title="Right images", tone="--gold", show=percent),
        "proxy_curve": curve(report.proxy_curve, title="Learned reward", tone="--proxy", show=decimal),
    }
    if report.judge.passing or report.judge.failing:
        charts["judge"] = histograms(
            [
                ("right images", "--pass", report.judge.passing),
                ("wrong images", "--fail", report.judge.failing),
            ],
            title="Scores of the learned reward for right and for wrong images",
        )
    return charts
