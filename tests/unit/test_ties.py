"""Three ways with many ties: who knows every worth comes near the best, who knows none says ties, who errs loses."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from benchmarks.ties import many_ties
from mmalign.shapes.worlds import WORLDS
from mmalign.types import Modality, Sample, Scores
from rewardmodels.examination import heldout

WORLD, NUM = WORLDS["shapes"], 60
KEY = tuple[str, bytes]


class Oracle:
    """Scores with `sign` times the true worth."""

    name, dimensions, differentiable = "oracle", ("overall",), False
    modalities: frozenset[Modality] = frozenset({"image"})

    def __init__(self, sign: float) -> None:
        self.sign = sign
        self.known: dict[KEY, float] = {}
        for half in ("calibration", "evaluation"):
            samples, worth, _ = heldout(half, WORLD, NUM, ("overall",), 0, 0.5)
            self.known |= dict(zip(map(key, samples), worth["overall"].flatten().tolist(), strict=True))

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        values = [self.sign * self.known[key(sample)] for sample in samples]
        return Scores.of(torch.tensor(values)[:, None], self.dimensions)


def key(sample: Sample) -> KEY:
    assert isinstance(sample.media, torch.Tensor)
    return sample.prompt, sample.media.numpy().tobytes()


@pytest.mark.parametrize(
    ("sign", "low", "high"),
    [(1.0, 0.98, 1.0), (0.0, 0.2, 0.4), (-1.0, 0.0, 0.4)],
    ids=["best", "none", "worst"],
)
def test_many_ties(sign: float, low: float, high: float) -> None:
    found = many_ties(Oracle(sign), WORLD, dimension="overall", num_prompts=NUM)
    assert low <= found["ratio"] <= high
    assert found["never"] < 0.95 * found["best"] and found["threshold"] >= 0
    if sign == 1:
        assert found["expected"] > found["never"]  # ties are said, and rightly
