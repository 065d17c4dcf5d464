"""Rewards by name, each under the label its scores are filed under. Shape legend: `B` samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mmalign.composition import Reward, labels
from mmalign.media import is_video
from mmalign.types import RewardModel, Sample, Scores
from rewardmodels.asking import ask
from rewardmodels.combine import Combined, build, needs_group, reads_files
from rewardmodels.defects import GivenUp, Tally
from rewardmodels.trust.duels import comparer_of

Company = Literal["none", "pairs", "groups"]
"""What a verb shows a reward at once: samples each for itself, also pairs, or whole groups."""


@dataclass(frozen=True)
class Judge:
    """A loaded reward under the label its scores are filed under."""

    label: str
    model: RewardModel
    tally: Tally = field(default_factory=Tally, compare=False, repr=False)

    @property
    def needs_group(self) -> bool:
        """Whether it compares the samples of a call, and must see a group as a whole."""
        return needs_group(self.model)

    def takes(self, file: Path) -> bool:
        """Whether it is given this file as it is: a video of which it chooses the frames itself."""
        return reads_files(self.model) and is_video(file)

    def __call__(self, samples: Sequence[Sample]) -> Scores:
        """A row a sample; see `rewardmodels.asking`. `GivenUp` where its own errors leave nothing judged."""
        scores = ask(self.model, samples, name=self.label)
        self.tally.add(self.label, scores)
        return scores

    def conclude(self) -> None:
        """At the end of a run: `GivenUp` where the reward's own errors struck all it was asked for."""
        self.tally.conclude(self.label)

    @property
    def given_up(self) -> GivenUp | None:
        """Why it is asked no more."""
        return self.tally.end


def load(rewards: Sequence[Reward], *, company: Company = "none") -> list[Judge]:
    """The rewards, loaded; a second one of the same name is `name#2`. ValueError for those that need more company."""
    judges = []
    for label, reward in zip(labels(tuple(rewards)), rewards, strict=True):
        model = build(reward)
        if company != "groups" and needs_group(model):
            model = _require_little_company(label, _only_part(model), company)
        judges.append(Judge(label, model))
    return judges


def _only_part(model: RewardModel) -> RewardModel:
    """What stands alone in a YAML file; a composition of one changes nothing but the name."""
    if isinstance(model, Combined) and len(model.parts) == 1:
        return model.parts[0][2]
    return model


def _require_little_company(label: str, model: RewardModel, company: Company) -> RewardModel:
    """A judge of pairs where pairs are shown; ValueError for everything else that compares."""
    if comparer_of(model) is None:
        raise ValueError(
            f"reward '{label}' compares the samples of a group with each other, and here each is scored alone: "
            "take scales and rules that look at one sample (affine, sigmoid, percentile; sum, min, uwo, gate), or "
            "`mmalign score`, which judges groups as a whole"
        )
    if company != "pairs":
        raise ValueError(
            f"reward '{label}' is a judge of pairs, and here each sample is scored alone: `mmalign score` asks "
            "it for win rates within groups, `evaluate reward` and `check-reward` for pairs"
        )
    return model
