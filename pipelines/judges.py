"""Rewards by name, and asking them safely: what one cannot judge gets NaN and a reason and harms no other.

Shape legend: `B` samples, `D` dimensions of a reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

import rewardmodels
from mmalign.config import Reward
from mmalign.types import RewardModel, Sample, Scores


@dataclass(frozen=True)
class Judge:
    """A loaded reward under the label its scores are filed under."""

    label: str
    model: RewardModel

    def __call__(self, samples: Sequence[Sample]) -> Scores:
        """A row a sample. When a batch is refused, its samples are asked for one by one."""
        fitting = [k for k, sample in enumerate(samples) if sample.modality in self.model.modalities]
        parts: list[Scores | None] = [None] * len(samples)
        if fitting:
            asked = self._ask([samples[k] for k in fitting])
            for row, k in enumerate(fitting):
                parts[k] = asked.select([row])
        for k, sample in enumerate(samples):
            if parts[k] is None:
                kinds = " and ".join(sorted(self.model.modalities))
                parts[k] = Scores.failed([f"judges {kinds}, not {sample.modality}"], self.model.dimensions)
        return Scores.cat([part for part in parts if part is not None])

    @torch.no_grad()
    def _ask(self, samples: Sequence[Sample]) -> Scores:
        try:
            scores = self.model(samples=samples)
        except ValueError as problem:
            if len(samples) == 1:
                return Scores.failed([" ".join(str(problem).split())], self.model.dimensions)
            return Scores.cat([self._ask([sample]) for sample in samples])
        if len(scores) != len(samples):
            raise ValueError(
                f"{self.label} gave {len(scores)} scores for {len(samples)} samples: it must give one each"
            )
        return _on_cpu(scores)


def load(rewards: Sequence[Reward]) -> list[Judge]:
    """The rewards, loaded; a second one of the same name is `name#2`."""
    judges: list[Judge] = []
    for reward in rewards:
        same = sum(judge.label.split("#")[0] == reward.name for judge in judges)
        label = reward.name if not same else f"{reward.name}#{same + 1}"
        judges.append(Judge(label, rewardmodels.load(reward.name, **reward.options)))
    return judges


def _on_cpu(scores: Scores) -> Scores:
    variance = None if scores.log_variance is None else scores.log_variance.cpu()
    return Scores(
        scores.values.cpu(), scores.names, scores.overall.cpu(), scores.valid.cpu(), scores.reasons, variance
    )
