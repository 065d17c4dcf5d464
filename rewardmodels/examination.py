"""How well a reward model agrees with annotators on prompts it never saw, beside the best that anyone could do.

On shapes the annotator's law is known, so an accuracy has a computable ceiling: `expected` is the agreement with
fresh answers of the same annotator, `best` that of a judge who knows every utility, `ratio` their quotient.
Held-out specs are halved: calibration is fitted on one half, accuracy measured on the other.

Legend: P pairs, K pictures of a prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from mmalign.seeds import generator
from mmalign.shapes.annotators import Law, annotate, probabilities
from mmalign.shapes.pairs import make_block
from mmalign.shapes.prompts import parse
from mmalign.stats import agreement, intervals
from mmalign.types import PreferencePair, RewardModel, Sample

Half = Literal["calibration", "evaluation"]


@dataclass(frozen=True, eq=False)
class Judged:
    """P pairs with the model's scores and the annotators' answers; `chance` is NaN where the law is not known."""

    score_a: Tensor  # (P,)
    score_b: Tensor
    label: Tensor  # p(a is better) as it was answered: 1, 0, or .5 for a tie
    chance: Tensor  # true p(a is better)
    groups: tuple[str, ...]
    categories: tuple[str, ...]

    @property
    def gap(self) -> Tensor:
        """Score differences (P,)."""
        return self.score_a - self.score_b

    def select(self, where: Tensor) -> Judged:
        """The pairs at `where` (P,) bool."""
        index = where.nonzero()[:, 0].tolist()
        pick: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            pick[item.name] = value[where] if isinstance(value, Tensor) else tuple(value[i] for i in index)
        return Judged(**pick)


def half_of(prompt: str) -> Half:
    """The half that a prompt's meaning belongs to, the same for all its phrasings."""
    digest = hashlib.sha256(f"half:{parse(prompt)}".encode()).digest()
    return "calibration" if digest[0] % 2 else "evaluation"


def judge_shapes(
    model: RewardModel,
    half: Half,
    *,
    num_prompts: int,
    temperature: float,
    seed: int = 0,
    damage: float = 0.5,
) -> Judged:
    """Pictures of held-out prompts, four to a prompt, scored the way a user scores them."""
    law, answers = Law(temperature=temperature), generator("reward-examination", half, seed)
    samples: list[Sample] = []
    worth: list[Tensor] = []
    kinds: list[str] = []
    number = 0
    while len(kinds) < num_prompts:
        block = make_block("heldout", seed, number, num_families=14, damage_share=damage)
        number += 1
        for f, prompts in enumerate(block.prompts):
            for m, prompt in enumerate(prompts):
                if half_of(prompt) != half or len(kinds) == num_prompts or prompt in prompts[:m]:
                    continue
                samples += [Sample(prompt, image) for image in block.images[f]]
                worth.append(block.utility[f, :, m])
                kinds.append(block.categories[f])
    overall = model(samples=samples).overall.view(num_prompts, -1)
    utility = torch.stack(worth)
    num_images = utility.shape[1]
    first, second = (list(side) for side in zip(*combinations(range(num_images), 2), strict=True))
    chance = probabilities(utility[:, first], utility[:, second], law)[..., 0].flatten()
    label = (annotate(utility[:, first], utility[:, second], law, answers) == 0).double().flatten()
    repeat = len(first)
    names = tuple(samples[i * num_images].prompt for i in range(num_prompts) for _ in range(repeat))
    return Judged(
        overall[:, first].flatten(), overall[:, second].flatten(), label, chance, names,
        tuple(kind for kind in kinds for _ in range(repeat)),
    )  # fmt: skip


def judge_pairs(model: RewardModel, pairs: Sequence[PreferencePair], *, dimension: str = "overall") -> Judged:
    """Given pairs; those without a label of the dimension, or that could not be scored, are left out."""
    known = [pair for pair in pairs if dimension in pair.labels]
    samples = list({id(s): s for pair in known for s in (pair.a, pair.b)}.values())
    place = {id(sample): i for i, sample in enumerate(samples)}
    scores = model(samples=samples)
    column = scores.overall
    if dimension in scores.names:
        column = scores.values[:, scores.names.index(dimension)]
    made = Judged(
        column[[place[id(pair.a)] for pair in known]],
        column[[place[id(pair.b)] for pair in known]],
        torch.tensor([pair.labels[dimension] for pair in known], dtype=torch.float64),
        torch.full((len(known),), float("nan"), dtype=torch.float64),
        tuple(pair.group or pair.prompt for pair in known),
        ("all",) * len(known),
    )
    return made.select(torch.isfinite(made.gap))


def accuracy(judged: Judged) -> dict[str, Any]:
    """Agreement with the answers, by prompt with an interval; against a known law also expected, best and ratio."""
    gap, label = judged.gap.numpy(), np.sign(judged.label.numpy() - 0.5)
    strict = agreement.strict(gap, label)
    decided = label != 0
    right = (np.sign(gap) == label)[decided].astype(float)
    groups = [group for group, kept in zip(judged.groups, decided, strict=True) if kept]
    made: dict[str, Any] = {
        "protocol": strict.protocol,
        "accuracy": intervals.mean(right, groups).as_dict(),
        "num_pairs": len(label),
        "num_prompts": len(set(judged.groups)),
    }
    if not bool(torch.isnan(judged.chance).any()):
        made |= against_law(judged)
        made["by_category"] = {
            name: against_law(judged.select(torch.tensor([kind == name for kind in judged.categories])))
            for name in sorted(set(judged.categories))
        }
    return made


def against_law(judged: Judged) -> dict[str, float]:
    """Expected agreement with fresh answers, the best anyone can expect, and their ratio."""
    chance, gap = judged.chance, judged.gap
    taken = torch.where(gap > 0, chance, torch.where(gap < 0, 1 - chance, 0.5))
    expected, best = float(taken.mean()), float(torch.maximum(chance, 1 - chance).mean())
    return {"expected": expected, "best": best, "ratio": expected / best}


def fit_temperature(gap: Tensor, label: Tensor) -> float:
    """The T that makes sigmoid(gap / T) likeliest for the answers (P,) in [0, 1]."""
    gap, label = gap.double(), label.double()

    def loss(log_temperature: float) -> float:
        logits = gap / float(np.exp(log_temperature))
        return float(torch.nn.functional.binary_cross_entropy_with_logits(logits, label))

    found = minimize_scalar(loss, bounds=(-7.0, 7.0), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def calibration_error(judged: Judged, temperature: float, *, num_bins: int = 15) -> float:
    """Expected calibration error of the predicted winner's probability, equal-width bins on [.5, 1]."""
    chance = torch.sigmoid(judged.gap.double() / temperature)
    confidence = torch.maximum(chance, 1 - chance)
    right = torch.where(chance >= 0.5, judged.label, 1 - judged.label)
    place = ((confidence - 0.5) * 2 * num_bins).long().clamp(0, num_bins - 1)
    error = 0.0
    for number in range(num_bins):
        where = place == number
        if bool(where.any()):
            error += float(where.double().mean() * (right[where].mean() - confidence[where].mean()).abs())
    return error
