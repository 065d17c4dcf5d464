"""From the evaluations that a run kept, sample by sample, to what the quickstart reports.

`gold` is the share of held-out pictures that the exact verifier passes, `proxy` the mean of the learned reward on the
same pictures; both with 95% intervals, and paired by prompt and seed.

Shapes: media is (B, T, C, H, W) in [0, 1].
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mmalign.lines import numbered_lines
from mmalign.shapes import parse
from mmalign.stats import intervals
from mmalign.train.trackers import EVALUATIONS, evaluation_file
from pipelines.charts import Point
from pipelines.gallery import Panel, Row
from pipelines.quickstart_report import Change, Judge

PROXY = "reward"
GOLD = "shapes-verifier"
CATEGORIES = {
    "single_object": "one object",
    "colors": "a colour",
    "size": "a size",
    "counting": "a count",
    "two_object": "two objects",
    "position": "a position",
    "color_attr": "two coloured objects",
}
NUM_EXAMPLES = 8


@dataclass(frozen=True)
class Graded:
    """One picture: what was asked, whether the verifier passed it, and what the learned reward gave."""

    prompt: str
    seed: int
    passed: bool
    proxy: float


def read_evaluation(folder: Path, iteration: int) -> list[Graded]:
    """The pictures of one evaluation; the recipe has the verifier score 1 for a pass and 0 otherwise."""
    path = evaluation_file(folder, iteration)
    if not path.is_file():
        raise ValueError(f"{path} is missing: give --output another folder to start over")
    rows = [json.loads(line) for _, line in numbered_lines(path)]
    return [
        Graded(
            row["prompt"],
            row["seed"],
            row["scores"][GOLD] == 1.0,
            float("nan") if row["scores"][PROXY] is None else row["scores"][PROXY],
        )
        for row in rows
    ]


def evaluated(folder: Path) -> list[int]:
    """The iterations that have an evaluation, in order."""
    return sorted(int(path.stem) for path in (folder / EVALUATIONS).glob("*.jsonl"))


def share(graded: Sequence[Graded]) -> intervals.Interval:
    """The share that the verifier passes, by prompts resampled within their kind."""
    return intervals.mean([g.passed for g in graded], [g.prompt for g in graded], strata=kinds(graded))


def reward(graded: Sequence[Graded]) -> intervals.Interval:
    """The mean of the learned reward."""
    return intervals.mean([g.proxy for g in graded], [g.prompt for g in graded], strata=kinds(graded))


def kinds(graded: Sequence[Graded]) -> list[str]:
    """The kind of each prompt; every kind is asked equally often."""
    return [parse(g.prompt).category for g in graded]


def gold_change(base: Sequence[Graded], aligned: Sequence[Graded]) -> Change:
    """The share of passes before, after, and its paired difference."""
    first, second = [g.passed for g in base], [g.passed for g in aligned]
    return Change(share(base), share(aligned), difference(first, second, base, aligned))


def proxy_change(base: Sequence[Graded], aligned: Sequence[Graded]) -> Change:
    """The learned reward before, after, and its paired difference."""
    first, second = [g.proxy for g in base], [g.proxy for g in aligned]
    return Change(reward(base), reward(aligned), difference(first, second, base, aligned))


def difference(
    before: Sequence[float], after: Sequence[float], base: Sequence[Graded], aligned: Sequence[Graded]
) -> intervals.Interval:
    """The mean of after - before, picture by picture."""
    return intervals.paired(before, after, prompts_of(base, aligned), strata=kinds(base))


def prompts_of(base: Sequence[Graded], aligned: Sequence[Graded]) -> list[str]:
    """The prompts, after a check that both sides were asked the same with the same seeds."""
    if [(g.prompt, g.seed) for g in base] != [(g.prompt, g.seed) for g in aligned]:
        raise ValueError("the two evaluations have other prompts or seeds: give --output another folder")
    return [g.prompt for g in base]


def curves(folder: Path) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """Gold and proxy at every evaluation."""
    found = [(iteration, read_evaluation(folder, iteration)) for iteration in evaluated(folder)]
    gold = tuple(Point(iteration, share(graded)) for iteration, graded in found)
    return gold, tuple(Point(iteration, reward(graded)) for iteration, graded in found)


def by_category(base: Sequence[Graded], aligned: Sequence[Graded]) -> tuple[tuple[str, Change], ...]:
    """The change in the share of passes for each kind of prompt that occurs."""
    changes = []
    for kind, name in CATEGORIES.items():
        index = [i for i, found in enumerate(kinds(base)) if found == kind]
        if index:
            changes.append((name, gold_change([base[i] for i in index], [aligned[i] for i in index])))
    return tuple(changes)


def outcomes(base: Sequence[Graded], aligned: Sequence[Graded]) -> tuple[str, ...]:
    """What became of every picture, in the words of `pipelines.gallery.Row.outcome`."""
    names = {(False, True): "fixed", (True, False): "broken", (True, True): "kept", (False, False): "missed"}
    return tuple(names[b.passed, a.passed] for b, a in zip(base, aligned, strict=True))


def panel(label: str, graded: Graded, media: Tensor) -> Panel:
    """One picture for a gallery."""
    return Panel(label, media, graded.passed, {"learned reward": graded.proxy})


def gallery(
    base: Sequence[Graded], aligned: Sequence[Graded], pictures: tuple[Tensor, Tensor]
) -> tuple[Row, ...]:
    """Those of the pairs that have pictures, side by side, each prompt with its first seed."""
    rows = zip(base, aligned, *pictures, strict=False)
    return tuple(
        Row(before.prompt, before.seed, (panel("base", before, left), panel("aligned", after, right)))
        for before, after, left, right in rows
        if before.seed == 0
    )


def spread(num: int, wanted: int) -> list[int]:
    """`wanted` positions from first to last of `num`, evenly apart.

    >>> spread(9, 3)
    [0, 4, 8]
    """
    return [round(i * (num - 1) / (wanted - 1)) for i in range(wanted)]


def judge(base: Sequence[Graded], pictures: Sequence[Tensor] | Tensor = ()) -> Judge:
    """The learned reward against the verifier on the base model's pictures, with some from low to high."""
    known = [g for g in base if math.isfinite(g.proxy)]
    order = [i for i in range(min(len(pictures), len(base))) if math.isfinite(base[i].proxy)]
    order.sort(key=lambda i: base[i].proxy)
    chosen = order if len(order) <= NUM_EXAMPLES else [order[i] for i in spread(len(order), NUM_EXAMPLES)]
    return Judge(
        passing=tuple(g.proxy for g in known if g.passed),
        failing=tuple(g.proxy for g in known if not g.passed),
        examples=tuple((base[i].prompt, panel("base", base[i], pictures[i])) for i in chosen),
    )
