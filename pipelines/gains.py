"""What training did to a judge: held-out pair accuracy before and after with intervals, and the paired gain.

Legend: P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.stats import intervals
from mmalign.types import Modality, RewardModel, Sample, Scores
from rewardmodels.examination import NUM_IMAGES, Judged, accuracy

Prefer = Callable[[Sequence[Sample], Sequence[Sample]], Tensor]
"""p(the first is better) (P,) of pairs."""


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
