"""What a reward says three ways where people often see no difference: first, second, or a tie.

Of annotators who call few pairs alike a tie is hardly ever the likeliest answer, and three ways say little that two do
not. These call a quarter of the pairs alike (`MANY`), though the rewards learned from others; the difference of scores
up to which a tie is said is fitted to answers on prompts of their own.

Legend: P pairs.
"""

from __future__ import annotations

from functools import partial

import torch

from mmalign.shapes.annotators import Law
from mmalign.shapes.worlds import World
from mmalign.types import RewardModel
from pipelines.gains import in_pairs, unjudged_as_ties
from pipelines.train_probability import prefer
from rewardmodels.examination import Half, Judged, judge_world, three_way, tie_threshold
from rewardmodels.judges.pairwise import WinRate

MANY = Law(temperature=0.1, theta=4.0)
"""At equal worth three fifths of the answers are ties."""


def three_ways(
    model: RewardModel, world: World, *, dimension: str, num_prompts: int, law: Law = MANY
) -> dict[str, float]:
    """Expected accuracy three ways with fresh answers, the best that anyone could reach, their ratio, the `threshold`
    up to which a tie is said, and `never`: the best accuracy of those who never say one.
    """
    judged = partial(_judged, model, world, law, dimension, num_prompts)
    calibration, measured = judged("calibration"), judged("evaluation")
    assert measured.tie is not None
    threshold = tie_threshold(calibration.gap, calibration.label)
    sure = torch.maximum(measured.chance, 1 - measured.chance) * (1 - measured.tie)
    found = three_way(measured, measured.tie, threshold)
    return found | {"threshold": threshold, "never": float(sure.mean())}


def _judged(
    model: RewardModel, world: World, law: Law, dimension: str, num_prompts: int, half: Half
) -> Judged:
    """The answers of one half of the held-out prompts; what cannot be judged counts as a tie."""
    ask = partial(
        judge_world, half=half, num_prompts=num_prompts, law=law, world=world, dimensions=(dimension,)
    )
    if isinstance(model, WinRate):
        return in_pairs(partial(prefer, model.judge), ask)
    return unjudged_as_ties(ask(model)[dimension])
