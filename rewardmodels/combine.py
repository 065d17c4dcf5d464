"""Rewards brought to a scale, and several rewards as one: what `scale`, `combine` and `rewards` in YAML build.

    reward = rewardmodels.load("my-reward.yaml")                       # see mmalign.composition for how it is written
    reward = build(Reward(name="both", rewards=(Reward(name="a"), Reward(name="b")), combine=Worst(name="min")))

A sample that any part cannot judge stays NaN with that part's name and reason, and touches no statistic. Group scales
and rules take the samples of one call with one prompt and source, or one `metadata["group"]`, as a group.

Legend: B samples, R rewards, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from mmalign.arithmetic import apply_rule, apply_scale
from mmalign.composition import Reward, labels, read_reward, with_files
from mmalign.objectives import scaling
from mmalign.pending import Later, Pending, submit, submit_all
from mmalign.rules import Rule, Scale, Sum, ZScores, rule_needs_group, scale_needs_group
from mmalign.types import Modality, RewardModel, Sample, Scores, content_of

SUM = Sum()
NOT_DIFFERENTIABLE = ("rank", "percentile", "gdpo", "zscore", "log_tame")


def zscore(values: Tensor, groups: Tensor | None = None, *, eps: float = 1e-4) -> Tensor:
    """Values (B,) minus their mean over their standard deviation plus `eps`, by group (B,); NaN stays NaN.

    >>> zscore(torch.tensor([1.0, 3.0, float("nan"), 5.0]), torch.tensor([0, 0, 0, 1]), eps=0.0).tolist()
    [-1.0, 1.0, nan, 0.0]
    """
    groups = torch.zeros(len(values), dtype=torch.long) if groups is None else groups
    return scaling.zscore(values, groups, eps=eps)


@dataclass(frozen=True)
class Scaled:
    """A reward whose overall score is one of its dimensions, or brought to scales, or both; its values stay."""

    model: RewardModel
    name: str
    dimension: str | None = None
    scales: tuple[Scale, ...] = ()

    def __post_init__(self) -> None:
        known = self.model.dimensions
        if self.dimension is not None and self.dimension not in known:
            raise ValueError(
                f"reward '{self.model.name}' has no dimension '{self.dimension}'; it has {', '.join(known)}"
            )

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Those of the reward."""
        return self.model.dimensions

    @property
    def modalities(self) -> frozenset[Modality]:
        """Those of the reward."""
        return self.model.modalities

    @property
    def needs_group(self) -> bool:
        """Whether a score depends on the other samples of the call."""
        return needs_group(self.model) or any(map(scale_needs_group, self.scales))

    @property
    def reads_files(self) -> bool:
        """Whether the reward chooses the frames of video files itself."""
        return reads_files(self.model)

    @property
    def differentiable(self) -> bool:
        """Whether gradients pass through the reward and its scales."""
        return self.model.differentiable and not any(s.name in NOT_DIFFERENTIABLE for s in self.scales)

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """The reward's scores with another overall."""
        return self._scaled(group_ids(samples), [self.model(samples=samples)])

    def submit(self, *, samples: Sequence[Sample]) -> Pending:
        """The same, later where the reward answers later."""
        return Later([submit(self.model, samples)], partial(self._scaled, group_ids(samples)))

    def _scaled(self, groups: Tensor, parts: list[Scores]) -> Scores:
        scores = parts[0]
        column = None if self.dimension is None else scores.names.index(self.dimension)
        total = scores.overall if column is None else scores.values[:, column]
        total = total if self.differentiable else total.detach()
        logs = _log_variance(scores, column)
        variance = None if logs is None else logs.exp()
        groups = groups.to(total.device)
        for scale in self.scales:
            try:
                total = apply_scale(scale, total, groups, variance)
            except ValueError as problem:
                raise ValueError(f"{self.name}: {problem}") from problem
        lost = scores.valid & ~torch.isfinite(total.detach())
        reasons = tuple(
            f"no finite score for {self.dimension or 'its scale'}" if bad else why
            for bad, why in zip(lost.tolist(), scores.reasons, strict=True)
        )
        return replace(
            scores, overall=total, valid=scores.valid & ~lost, reasons=reasons,
            overall_log_variance=None if logs is None else _scaled_log_variance(logs, self.scales),
        )  # fmt: skip


@dataclass(frozen=True)
class Combined:
    """R rewards as one `RewardModel`: a dimension each, overall what the rule makes of them.

    With `plain` a part that stands alone keeps its own dimensions: a reward in a file of its own is still that reward.
    """

    parts: Sequence[tuple[str, float, RewardModel]]
    rule: Rule | str = SUM
    name: str = "combined"
    plain: bool = False

    def __post_init__(self) -> None:
        names = [name for name, _, _ in self.parts]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a combination needs one or more rewards of different names, got {names}")
        if isinstance(self.rule, str):
            if self.rule not in ("sum", "zscore"):
                raise ValueError(
                    f"combine must be 'sum' or 'zscore', or a rule of mmalign.rules, got {self.rule!r}"
                )
            object.__setattr__(self, "rule", Sum() if self.rule == "sum" else ZScores(name="zscore"))
        if not self.modalities:
            raise ValueError(f"no kind of media is judged by all of {', '.join(names)}")

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The names of the parts, or the dimensions of the one part that is `plain`."""
        return self.parts[0][2].dimensions if self._alone else self._names

    @property
    def modalities(self) -> frozenset[Modality]:
        """What all parts judge."""
        return frozenset.intersection(*(model.modalities for _, _, model in self.parts))

    @property
    def needs_group(self) -> bool:
        """Whether a score depends on the other samples of the call."""
        return rule_needs_group(self._rule) or any(needs_group(model) for _, _, model in self.parts)

    @property
    def reads_files(self) -> bool:
        """Whether every part chooses the frames of video files itself."""
        return all(reads_files(model) for _, _, model in self.parts)

    @property
    def differentiable(self) -> bool:
        """Whether gradients pass through every part and the rule."""
        smooth = self._rule.name not in NOT_DIFFERENTIABLE
        return smooth and all(model.differentiable for _, _, model in self.parts)

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(name for name, _, _ in self.parts)

    @property
    def _alone(self) -> bool:
        return self.plain and len(self.parts) == 1

    @property
    def _rule(self) -> Rule:
        assert isinstance(self.rule, get_args(get_args(Rule)[0]))
        return self.rule

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Scores of every part and their combination."""
        return self.submit(samples=samples).result()

    def submit(self, *, samples: Sequence[Sample]) -> Pending:
        """The same, later where a part answers later; those parts work while the others do."""
        return Later(
            submit_all([model for _, _, model in self.parts], samples),
            partial(self._combined, group_ids(samples)),
        )

    def _combined(self, groups: Tensor, judged: list[Scores]) -> Scores:
        values = torch.stack([scores.overall.cpu() for scores in judged], 1)
        values = values if self.differentiable else values.detach()
        valid = torch.stack([scores.valid.cpu() for scores in judged], 1).all(1)
        reasons = tuple(
            next((f"{name}: {s.reasons[i]}" for (name, _, _), s in zip(self.parts, judged, strict=True)
                  if s.reasons[i] is not None), None)
            for i in range(len(groups))
        )  # fmt: skip
        weights = [weight for _, weight, _ in self.parts]
        total = apply_rule(self._rule, values, weights, groups, self._names)
        made = Scores(values, self._names, total, valid, reasons, details=self._said(judged))
        return self._plainly(made, judged[0]) if self._alone else made

    def _plainly(self, made: Scores, part: Scores) -> Scores:
        """The dimensions of the one part beside what the rule made of it, and how unsure both are where known."""
        weight, logs = self.parts[0][1], part.overall_log_variance
        if logs is not None:
            known = self._rule.name == "sum" and weight != 0
            logs = (
                logs.cpu() + 2 * math.log(abs(weight)) if known else torch.full_like(made.overall, math.nan)
            )
        values = part.values.cpu()
        return replace(
            made, values=values if self.differentiable else values.detach(), names=part.names,
            log_variance=None if part.log_variance is None else part.log_variance.cpu(), overall_log_variance=logs,
        )  # fmt: skip

    def _said(self, judged: Sequence[Scores]) -> tuple[Mapping[str, Any] | None, ...] | None:
        """What the parts said of each sample, by part; a part that stands alone keeps its own form."""
        spoken = [(name, s.details) for name, s in zip(self._names, judged, strict=True) if s.details]
        if not spoken or len(self.parts) == 1:
            return spoken[0][1] if spoken else None
        rows = zip(*(details for _, details in spoken), strict=True)
        names = [name for name, _ in spoken]
        return tuple({n: one for n, one in zip(names, row, strict=True) if one} or None for row in rows)


def build(reward: Reward) -> RewardModel:
    """The model of a reward as written: by name, scaled, or composed of others; files it names are read in."""
    from rewardmodels.catalog import load

    reward = with_files(reward)
    model: RewardModel
    if reward.rewards:
        names = labels(reward.rewards)
        parts = [(n, part.weight, build(part)) for n, part in zip(names, reward.rewards, strict=True)]
        model = Combined(parts, rule=reward.rule, name=reward.name, plain=True)
    else:
        model = load(reward.name, **reward.options)
    if reward.scale or reward.dimension is not None:
        return Scaled(model, reward.name, reward.dimension, reward.scale)
    return model


def from_file(path: str | Path) -> RewardModel:
    """The reward that a YAML file holds (`mmalign.composition`); ValueError names what is wrong in it."""
    return build(read_reward(path))


def needs_group(model: RewardModel) -> bool:
    """Whether a reward compares the samples of one call, so that it must be given whole groups."""
    return bool(getattr(model, "needs_group", False))


def reads_files(model: RewardModel) -> bool:
    """Whether a reward chooses the frames of video files itself, so that it must be given the file."""
    return bool(getattr(model, "reads_files", False))


def group_ids(samples: Sequence[Sample]) -> Tensor:
    """An integer a sample (B,), equal for one `metadata["group"]`, or else one prompt and source."""
    keys = [
        (sample.prompt, content_of(sample.source)) if sample.group is None else sample.group
        for sample in samples
    ]
    numbers = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    return torch.tensor([numbers[key] for key in keys], dtype=torch.long)


def _log_variance(scores: Scores, column: int | None) -> Tensor | None:
    """What a reward says of its own unsureness (B,): of one dimension, or of its overall score."""
    if column is None or scores.log_variance is None:
        return scores.overall_log_variance if column is None else None
    return scores.log_variance[:, column]


def _scaled_log_variance(logs: Tensor, scales: Sequence[Scale]) -> Tensor:
    """The log variance (B,) after the scales; not known (NaN) after any but an affine one."""
    for scale in scales:
        logs = logs - 2 * math.log(scale.std) if scale.name == "affine" else torch.full_like(logs, math.nan)
    return logs
