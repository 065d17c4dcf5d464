"""From rewards to advantages: within a group of samples of one prompt, over the batch, and from several
rewards.

Shape legend: `B` samples, `D` rewards, groups (B,) any integers.

Sources: GRPO (arXiv 2402.03300); Flow-GRPO (2505.05470): group mean, global or group std; MixGRPO
(2507.21802) and Pref-GRPO (2508.20751): z-score each reward, then sum; GDPO (2601.05242): the same, then
whiten over the batch.

Differences from the papers: a reward that is NaN (a failed judgement) excludes its sample from every
statistic and gives advantage 0; GDPO's first patch counted it as reward 0. Stds are of the population
(flow_grpo) unless `unbiased` (DanceGRPO, GDPO). Groups are integer ids, never prompt text. Statistics are
taken in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mmalign.objectives.masks import fill, group_index

Scale = Literal["group", "global", "none"]


def group_advantages(
    rewards: Tensor,
    groups: Tensor,
    *,
    scale: Scale = "group",
    eps: float = 1e-4,
    clip: float | None = None,
    unbiased: bool = False,
) -> Tensor:
    """(r - group mean) / (std + eps) (B,); std of the group, of the whole batch ("global"), or 1 ("none").

    >>> group_advantages(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]), eps=0.0)
    tensor([-1.,  1.,  0.])
    """
    if rewards.ndim != 1 or rewards.shape != groups.shape:
        raise ValueError(
            f"rewards and groups must be (B,), got {tuple(rewards.shape)}, {tuple(groups.shape)}"
        )
    valid = torch.isfinite(rewards)
    values = fill(rewards, valid).double()
    centred = torch.where(valid, values - group_mean(values, groups, valid), torch.zeros_like(values))
    if scale == "group":
        variance = _group_sum(centred.square(), groups) / _divisor(
            _group_sum(valid.double(), groups), unbiased
        )
        std = variance.sqrt() + eps
    elif scale == "global":
        std = _std(values, valid, unbiased) + eps
    elif scale == "none":
        std = torch.ones_like(values)
    else:
        raise ValueError(f"advantage scale '{scale}' is unknown: use group, global or none")
    # A group without spread has advantage 0, whatever eps is.
    advantages = torch.where(centred == 0, torch.zeros_like(centred), centred / std)
    return (advantages if clip is None else advantages.clamp(-clip, clip)).float()


def combined_advantages(
    rewards: Tensor,
    groups: Tensor,
    *,
    weights: Sequence[float] | None = None,
    rule: Literal["sum", "zscore", "gdpo"] = "sum",
    scale: Scale = "group",
    eps: float = 1e-4,
    clip: float | None = None,
    unbiased: bool = False,
) -> Tensor:
    """Advantages (B,) from D rewards (B, D).

    `sum`: weighted sum of raw rewards, then `group_advantages` (sensitive to the rewards' scales);
    `zscore`: weighted sum of each reward's own advantages; `gdpo`: the same with unbiased group stds, then
    whitened over the batch. A sample that any reward of non-zero weight could not judge is excluded.
    """
    share = (
        torch.ones(rewards.shape[1]) if weights is None else torch.tensor(list(weights), dtype=torch.float32)
    )
    if share.shape[0] != rewards.shape[1]:
        raise ValueError(f"{share.shape[0]} weights for {rewards.shape[1]} rewards")
    share, used = share.to(rewards.device), (share != 0).to(rewards.device)
    rewards, share = rewards.float()[:, used], share[used]
    valid = torch.isfinite(rewards).all(dim=1)
    rewards = torch.where(valid[:, None], rewards, torch.full_like(rewards, torch.nan))
    if rule == "sum":
        return group_advantages(
            (rewards * share).sum(1), groups, scale=scale, eps=eps, clip=clip, unbiased=unbiased
        )
    if rule not in ("zscore", "gdpo"):
        raise ValueError(f"advantage rule '{rule}' is unknown: use sum, zscore or gdpo")
    whitened = rule == "gdpo"
    parts = [
        group_advantages(
            r, groups, scale="group" if whitened else scale, eps=eps, unbiased=unbiased or whitened
        )
        for r in rewards.unbind(dim=1)
    ]
    total = (torch.stack(parts, dim=1) * share).sum(dim=1)
    total = whiten(total, where=valid, eps=eps) if whitened else total
    return total if clip is None else total.clamp(-clip, clip)


def whiten(values: Tensor, *, where: Tensor | None = None, eps: float = 1e-4) -> Tensor:
    """(x - mean) / (unbiased std + eps) over the entries (B,) where `where`; 0 elsewhere."""
    valid = torch.isfinite(values) if where is None else torch.isfinite(values) & where
    known = fill(values, valid).double()
    centred = torch.where(valid, known - known.sum() / valid.sum().clamp(min=1), torch.zeros_like(known))
    return (centred / (_std(known, valid, True) + eps)).float()


def group_mean(values: Tensor, groups: Tensor, where: Tensor) -> Tensor:
    """For each entry (B,) the mean of its group over the entries where `where`."""
    sums = _group_sum(torch.where(where, values, torch.zeros_like(values)), groups)
    return sums / _group_sum(where.to(values.dtype), groups).clamp(min=1)


def _group_sum(values: Tensor, groups: Tensor) -> Tensor:
    """For each entry (B,) the sum over its group."""
    index, num = group_index(groups)
    return torch.zeros(num, dtype=values.dtype, device=values.device).scatter_add(0, index, values)[index]


def _divisor(count: Tensor, unbiased: bool) -> Tensor:
    return (count - 1 if unbiased else count).clamp(min=1)


def _std(values: Tensor, where: Tensor, unbiased: bool) -> Tensor:
    count = where.sum()
    mean = values.sum() / count.clamp(min=1)
    squares = torch.where(where, (values - mean).square(), torch.zeros_like(values))
    return (squares.sum() / _divisor(count, unbiased)).sqrt()
