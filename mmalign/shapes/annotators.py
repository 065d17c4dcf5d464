"""Simulated annotators: labels of pairs drawn from known laws over true utilities.

Whatever learns from these labels can be held against what is reachable: `best_accuracy` gives the
accuracy that nobody can beat, computed from the law, not estimated.

Legend: N pairs, D dimensions judged apart; utilities are (N,) or (N, D) and of any scale.
A label is an index into `LABELS`: 0 the first is better, 1 the second is better, 2 tie.

>>> law = Law(temperature=0.5, theta=1.5)
>>> [round(p, 3) for p in probabilities(torch.tensor(1.0), torch.tensor(0.0), law).tolist()]
[0.831, 0.083, 0.086]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmalign.shapes.scene import COLORS, Scene

LABELS: tuple[str, ...] = ("first", "second", "tie")


@dataclass(frozen=True)
class Law:
    """How an annotator answers.

    With d = (utility of first - utility of second) / temperature + biases, Rao and Kupper's law is
    P(first) = sigmoid(d - log theta), P(second) = sigmoid(-d - log theta), the rest ties;
    theta = 1 is Bradley and Terry's, without ties.

    - temperature: above 0; the smaller, the surer.
    - theta: 1 or more; the larger, the more ties.
    - careless: share of answers in [0, 1] given blindly, each allowed answer alike.
    - position_bias: added to d, in favour of what is shown first.
    - lure_weight: times (lure of first - lure of second), added to d: a liking for something that
      should not count, for instance a colour (`color_lure`).
    """

    temperature: float = 1.0
    theta: float = 1.0
    careless: float = 0.0
    position_bias: float = 0.0
    lure_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if self.theta < 1:
            raise ValueError(f"theta must be 1 (no ties) or more, got {self.theta}")
        if not 0 <= self.careless <= 1:
            raise ValueError(f"careless is a share in [0, 1], got {self.careless}")


@dataclass(frozen=True)
class BestAccuracy:
    """The highest accuracies that can be expected of a judge who knows the law and the utilities.

    - strict: of naming the winner, over the pairs that are not ties;
    - strict_unordered: the same for a judge who does not see which was shown first (a reward model
      that scores each alone), when either order is equally likely;
    - three_way: of naming first, second or tie, over all pairs;
    - tie_share: expected share of ties.
    """

    strict: float
    strict_unordered: float
    three_way: float
    tie_share: float


def probabilities(
    first: Tensor,
    second: Tensor,
    law: Law,
    lure_first: Tensor | float = 0.0,
    lure_second: Tensor | float = 0.0,
) -> Tensor:
    """Probability of each label, (..., 3), for utilities that broadcast together."""
    gap = (first - second).double() / law.temperature + law.position_bias
    gap = gap + law.lure_weight * (torch.as_tensor(lure_first) - torch.as_tensor(lure_second))
    margin = math.log(law.theta)
    wins, losses = torch.sigmoid(gap - margin), torch.sigmoid(-gap - margin)
    ties = (1 - wins - losses).clamp_min(0) if law.theta > 1 else torch.zeros_like(wins)
    told = torch.stack([wins, losses, ties], -1)
    blind = torch.tensor([1 / 3] * 3 if law.theta > 1 else [0.5, 0.5, 0.0], dtype=told.dtype)
    return (1 - law.careless) * told + law.careless * blind


def annotate(
    first: Tensor,
    second: Tensor,
    law: Law | Sequence[Law],
    generator: torch.Generator,
    lure_first: Tensor | float = 0.0,
    lure_second: Tensor | float = 0.0,
) -> Tensor:
    """One drawn label per pair, int64 of the shape of the utilities: (N,) or (N, D).

    With D dimensions `law` may be a sequence of D laws, one for each column.
    Raises ValueError when their number is another.
    """
    if isinstance(law, Law):
        chances = probabilities(first, second, law, lure_first, lure_second)
    else:
        if first.ndim < 1 or len(law) != first.shape[-1]:
            raise ValueError(f"{len(law)} laws for utilities of shape {tuple(first.shape)}: one per column")
        shape = first.shape
        lures = [torch.as_tensor(lure).expand(shape) for lure in (lure_first, lure_second)]
        columns = [
            probabilities(first[..., d], second[..., d], one, lures[0][..., d], lures[1][..., d])
            for d, one in enumerate(law)
        ]
        chances = torch.stack(columns, -2)
    drawn = torch.multinomial(chances.reshape(-1, 3), 1, generator=generator)
    return drawn.view(chances.shape[:-1])


def best_accuracy(
    first: Tensor,
    second: Tensor,
    law: Law,
    lure_first: Tensor | float = 0.0,
    lure_second: Tensor | float = 0.0,
) -> BestAccuracy:
    """The exact best reachable accuracies on these pairs, as expectations over the law.

    Raises ValueError for no pairs.
    """
    if first.numel() == 0:
        raise ValueError("the best accuracy of no pairs is not defined: give at least one")
    there = probabilities(first, second, law, lure_first, lure_second)
    back = probabilities(second, first, law, lure_second, lure_first)
    decided = there[..., :2].sum(-1)
    winner = 0.5 * (there[..., :2] + back[..., [1, 0]])
    return BestAccuracy(
        strict=float(there[..., :2].amax(-1).sum() / decided.sum()),
        strict_unordered=float(winner.amax(-1).sum() / winner.sum()),
        three_way=float(there.amax(-1).mean()),
        tie_share=float(there[..., 2].mean()),
    )


def color_lure(scenes: Sequence[Scene], color: str) -> Tensor:
    """How much of each scene is in this colour, (B,) in [0, 1]: the share of its things.

    Raises ValueError for an unknown colour.
    """
    if color not in COLORS:
        raise ValueError(f"unknown colour '{color}': use one of {COLORS}")
    return torch.tensor(
        [sum(thing.color == color for thing in scene) / max(len(scene), 1) for scene in scenes]
    )
