"""How far a reward could come that knows every dimension exactly and adds them up.

Where the annotators' utility is no sum of its dimensions, no family whose overall score is one can reach the best.

Legend: P pairs, D dimensions.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import torch
from torch import Tensor

from mmalign.shapes.annotators import Law, probabilities
from mmalign.shapes.worlds import World
from rewardmodels.examination import NUM_IMAGES, Half, Judged, against_law, fit_weights, heldout


@lru_cache(maxsize=8)
def ceiling(world: World, law: Law, num_prompts: int, dimensions: tuple[str, ...] = ()) -> float:
    """Expected pair accuracy of the best weighted sum of true dimensions (all of the world's, unless some are named),
    over that of the true utility.

    The weights are fitted on one half of the held-out prompts, and the accuracy is measured on the other.
    """
    known = dimensions or world.dimensions
    gaps, chance, _ = _pairs(world, law, "calibration", num_prompts, known)
    weights = torch.tensor(fit_weights(gaps, chance, penalty=1e-6), dtype=gaps.dtype)
    gaps, chance, tie = _pairs(world, law, "evaluation", num_prompts, known)
    score, nobody = gaps @ weights, ("",) * len(chance)
    return against_law(Judged(score, torch.zeros_like(score), chance, chance, nobody, nobody, tie))["ratio"]


def _pairs(
    world: World, law: Law, half: Half, num_prompts: int, known: tuple[str, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Differences (P, D) of the known dimensions, and the chances (P,) that the first wins and of a tie."""
    _, worth, _ = heldout(half, world, num_prompts, ("overall", *known), 0, 0.5)
    first, second = (list(side) for side in zip(*combinations(range(NUM_IMAGES), 2), strict=True))
    chances = probabilities(worth["overall"][:, first], worth["overall"][:, second], law).flatten(0, 1)
    decided = chances[:, :2].sum(-1)
    gaps = [(worth[name][:, first] - worth[name][:, second]).flatten() for name in known]
    return torch.stack(gaps, -1).double(), (chances[:, 0] / decided).double(), (1 - decided).double()
