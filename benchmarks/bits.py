"""What a reward makes of pairs whose bits differ, where it learned from one bit an item: good or bad.

Raters call an item good with probability sigmoid((worth - border) / temperature). Two items far on the same side of
the border get the same bit nearly always, so bits alone cannot tell which of them is worth more; of two on different
sides they can.

Legend: P pairs.
"""

from __future__ import annotations

from itertools import combinations

from mmalign.shapes.annotators import Law, probabilities
from mmalign.shapes.ratings import TOPS
from mmalign.shapes.worlds import World
from mmalign.types import RewardModel
from rewardmodels.examination import NUM_IMAGES, Judged, against_law, column_of, heldout

BORDER = TOPS["overall"] / 2
"""The worth at which raters of two levels are undecided."""


def good_against_bad(model: RewardModel, world: World, law: Law, num_prompts: int) -> dict[str, float]:
    """Expected and best pair accuracy and their ratio on held-out pairs with one item on each side of the border, and
    the `share` of such pairs.
    """
    samples, worths, _ = heldout("evaluation", world, num_prompts, ("overall",), 0, 0.5)
    scores = column_of(model(samples=samples), "overall").view(num_prompts, -1)
    first, second = (list(side) for side in zip(*combinations(range(NUM_IMAGES), 2), strict=True))
    a, b = worths["overall"][:, first].flatten(), worths["overall"][:, second].flatten()
    chances = probabilities(a, b, law)
    decided = chances[:, :2].sum(-1)
    nobody = ("",) * len(a)
    judged = Judged(
        scores[:, first].flatten(), scores[:, second].flatten(), chances[:, 0], chances[:, 0] / decided,
        nobody, nobody, 1 - decided,
    )  # fmt: skip
    differ = (a > BORDER) != (b > BORDER)
    return against_law(judged.select(differ)) | {"share": float(differ.float().mean())}
