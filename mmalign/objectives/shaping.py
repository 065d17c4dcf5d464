"""Reward transforms that go before advantages. NaN (a failed judgement) stays NaN.

Shape legend: `B` samples, `D` rewards.

Sources: log-tame: PaCo-GRPO (arXiv 2512.04784); log-sigmoid: Wang et al. (2402.00742).

Differences from the papers: PaCo's code feeds the tamed sum to the loss as the advantage itself; here it
stays a reward, so group normalisation follows.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def clip_rewards(rewards: Tensor, *, low: float = -5.0, high: float = 5.0) -> Tensor:
    """Rewards within [low, high]."""
    return rewards.float().clamp(low, high)


def log_tame(rewards: Tensor, *, threshold: float | Literal["mean", "median"] = "mean") -> Tensor:
    """log(1 + r) for those of the D rewards (B, D) whose spread std / (mean + 1e-6) exceeds the threshold.

    The threshold is a number, or the mean or median of the D spreads.
    """
    values = rewards.float()
    valid = torch.isfinite(values)
    count = valid.sum(dim=0).clamp(min=1)
    mean = values.nan_to_num(0.0).sum(dim=0) / count
    std = ((values - mean).square().nan_to_num(0.0).sum(dim=0) / count).sqrt()
    spread = std / (mean + 1e-6)
    if isinstance(threshold, str):
        limit = spread.mean() if threshold == "mean" else spread.median()
    else:
        limit = spread.new_tensor(threshold)
    tamed = spread > limit
    if bool((values[:, tamed] <= -1).any()):
        raise ValueError("log_tame needs rewards above -1: shift the reward, or clip it first")
    return torch.where(tamed, values.clamp(min=-1 + 1e-6).log1p(), values)


def rank_rewards(rewards: Tensor, groups: Tensor) -> Tensor:
    """Ranks within the group scaled to [0, 1] (B,): 1 the best, ties share their mean, alone 0.5.

    >>> rank_rewards(torch.tensor([5.0, 1.0, 1.0]), torch.tensor([0, 0, 0]))
    tensor([1.0000, 0.2500, 0.2500])
    """
    valid = torch.isfinite(rewards)
    rivals = (groups[:, None] == groups[None, :]) & valid[None, :] & valid[:, None]
    rivals.fill_diagonal_(False)
    wins = (rivals & (rewards[:, None] > rewards[None, :])).sum(dim=1)
    ties = (rivals & (rewards[:, None] == rewards[None, :])).sum(dim=1)
    num = rivals.sum(dim=1)
    rank = (wins + 0.5 * ties) / num.clamp(min=1)
    rank = torch.where(num > 0, rank, torch.full_like(rank, 0.5))
    return torch.where(valid, rank, torch.full_like(rank, torch.nan))


def log_sigmoid(rewards: Tensor, *, reference: Tensor | float) -> Tensor:
    """log S(r - reference): saturates above the reference, so that a sum over rewards means "all are good"."""
    return logsigmoid(rewards.float() - reference)
