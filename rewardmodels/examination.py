"""How well a reward model agrees with annotators on prompts it never saw, beside the best that anyone could do.

On shapes the annotator's law is known, so an accuracy has a computable ceiling: `expected` is the agreement with
fresh answers of the same annotator, `best` that of a judge who knows every utility, `ratio` their quotient.
Held-out specs are halved: calibration is fitted on one half, accuracy measured on the other.

Legend: P pairs, K pictures of a prompt.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from mmalign.seeds import generator
from mmalign.shapes.annotators import Law, annotate, probabilities
from mmalign.shapes.worlds import WORLDS, World
from mmalign.stats import agreement, calibration, intervals
from mmalign.types import PreferencePair, RewardModel, Sample, Scores

Half = Literal["calibration", "evaluation"]
IMAGES = WORLDS["shapes"]
NUM_IMAGES = 4
"""Candidates of a prompt in an examination on shapes."""
ANSWERS = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
"""p(first is better) for the answers first, second, tie."""


@dataclass(frozen=True, eq=False)
class Judged:
    """P pairs with the model's scores and the annotators' answers; `chance` is NaN where the law is not known."""

    score_a: Tensor  # (P,)
    score_b: Tensor
    label: Tensor  # p(a is better) as it was answered: 1, 0, or .5 for a tie
    chance: Tensor  # true p(a is better), given that there is a winner
    groups: tuple[str, ...]
    categories: tuple[str, ...]
    tie: Tensor | None = None  # true p(tie), where the law is known

    @property
    def gap(self) -> Tensor:
        """Score differences (P,)."""
        return self.score_a - self.score_b

    @property
    def centre(self) -> float:
        """The mean of all scores."""
        return float(torch.cat([self.score_a, self.score_b]).double().mean())

    @property
    def scale(self) -> float:
        """The standard deviation of all scores; 1 where they are all the same."""
        return float(torch.cat([self.score_a, self.score_b]).double().std()) or 1.0

    def select(self, where: Tensor) -> Judged:
        """The pairs at `where` (P,) bool."""
        index = where.nonzero()[:, 0].tolist()
        pick: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None:
                pick[item.name] = (
                    value[where] if isinstance(value, Tensor) else tuple(value[i] for i in index)
                )
        return Judged(**pick)


def half_of(prompt: str, world: World = IMAGES) -> Half:
    """The half that a prompt's meaning belongs to, the same for all its phrasings."""
    digest = hashlib.sha256(f"half:{world.parse(prompt)}".encode()).digest()
    return "calibration" if digest[0] % 2 else "evaluation"


def half_of_group(group: str) -> Half:
    """The half that a group of comparisons belongs to, by its name."""
    return "calibration" if hashlib.sha256(f"half:{group}".encode()).digest()[0] % 2 else "evaluation"


def judge_world(
    model: RewardModel, half: Half, *, num_prompts: int, law: Law, world: World = IMAGES,
    dimensions: Sequence[str] = ("overall",), seed: int = 0, damage: float = 0.5,
) -> dict[str, Judged]:  # fmt: skip
    """Media of held-out prompts, four to a prompt, and what simulated annotators say of them in each dimension."""
    answers = generator("reward-examination", half, seed)
    samples, worth, kinds = heldout(half, world, num_prompts, dimensions, seed, damage)
    scores = model(samples=samples)
    first, second = (list(side) for side in zip(*combinations(range(NUM_IMAGES), 2), strict=True))
    repeat = len(first)
    names = tuple(samples[i * NUM_IMAGES].prompt for i in range(num_prompts) for _ in range(repeat))
    categories = tuple(kind for kind in kinds for _ in range(repeat))
    found = {}
    for dim in dimensions:
        column, utility = column_of(scores, dim).view(num_prompts, -1), worth[dim]
        a, b = utility[:, first], utility[:, second]
        chances = probabilities(a, b, law)
        label = ANSWERS[annotate(a, b, law, answers)]
        decided = chances[..., :2].sum(-1)
        found[dim] = Judged(
            column[:, first].flatten(), column[:, second].flatten(), label.flatten(),
            (chances[..., 0] / decided).flatten(), names, categories, (1 - decided).flatten(),
        )  # fmt: skip
    return found


def heldout(
    half: Half, world: World, num_prompts: int, dimensions: Sequence[str], seed: int, damage: float
) -> tuple[list[Sample], dict[str, Tensor], list[str]]:
    """Four samples for each of so many held-out prompts, their worth (N, 4) by dimension, and the kinds (N,)."""
    samples: list[Sample] = []
    worth: dict[str, list[Tensor]] = {dim: [] for dim in dimensions}
    kinds: list[str] = []
    number = 0
    while len(kinds) < num_prompts:
        num_families = 2 * len(world.kinds)
        block = world.make("heldout", seed, number, num_families=num_families, damage_share=damage)
        number += 1
        for f, prompts in enumerate(block.prompts):
            source = None if block.sources is None else block.sources[f]
            for m, prompt in enumerate(prompts):
                if half_of(prompt, world) != half or len(kinds) == num_prompts or prompt in prompts[:m]:
                    continue
                samples += [Sample(prompt, image, source) for image in block.images[f]]
                for dim in dimensions:
                    worth[dim].append(block.worth(dim)[f, :, m])
                kinds.append(block.categories[f])
    return samples, {dim: torch.stack(rows) for dim, rows in worth.items()}, kinds


def column_of(scores: Scores, dimension: str) -> Tensor:
    """The scores (B,) of a dimension; the overall one where the model has no dimension of that name."""
    return scores.values[:, scores.names.index(dimension)] if dimension in scores.names else scores.overall


def judge_pairs(
    model: RewardModel, pairs: Sequence[PreferencePair], *, dimension: str = "overall",
    refusals: Counter[str] | None = None,
) -> Judged:  # fmt: skip
    """Given pairs; those without a label of the dimension, or that could not be scored, are left out: why, in the
    reward's own words, is counted in `refusals`.
    """
    known = [pair for pair in pairs if dimension in pair.labels]
    samples = list({id(s): s for pair in known for s in (pair.a, pair.b)}.values())
    place = {id(sample): i for i, sample in enumerate(samples)}
    scores = model(samples=samples)
    if refusals is not None:
        refusals.update(reason for reason in scores.reasons if reason is not None)
    column = column_of(scores, dimension)
    made = Judged(
        column[[place[id(pair.a)] for pair in known]],
        column[[place[id(pair.b)] for pair in known]],
        torch.tensor([pair.labels[dimension] for pair in known], dtype=torch.float64),
        torch.full((len(known),), float("nan"), dtype=torch.float64),
        tuple(pair.group or pair.prompt for pair in known),
        ("all",) * len(known),
    )
    return made.select(torch.isfinite(made.gap))


def accuracy(judged: Judged, *, tie_threshold: float = 0.0) -> dict[str, Any]:
    """Agreement with the answers, by prompt with an interval; against a known law also expected, best and ratio.

    Where ties were answered, the three-way accuracy with ties up to the threshold stands beside it.
    """
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
    if not decided.all():
        made["with_ties"] = agreement.with_ties(gap, label, epsilon=tie_threshold).as_dict()
    if not bool(torch.isnan(judged.chance).any()):
        made |= against_law(judged)
        made["by_category"] = {
            name: against_law(judged.select(torch.tensor([kind == name for kind in judged.categories])))
            for name in sorted(set(judged.categories))
        }
        if judged.tie is not None and bool((judged.tie > 0).any()):
            made["three_way"] = three_way(judged, judged.tie, tie_threshold)
    return made


def against_law(judged: Judged) -> dict[str, float]:
    """Expected agreement with fresh answers that name a winner, the best anyone can expect, and their ratio."""
    chance, gap = judged.chance, judged.gap
    taken = torch.where(gap > 0, chance, torch.where(gap < 0, 1 - chance, 0.5))
    share = torch.ones_like(chance) if judged.tie is None else 1 - judged.tie
    expected = float((taken * share).sum() / share.sum())
    best = float((torch.maximum(chance, 1 - chance) * share).sum() / share.sum())
    return {"expected": expected, "best": best, "ratio": expected / best}


def three_way(judged: Judged, tie: Tensor, threshold: float) -> dict[str, float]:
    """Expected agreement with fresh answers first, second or tie; a tie is said up to the threshold."""
    gap = judged.gap
    wins = torch.where(gap > 0, judged.chance, 1 - judged.chance) * (1 - tie)
    expected = float(torch.where(gap.abs() <= threshold, tie, wins).mean())
    sure = torch.maximum(judged.chance, 1 - judged.chance) * (1 - tie)
    best = float(torch.maximum(sure, tie).mean())
    return {"expected": expected, "best": best, "ratio": expected / best}


def tie_threshold(gap: Tensor, label: Tensor) -> float:
    """The score difference up to which a tie is best said of P pairs; 0 where nobody said one."""
    answers = np.sign(label.numpy() - 0.5)
    return max(agreement.best_epsilon(gap.numpy(), answers), 0.0) if (answers == 0).any() else 0.0


def fit_weights(gaps: Tensor, label: Tensor, *, penalty: float = 1e-3) -> tuple[float, ...]:
    """Logistic weights (D,) of score differences (P, D) for the answers (P,); ties pull neither way."""
    table, answers = gaps.double(), label.double()

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = table @ torch.from_numpy(weights)
        value = torch.nn.functional.binary_cross_entropy_with_logits(logits, answers)
        slope = (torch.sigmoid(logits) - answers) @ table / len(answers)
        return float(value) + penalty * float(weights @ weights), slope.numpy() + 2 * penalty * weights

    found = minimize(loss, np.zeros(table.shape[1]), jac=True, method="L-BFGS-B")
    return tuple(float(weight) for weight in found.x)


def calibration_error(judged: Judged, temperature: float) -> float:
    """Expected calibration error of the predicted winner's probability, in bins of equal width on [.5, 1]."""
    chance = calibration.probabilities(judged.gap.numpy(), temperature)
    return calibration.ece(calibration.bins(*calibration.fold(chance, judged.label.numpy())))
