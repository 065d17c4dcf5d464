"""What training did to a judge: held-out pair accuracy before and after with intervals, and the paired gain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.stats import intervals
from mmalign.types import Modality, Sample, Scores
from rewardmodels.examination import Judged, accuracy, judge_shapes

Prefer = Callable[[Sequence[Sample], Sequence[Sample]], Tensor]
"""p(the first is better) (P,) of pairs."""


def judged_in_pairs(prefer: Prefer, *, num_prompts: int, temperature: float) -> Judged:
    """Held-out pairs of shapes with what a judge of pairs says of them."""
    seen = _Recorder()
    found = judge_shapes(seen, "evaluation", num_prompts=num_prompts, temperature=temperature)
    num = len(seen.samples) // num_prompts
    places = [(g * num + i, g * num + j) for g in range(num_prompts) for i, j in combinations(range(num), 2)]
    chance = prefer([seen.samples[i] for i, _ in places], [seen.samples[j] for _, j in places])
    return replace(found, score_a=chance - 0.5, score_b=torch.zeros_like(chance))


class _Recorder:
    """Keeps the samples it is shown, and scores none."""

    name, dimensions, differentiable = "recorder", ("overall",), False
    modalities: frozenset[Modality] = frozenset({"image"})

    def __init__(self) -> None:
        self.samples: list[Sample] = []

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        self.samples += samples
        return Scores.of(torch.zeros(len(samples), 1), self.dimensions)


def compared(before: Mapping[str, Judged], after: Mapping[str, Judged]) -> dict[str, Any]:
    """Accuracies before and after, and the paired gain with its interval over prompts."""
    made: dict[str, Any] = {"before": {}, "after": {}, "gain": {}}
    for name in before:
        made["before"][name], made["after"][name] = accuracy(before[name]), accuracy(after[name])
        earlier, later = _right(before[name]), _right(after[name])
        made["gain"][name] = intervals.paired(earlier, later, before[name].groups).as_dict()
    return made


def _right(found: Judged) -> np.ndarray:
    """1 where the model's winner is the annotator's; NaN, left out, where the annotator saw a tie."""
    label = found.label.numpy() - 0.5
    right = (np.sign(found.gap.numpy()) == np.sign(label)).astype(float)
    return np.where(label == 0, np.nan, right)


def line(found: Mapping[str, Judged]) -> str:
    """Accuracies with their intervals, for the terminal."""
    parts = {name: accuracy(one)["accuracy"] for name, one in found.items()}
    return f"held-out accuracy {_shown(parts)}" if parts else "no held-out pairs were given"


def gain_line(quality: Mapping[str, Any], after: Mapping[str, Judged]) -> str:
    """Accuracies after training and what was gained, for the terminal."""
    gained = f"; gained {_shown(quality['gain'])}" if quality["gain"] else ""
    return f"after: {line(after)}{gained}"


def _shown(parts: Mapping[str, Mapping[str, Any]]) -> str:
    return ", ".join(
        f"{name} {part['mean']:.3f} [{part['low']:.3f}, {part['high']:.3f}]" for name, part in parts.items()
    )
