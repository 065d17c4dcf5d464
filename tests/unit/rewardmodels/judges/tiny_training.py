"""Judges of token probabilities in training on red and green pictures, small enough for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from mmalign.strict import validate
from mmalign.train.distributed import Processes
from mmalign.types import PreferencePair, Sample
from rewardmodels.judges import trainable
from rewardmodels.judges.learner import Learned, Learner
from rewardmodels.judges.pairwise import PairJudge
from rewardmodels.judges.probability import DigitReward, YesNoReward
from rewardmodels.judges.probability_recipe import ProbabilityRecipe
from rewardmodels.judges.probability_training import ProbabilityTask

POINT = {"kind": "yes_no", "wording": "plain/1", "variants": False, "min_mass": 0.0}
PAIR = {
    "kind": "pair",
    "wording": "plain-pair/1",
    "style": "probability",
    "words": ["yes", "no"],
    "min_mass": 0.0,
}
DIGITS = {"kind": "digits", "wording": "plain/1", "min_mass": 0.0}
KINDS = [
    pytest.param(POINT, id="point"),
    pytest.param(PAIR, id="pair"),
    pytest.param(DIGITS, id="digits"),
]
PROMPTS = ("a red circle", "two large blue squares", "a circle", "a yellow triangle")


def recipe(kind: dict[str, Any], path: str = "shapes-reward", **parts: Any) -> ProbabilityRecipe:
    asks = {"name": "tiny", "about": "a test", "modalities": ["image"], "scale": "[0, 1]", "judge": kind}
    start = {"path": path, "asks": asks, "batch_size": 6, **parts.pop("judge", {})}
    return validate({"judge": start, "data": {"heldout": None}, **parts}, ProbabilityRecipe)


def started(made: ProbabilityRecipe) -> Learned:
    judge = trainable.start_from(
        made.judge.path, made.judge.settings, batch_size=made.judge.batch_size, dtype=made.judge.dtype
    )
    assert isinstance(judge, YesNoReward | DigitReward | PairJudge)
    return judge


@dataclass(frozen=True)
class Redder:
    """People prefer the redder of a red and a green picture."""

    num: int = 4

    def bundle(self, number: int, progress: float = 0.0) -> list[PreferencePair]:
        streams = torch.Generator().manual_seed(number % 3)
        made = []
        for i in range(self.num):
            share = torch.rand(2, generator=streams) * 0.3
            red, green = (
                torch.tensor([level, 1 - level, 0.0]).view(3, 1, 1).expand(3, 32, 32)
                for level in (1 - float(share[0]), float(share[1]))
            )
            prompt = PROMPTS[i % 4]
            made.append(PreferencePair(prompt, Sample(prompt, red), Sample(prompt, green), {"overall": 1.0}))
        return made


def task_of(made: ProbabilityRecipe, bundles: Any = None, **options: Any) -> ProbabilityTask:
    return ProbabilityTask(
        Learner(started(made), made.judge), made, bundles or Redder(), Processes(), **options
    )


def chances(judge: Any, pairs: list[PreferencePair]) -> torch.Tensor:
    """How much more the judge likes the first of each pair."""
    if isinstance(judge, PairJudge):
        return torch.tensor([one.probability for one in judge.compare([(p.a, p.b) for p in pairs])])
    return judge(samples=[p.a for p in pairs]).overall - judge(samples=[p.b for p in pairs]).overall
