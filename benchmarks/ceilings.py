"""How far a reward could come that knows every dimension exactly and adds them up, or puts them into its formula.

Where the annotators' utility is no sum of its dimensions, no family whose overall score is one can reach the best; nor
can one whose formula is another than theirs.

Legend: N prompts, K media of each, P pairs, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import combinations

import torch
from torch import Tensor

from mmalign.shapes.annotators import Law, probabilities
from mmalign.shapes.worlds import World
from rewardmodels.examination import NUM_IMAGES, Half, Judged, against_law, fit_weights, heldout

Formula = Callable[[Mapping[str, Tensor]], Tensor]
"""An overall score (N, K) of dimensions (N, K) by name."""


def editscore(known: Mapping[str, Tensor]) -> Tensor:
    """EditScore's overall score (2509.23909) without its scale, one quality standing for naturalness and cleanness."""
    following = torch.minimum(known["instruction_following"], known["preservation"])
    return (following * known["visual_quality"]).sqrt()


@lru_cache(maxsize=8)
def ceiling(
    world: World, law: Law, num_prompts: int, dimensions: tuple[str, ...] = (), formula: Formula | None = None
) -> float:
    """Expected pair accuracy of the best weighted sum of true dimensions (all of the world's, unless some are named),
    or of a formula of them, over that of the true utility.

    The weights are fitted on one half of the held-out prompts, and the accuracy is measured on the other.
    """
    known = dimensions or world.dimensions
    if formula is None:
        gaps, chance, _ = _pairs(world, law, "calibration", num_prompts, known)
        weights = torch.tensor(fit_weights(gaps, chance, penalty=1e-6), dtype=gaps.dtype)
    else:
        weights = torch.ones(1, dtype=torch.float64)
    gaps, chance, tie = _pairs(world, law, "evaluation", num_prompts, known, formula)
    score, nobody = gaps @ weights, ("",) * len(chance)
    return against_law(Judged(score, torch.zeros_like(score), chance, chance, nobody, nobody, tie))["ratio"]


def _pairs(
    world: World,
    law: Law,
    half: Half,
    num_prompts: int,
    known: tuple[str, ...],
    formula: Formula | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Differences (P, D) of the known dimensions (or of their formula, D = 1), and the chances (P,) that the first wins
    and of a tie.
    """
    _, worth, _ = heldout(half, world, num_prompts, ("overall", *known), 0, 0.5)
    first, second = (list(side) for side in zip(*combinations(range(NUM_IMAGES), 2), strict=True))
    chances = probabilities(worth["overall"][:, first], worth["overall"][:, second], law).flatten(0, 1)
    decided = chances[:, :2].sum(-1)
    values = [worth[name].double() for name in known]
    if formula is not None:
        values = [formula(dict(zip(known, values, strict=True)))]
    gaps = [(value[:, first] - value[:, second]).flatten() for value in values]
    return torch.stack(gaps, -1), (chances[:, 0] / decided).double(), (1 - decided).double()
