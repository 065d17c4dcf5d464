"""Rewards by name, each under the label its scores are filed under. Shape legend: `B` samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmalign.composition import Reward, labels
from mmalign.types import RewardModel, Sample, Scores
from rewardmodels.asking import ask
from rewardmodels.combine import build, needs_group


@dataclass(frozen=True)
class Judge:
    """A loaded reward under the label its scores are filed under."""

    label: str
    model: RewardModel

    def __call__(self, samples: Sequence[Sample]) -> Scores:
        """A row a sample; see `rewardmodels.asking`."""
        return ask(self.model, samples, name=self.label)


def load(rewards: Sequence[Reward]) -> list[Judge]:
    """The rewards, loaded; a second one of the same name is `name#2`. Those that compare samples are refused."""
    judges = []
    for label, reward in zip(labels(tuple(rewards)), rewards, strict=True):
        model = build(reward)
        if needs_group(model):
            raise ValueError(
                f"reward '{label}' compares the samples of a group with each other, and here each is scored alone: "
                "take scales and rules that look at one sample (affine, sigmoid, percentile; sum, min, uwo, gate)"
            )
        judges.append(Judge(label, model))
    return judges
