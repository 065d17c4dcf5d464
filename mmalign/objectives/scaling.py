"""Scores of one reward brought to a scale on which rewards can be combined. NaN (not judged) stays NaN.

Shape legend: `B` samples; scores and group ids are (B,).

Pointwise: affine, sigmoid, percentile, confidence. Within the group: zscore, rank (`shaping.rank_rewards`), and
log-sigmoid with a group's reference.

Differences from the papers: the log-sigmoid's reference is by default the mean of the sample's own group; Wang et al.
(arXiv 2402.00742) take it from samples of the reference model. Ctrl-U (2410.11236) weights a loss by exp(-u); here the
score itself is pulled towards `center`, which for group-relative methods is the same weight on the advantage.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from mmalign.objectives.advantages import group_advantages, group_mean
from mmalign.objectives.shaping import log_sigmoid


def affine(scores: Tensor, *, mean: float, std: float) -> Tensor:
    """(r - mean) / std.

    >>> affine(torch.tensor([1.0, 5.0]), mean=1.0, std=4.0).tolist()
    [0.0, 1.0]
    """
    return (scores.float() - mean) / std


def sigmoid(scores: Tensor, *, center: float, temperature: float) -> Tensor:
    """S((r - center) / temperature), in [0, 1]."""
    return torch.sigmoid((scores.float() - center) / temperature)


def percentile(scores: Tensor, quantiles: Sequence[float]) -> Tensor:
    """The share of a reference sample below each score, in [0, 1], between its evenly spaced quantiles by line.

    >>> percentile(torch.tensor([-5.0, 1.0, 2.5, 9.0]), [0.0, 2.0, 3.0]).tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    if len(quantiles) < 2 or any(a >= b for a, b in pairwise(quantiles)):
        raise ValueError("percentile needs two or more quantiles, each larger than the one before")
    values = scores.float()
    knots = torch.tensor(list(quantiles), dtype=torch.float32, device=values.device)
    right = torch.searchsorted(knots, values.detach().nan_to_num(0.0)).clamp(1, len(knots) - 1)
    low, high = knots[right - 1], knots[right]
    share = (right - 1 + ((values - low) / (high - low)).clamp(0.0, 1.0)) / (len(knots) - 1)
    return torch.where(torch.isfinite(values), share, torch.full_like(share, torch.nan))


def quantiles_of(scores: Tensor, num: int = 21) -> list[float]:
    """Evenly spaced quantiles of a reference sample for `percentile`; equal ones are left out with an error.

    ValueError where fewer than two scores are known, or so many are equal that the quantiles do not rise.
    """
    known = scores[torch.isfinite(scores)].double()
    if len(known) < 2:
        raise ValueError(f"quantiles need two or more judged samples, got {len(known)}")
    made: list[float] = torch.quantile(known, torch.linspace(0, 1, num, dtype=torch.float64)).tolist()
    if any(a >= b for a, b in pairwise(made)):
        raise ValueError("many scores are equal: take fewer quantiles, or another scale")
    return made


def confidence(scores: Tensor, variance: Tensor, *, strength: float, center: float | Tensor = 0.0) -> Tensor:
    """center + exp(-strength * variance) * (r - center): an unsure score says little.

    >>> confidence(torch.tensor([2.0, 2.0]), torch.tensor([0.0, 500.0]), strength=1.0).tolist()
    [2.0, 0.0]
    """
    if bool((variance < 0).any()):
        raise ValueError("a variance cannot be below 0")
    return center + torch.exp(-strength * variance.float()) * (scores.float() - center)


def zscore(scores: Tensor, groups: Tensor, *, eps: float = 1e-4) -> Tensor:
    """(r - group mean) / (group std + eps); a group without spread is 0.

    >>> zscore(torch.tensor([1.0, 3.0, float("nan"), 5.0]), torch.tensor([0, 0, 0, 1]), eps=0.0).tolist()
    [-1.0, 1.0, nan, 0.0]
    """
    made = group_advantages(scores, groups, eps=eps)
    return torch.where(torch.isfinite(scores), made, torch.full_like(made, torch.nan))


def group_reference(
    scores: Tensor, groups: Tensor, kind: Literal["mean", "quantile"], quantile: float = 0.85
) -> Tensor:
    """For each entry the mean or a quantile of its group's judged scores (B,); NaN where none was judged."""
    valid = torch.isfinite(scores)
    if kind == "mean":
        means = group_mean(scores.nan_to_num(0.0), groups, valid)
        return means.masked_fill(~valid, torch.nan)
    made = torch.full_like(scores, torch.nan)
    for group in groups[valid].unique():
        rows = valid & (groups == group)
        made[rows] = torch.quantile(scores[rows].detach(), quantile)
    return made


def centred_log_sigmoid(
    scores: Tensor, groups: Tensor, *, reference: float | Literal["mean", "quantile"], quantile: float = 0.85
) -> Tensor:
    """log S(r - reference); a reference by group carries no gradient."""
    if not isinstance(reference, str):
        return log_sigmoid(scores, reference=float(reference))
    with torch.no_grad():
        level = group_reference(scores.float(), groups, reference, quantile)
    return log_sigmoid(scores, reference=level)
