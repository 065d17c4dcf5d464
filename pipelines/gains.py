"""What training did to a judge: held-out pair accuracy before and after with intervals, and the paired gain.

Legend: P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.shapes.worlds import WORLDS
from mmalign.stats import intervals
from mmalign.train.skips import Skips
from mmalign.types import Modality, PreferencePair, RewardModel, Sample, Scores
from rewardmodels.examination import NUM_IMAGES, Half, Judged, accuracy, judge_world
from rewardmodels.reading import distinct
from rewardmodels.recipe import PairData
from rewardmodels.sources import FileSource, law_of

Prefer = Callable[[Sequence[Sample], Sequence[Sample]], Tensor]
"""p(the first is better) (P,) of pairs."""


@dataclass(frozen=True)
class OfPairs:
    """A judge of pairs, as it is measured."""

    prefer: Prefer


def heldout(
    data: PairData, seed: int, judge: RewardModel | OfPairs, *, num_prompts: int, half: Half | None = None
) -> Judged | None:
    """Held-out pairs of so many prompts with what a judge says of them; what it cannot judge is a tie, and wrong. None
    without any. `half` is for judges that are calibrated on one half and measured on the other; others are measured on
    all of a file.
    """
    place = data.heldout
    if place is None:
        return None
    if place not in WORLDS:
        return _of_file(judge, Path(place), seed, num_prompts, half)
    ask = partial(
        judge_world, half=half or "evaluation", num_prompts=num_prompts, law=law_of(data.shapes),
        world=WORLDS[place],
    )  # fmt: skip
    if isinstance(judge, OfPairs):
        return in_pairs(judge.prefer, ask)
    return unjudged_as_ties(ask(judge)["overall"])


def unjudged_as_ties(found: Judged) -> Judged:
    """With equal scores where one of a pair has none: to a measurement a tie, and wrong where there is a winner."""
    known = found.gap.isfinite()
    return replace(found, score_a=found.score_a.where(known, 0.0), score_b=found.score_b.where(known, 0.0))


def in_pairs(prefer: Prefer, ask: Callable[[RewardModel], Mapping[str, Judged]]) -> Judged:
    """What a judge of pairs says where `ask` has a reward's scores compared: every pair as a difference from 1/2."""
    seen = _Recorder()
    found = ask(seen)["overall"]
    num = len(seen.samples)
    places = [
        (start + i, start + j)
        for start in range(0, num, NUM_IMAGES)
        for i, j in combinations(range(NUM_IMAGES), 2)
    ]
    chance = prefer([seen.samples[i] for i, _ in places], [seen.samples[j] for _, j in places])
    return replace(found, score_a=chance - 0.5, score_b=torch.zeros_like(chance))


def _of_file(
    judge: RewardModel | OfPairs, path: Path, seed: int, num_prompts: int, half: Half | None
) -> Judged | None:
    """The pairs of a file that have a label; those that cannot be judged stand as ties. None where nothing falls to the
    half for calibration, without which a judge can do.
    """
    skips = Skips()
    pairs = FileSource(path, 1, seed, ("overall",), skips=skips).heldout(num_prompts, half)
    skips.settle()
    skips.require_few(str(path), last=True)
    if not pairs and half == "calibration":
        return None
    if not pairs:
        where = "" if half is None else " in the half of its prompts that is measured on"
        raise ValueError(
            f"{path} holds no pair with a label of 'overall'{where}: nothing to measure on; give pairs of more prompts"
        )
    gap = _gaps(judge, pairs).double()
    label = torch.tensor([pair.labels["overall"] for pair in pairs], dtype=torch.float64)
    groups = tuple(pair.group or pair.prompt for pair in pairs)
    unknown = torch.full_like(gap, torch.nan)
    return Judged(gap, torch.zeros_like(gap), label, unknown, groups, ("all",) * len(pairs))


def _gaps(judge: RewardModel | OfPairs, pairs: Sequence[PreferencePair]) -> Tensor:
    if isinstance(judge, OfPairs):
        return judge.prefer([pair.a for pair in pairs], [pair.b for pair in pairs]) - 0.5
    samples, first, second = distinct(pairs)
    overall = judge(samples=samples).overall
    return (overall[first] - overall[second]).nan_to_num(0.0)


class _Recorder:
    """Keeps the samples it is shown, and scores none."""

    name, dimensions, differentiable = "recorder", ("overall",), False
    modalities: frozenset[Modality] = frozenset({"image", "edit", "video"})

    def __init__(self) -> None:
        self.samples: list[Sample] = []

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        self.samples += samples
        return Scores.of(torch.zeros(len(samples), 1), self.dimensions)


def compared(
    before: Mapping[str, Judged], after: Mapping[str, Judged], *, tie_threshold: float = 0.0
) -> dict[str, Any]:
    """Accuracies before and after, and the paired gain with its interval over prompts. After training differences up
    to the threshold are ties, three ways.
    """
    made: dict[str, Any] = {"before": {}, "after": {}, "gain": {}}
    for name in before:
        made["before"][name] = accuracy(before[name])
        made["after"][name] = accuracy(after[name], tie_threshold=tie_threshold)
        earlier, later = _right(before[name]), _right(after[name])
        made["gain"][name] = intervals.paired(earlier, later, before[name].groups).as_dict()
    return made


def _right(found: Judged) -> np.ndarray:
    """1 where the model's winner is the annotator's; NaN, left out, where the annotator saw a tie."""
    label = found.label.numpy() - 0.5
    right = (np.sign(found.gap.numpy()) == np.sign(label)).astype(float)
    return np.where(label == 0, np.nan, right)


def in_brief(found: Judged) -> dict[str, float]:
    """Numbers to log during training."""
    result = accuracy(found)
    known = {key: result[key] for key in ("expected", "best", "ratio") if key in result}
    return known | {"accuracy": result["accuracy"]["mean"]}


def line(found: Mapping[str, Judged]) -> str:
    """Accuracies with their intervals, beside the best where it is known, for the terminal."""
    known = {name: accuracy(one) for name, one in found.items()}
    parts = {name: one["accuracy"] for name, one in known.items()}
    reached = "".join(reach(one) for one in known.values())
    return f"held-out accuracy {_shown(parts)}{reached}" if parts else "no held-out pairs were given"


def reach(quality: Mapping[str, Any]) -> str:
    """How near an accuracy comes to the best that anyone can expect; empty where that is not known."""
    if "best" not in quality:
        return ""
    return f", expected {quality['expected']:.3f} of at best {quality['best']:.3f} ({quality['ratio']:.1%})"


def gain_line(quality: Mapping[str, Any], after: Mapping[str, Judged]) -> str:
    """Accuracies after training and what was gained, for the terminal."""
    gained = f"; gained {_shown(quality['gain'])}" if quality["gain"] else ""
    return f"after: {line(after)}{gained}"


def _shown(parts: Mapping[str, Mapping[str, Any]]) -> str:
    return ", ".join(
        f"{name} {part['mean']:.3f} [{part['low']:.3f}, {part['high']:.3f}]" for name, part in parts.items()
    )
