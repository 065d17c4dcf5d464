"""What families are held against: who knows every worth is near the best, who knows none is not, who errs loses."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from benchmarks.bits import BORDER, good_against_bad
from benchmarks.ties import MANY, three_ways
from mmalign.shapes.worlds import WORLDS
from mmalign.types import Modality, Sample, Scores
from rewardmodels.examination import heldout

WORLD, NUM = WORLDS["shapes"], 60
KEY = tuple[str, bytes]


class Oracle:
    """Scores with `sign` times the true worth, or the bit that raters of two levels are likelier to give it."""

    name, dimensions, differentiable = "oracle", ("overall",), False
    modalities: frozenset[Modality] = frozenset({"image"})

    def __init__(self, sign: float, *, bits: bool = False) -> None:
        self.sign, self.bits = sign, bits
        self.known: dict[KEY, float] = {}
        for half in ("calibration", "evaluation"):
            samples, worth, _ = heldout(half, WORLD, NUM, ("overall",), 0, 0.5)
            self.known |= dict(zip(map(key, samples), worth["overall"].flatten().tolist(), strict=True))

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        worth = torch.tensor([self.known[key(sample)] for sample in samples])
        told = (worth > BORDER).float() if self.bits else worth
        return Scores.of(self.sign * told[:, None], self.dimensions)


def key(sample: Sample) -> KEY:
    assert isinstance(sample.media, torch.Tensor)
    return sample.prompt, sample.media.numpy().tobytes()


@pytest.mark.parametrize(
    ("sign", "low", "high"),
    [(1.0, 0.98, 1.0), (0.0, 0.2, 0.4), (-1.0, 0.0, 0.4)],
    ids=["best", "none", "worst"],
)
def test_many_ties(sign: float, low: float, high: float) -> None:
    found = three_ways(Oracle(sign), WORLD, dimension="overall", num_prompts=NUM)
    assert low <= found["ratio"] <= high
    assert found["never"] < 0.95 * found["best"] and found["threshold"] >= 0
    if sign == 1:
        assert found["expected"] > found["never"]  # ties are said, and rightly


@pytest.mark.parametrize(
    ("oracle", "low", "high"),
    [
        (Oracle(1.0), 1.0, 1.0),
        (Oracle(1.0, bits=True), 1.0, 1.0),
        (Oracle(0.0), 0.5, 0.55),
        (Oracle(-1.0), 0.0, 0.1),
    ],
    ids=["worth", "bits", "none", "worst"],
)
def test_good_against_bad(oracle: Oracle, low: float, high: float) -> None:
    """Bits decide every pair of a good and a bad one, and few of the others."""
    found = good_against_bad(oracle, WORLD, MANY, NUM)
    assert low <= found["ratio"] <= high and 0.2 < found["share"] < 0.6
