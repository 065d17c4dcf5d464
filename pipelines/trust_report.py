"""The page `check-reward` writes: the verdict first, then what it rests on, each figure with its threshold.

Shape legend: media is (T, C, H, W) in [0, 1]; an image has T = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined, select_autoescape
from markupsafe import Markup
from torch import Tensor
from torch.nn import functional as F

from mmalign.inline import data_uri
from mmalign.stats.calibration import Calibration
from mmalign.stats.intervals import Interval
from mmalign.stats.overoptimisation import Curve
from mmalign.types import Sample
from pipelines.charts import decimal, histograms, percent, signed
from pipelines.trust_charts import Mark, Series, forest, plot
from rewardmodels.trust import Ask, findings
from rewardmodels.trust.checkup import Checked, Sureness
from rewardmodels.trust.findings import Finding
from rewardmodels.trust.probes import partners, spoil
from rewardmodels.trust.survey import Survey

TONES = {"good": "--pass", "note": "--muted", "fair": "--gold", "bad": "--fail"}
SIGNS = {"good": "✓", "note": "·", "fair": "!", "bad": "✗"}
NUM_EXHIBITS, THUMBNAIL, FRAMES = 2, 128, 6


@dataclass(frozen=True)
class Panel:
    """One picture of an exhibit: what was done to it, the picture, its prompt and score."""

    label: str
    uri: str
    prompt: str
    score: float | None
    lower: bool | None  # than the original's; None for the original and for what has no score


@dataclass(frozen=True)
class Exhibit:
    """A sample beside its spoiled twins."""

    prompt: str
    panels: tuple[Panel, ...]


def exhibits(ask: Ask, seen: Survey, read: Callable[[Sample], Sample]) -> list[Exhibit]:
    """The first scored samples that were probed, of different prompts, each spoiled in every way that applies."""
    if not any(answers.wins for answers in seen.probes):
        return []
    chosen: dict[str, int] = {}
    for k, sample in enumerate(seen.samples):
        if math.isfinite(seen.scores[k]) and sample.metadata.get("faithful") is not False:
            chosen.setdefault(seen.groups[k], k)
    partner = partners(seen.samples, seen.groups)
    return [_exhibit(ask, seen, k, partner[k], read) for k in list(chosen.values())[:NUM_EXHIBITS]]


def _exhibit(ask: Ask, seen: Survey, k: int, other: int, read: Callable[[Sample], Sample]) -> Exhibit:
    sample, mate = read(seen.samples[k]), read(seen.samples[other])
    names, made = ["original"], [sample]
    if sample.source is not None:
        names, made = ["source", *names], [Sample(sample.prompt, sample.source_frames()), *made]  # type: ignore[arg-type]
    first = len(names)
    for answers in seen.probes:
        if answers.reason is None and not (other == k and answers.probe.of != "pixels"):
            spoiled = spoil(answers.probe, sample, mate, seed=0, number=k)
            if spoiled is not None:
                names.append(answers.probe.name)
                made.append(spoiled)
    scores = [None] * (first - 1) + [float(v) for v in ask(made[first - 1 :]).overall.tolist()]
    base = scores[first - 1]
    panels = []
    for n, (name, one, value) in enumerate(zip(names, made, scores, strict=True)):
        known = value is not None and math.isfinite(value)
        lower = value < base if n >= first and known and value is not None and base is not None else None
        shown = one.source_frames() if name == "swapped source" else one.frames()
        assert shown is not None
        panels.append(Panel(name, _thumbnail(shown), one.prompt, value if known else None, lower))
    return Exhibit(sample.prompt, tuple(panels))


def _thumbnail(frames: Tensor) -> str:
    frames = frames[:: max(1, len(frames) // FRAMES)][:FRAMES]
    height, width = frames.shape[-2:]
    if max(height, width) > THUMBNAIL:
        scale = THUMBNAIL / max(height, width)
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        frames = F.interpolate(frames, size=size, mode="area")
    return data_uri(frames)


def story(about: Mapping[str, Any], checked: Checked) -> list[str]:
    """What was done and what came of it, in plain words."""
    grades = [one.grade for one in checked.findings]
    truth = (
        f", with {about['gold']} as the truth" if about["gold"] else ", without a judge that knows the truth"
    )
    said = [
        f"{about['reward']} was shown {about['num_samples']} samples of {about['num_prompts']} prompts "
        f"({about['material']}){truth}. Of {len(grades)} findings {grades.count('bad')} are bad, "
        f"{grades.count('fair')} weak and {grades.count('good')} good."
    ]
    worst = [one for one in checked.findings if one.grade == "bad"] or [
        one for one in checked.findings if one.grade == "fair"
    ]
    if worst:
        said.append("First to know: " + "; ".join(f"{one.name}: {one.word}" for one in worst[:5]) + ".")
    said.append(
        "All of this holds for material like this and no other: a reward that passes here can fail on other pictures."
    )
    return said


def render(about: Mapping[str, Any], checked: Checked, shown: list[Exhibit]) -> str:
    """The page as one HTML text."""
    folder = resources.files("pipelines") / "templates"
    environment = Environment(
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.from_string((folder / "trust.html").read_text(encoding="utf-8"))
    style = "\n".join((folder / name).read_text(encoding="utf-8") for name in ("report.css", "trust.css"))
    return template.render(
        about=about,
        checked=checked,
        style=Markup(style),
        story=story(about, checked),
        exhibits=shown,
        by={topic: [f for f in checked.findings if f.topic == topic] for topic in TOPICS},
        named={(one.topic, one.name): one for one in checked.findings},
        charts={name: Markup(chart) for name, chart in _charts(checked).items()},
        signs=SIGNS,
        show={"percent": percent, "decimal": decimal, "signed": signed, "interval": interval},
    )


TOPICS = ("probes", "factors", "batch health", "stability", "position", "agreement", "over-optimisation")


def interval(found: Interval | None, form: Callable[[float], str]) -> str:
    """An estimate with its interval for a cell of a table."""
    if found is None or not math.isfinite(found.mean):
        return "–"
    if not math.isfinite(found.low):
        return form(found.mean)
    return f"{form(found.mean)} ({form(found.low)} to {form(found.high)})"


def write(path: Path, about: Mapping[str, Any], checked: Checked, shown: list[Exhibit]) -> Path:
    """Write the page to `path`."""
    path.write_text(render(about, checked, shown), encoding="utf-8")
    return path


def _charts(checked: Checked) -> dict[str, str]:
    charts = {}
    named = {(one.topic, one.name): one for one in checked.findings}
    probes = [
        Mark(one.probe.name, one.sensitivity(), _tone(named.get(("probes", one.probe.name))))
        for one in checked.survey.probes
        if one.wins
    ]
    if probes:
        charts["probes"] = forest(
            probes, title="Prefers the original", low=0.0, high=1.0, show=percent,
            lines=[(0.5, "blind"), (findings.PASS, "passes")],
        )  # fmt: skip
    factors = [
        Mark(row.name, row.judged, _tone(named.get(("factors", row.name))), row.overall)
        for row in checked.factors
        if row.reason is None and math.isfinite(row.judged.mean)
    ]
    if factors:
        charts["factors"] = forest(
            factors, title="Correlation with the reward", low=-1.0, high=1.0, show=decimal,
            lines=[(-findings.LEAN, "lean"), (findings.LEAN, "lean")],
        )  # fmt: skip
    scores = checked.survey.scores[np.isfinite(checked.survey.scores)]
    if scores.size and np.ptp(scores) > 0:
        charts["scores"] = _scores(checked, scores.tolist())
    if checked.calibration is not None and checked.calibration.bins:
        charts["reliability"] = reliability(checked.calibration)
    if checked.sureness:
        charts["coverage"] = coverage(checked.sureness)
    for number, (name, curve) in enumerate(checked.curves):
        charts[f"curve{number}"] = over_optimisation(curve, name)
    return charts


def _tone(found: Finding | None) -> str:
    return TONES[found.grade if found is not None else "note"]


def _scores(checked: Checked, values: list[float]) -> str:
    """Scores of the samples and of their blank and noise twins over one axis."""
    groups: list[tuple[str, str, list[float]]] = [("samples", "--proxy", values)]
    tones = {"blank": "--quiet", "noise": "--muted", "wrong prompt": "--gold"}
    groups += [
        (one.probe.name, tones[one.probe.name], one.spoiled)
        for one in checked.survey.probes
        if one.probe.name in tones and one.spoiled
    ]
    return histograms(groups, title="Scores of the samples and of their spoiled twins")


def reliability(found: Calibration) -> str:
    """What was said against what came true, a dot a bin, its area the number of pairs."""
    most = max(one.n for one in found.bins)
    series = [
        Series("perfect", "--muted", [(0.5, 0.5), (1.0, 1.0)], dashed=True),
        Series(
            "measured", "--proxy", [(one.confidence, one.credit) for one in found.bins],
            radii=[2.5 + 7 * math.sqrt(one.n / most) for one in found.bins],
            titles=[f"{one.n} pairs: says {one.confidence:.0%}, right {one.credit:.0%}" for one in found.bins],
        ),
    ]  # fmt: skip
    across = [(v, percent(v)) for v in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)]
    low = min(0.5, *(one.credit for one in found.bins))
    return plot(
        series,
        title="Reliability",
        across=across,
        axis="what it says",
        show=percent,
        low=low,
        high=1.0,
        height=280,
    )


def coverage(found: tuple[Sureness, ...]) -> str:
    """Accuracy when only the surest pairs are judged."""
    tones = ("--proxy", "--gold", "--muted")
    series = [
        Series(
            one.name, tones[k % 3], [point for point in one.selective if point[0] >= 0.02] or one.selective
        )
        for k, one in enumerate(found)
    ]
    across = [(v, percent(v)) for v in (0.2, 0.4, 0.6, 0.8, 1.0)]
    return plot(
        series,
        title="Selective accuracy",
        across=across,
        axis="share of pairs judged",
        show=percent,
        height=280,
    )


def over_optimisation(found: Curve, name: str) -> str:
    """Both rewards over the distance d, their intervals, and the fitted law of gold."""
    base = found.points[0].gold.mean
    series = [
        Series(
            "reward", "--proxy", [(p.d, p.proxy.mean) for p in found.points],
            [(p.d, p.proxy.low, p.proxy.high) for p in found.points], [3.2] * len(found.points),
            titles=[f"n = {p.n}: reward {p.proxy.mean:.2f}" for p in found.points],
        ),
        Series(
            "gold", "--gold", [(p.d, p.gold.mean) for p in found.points],
            [(p.d, p.gold.low, p.gold.high) for p in found.points], [3.2] * len(found.points),
            titles=[f"n = {p.n}: gold {p.gold.mean:.2f}" for p in found.points],
        ),
    ]  # fmt: skip
    if found.fits:
        last = found.points[-1].d
        law = found.fits[0]
        series.append(
            Series(
                "fit of gold",
                "--gold",
                [(last * k / 24, base + law(last * k / 24)) for k in range(25)],
                dashed=True,
            )
        )
    across = [(p.d, f"n={p.n}") for k, p in enumerate(found.points) if k != 1]
    return plot(
        series, title=f"Over-optimisation, {name}", across=across, axis="d = √KL", show=decimal, height=280
    )
