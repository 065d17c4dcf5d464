"""Several rewards as one. A sample that any part could not judge (NaN) is NaN and touches no statistic.

Shape legend: `B` samples, `R` parts; values are (B, R), weights (R,), group ids and results (B,).

Sources: gate: FIRM's Base-and-Bonus, CME and QMA (arXiv 2603.12247); uwo and worst: Coste et al. (2310.02743);
log_tame: PaCo-GRPO (2512.04784); confidence: Ctrl-U (2410.11236).

Differences from the papers: UWO's variance is that of the members (divided by their number); FIRM scores a failed
parse 0, here it stays NaN; PaCo uses the tamed sum as the advantage itself, here group normalisation follows.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmalign.objectives import scaling, shaping


def weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """sum_k w_k r_k."""
    return (values.float() * weights).sum(dim=1)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """sum_k w_k r_k / sum_k w_k."""
    return weighted_sum(values, weights) / weights.sum()


def weighted_variance(values: Tensor, weights: Tensor) -> Tensor:
    """sum_k w_k (r_k - mean)^2 / sum_k w_k: how far the parts disagree."""
    mean = weighted_mean(values, weights)
    return weighted_mean((values.float() - mean[:, None]).square(), weights)


def worst(values: Tensor) -> Tensor:
    """The lowest part; NaN if any is."""
    return values.float().amin(dim=1)


def uwo(values: Tensor, weights: Tensor, *, strength: float) -> Tensor:
    """Mean - strength * variance: what the parts disagree on is worth less.

    >>> uwo(torch.tensor([[1.0, 3.0]]), torch.ones(2), strength=0.5).tolist()
    [1.5]
    """
    return weighted_mean(values, weights) - strength * weighted_variance(values, weights)


def gate(base: Tensor, bonus: Tensor, *, share: float) -> Tensor:
    """base * (share + (1 - share) * bonus): the bonus counts only as far as the base is there.

    >>> gate(torch.tensor([0.0, 0.5]), torch.tensor([1.0, 1.0]), share=0.6).tolist()
    [0.0, 0.5]
    """
    return base.float() * (share + (1.0 - share) * bonus.float())


def geometric(values: Tensor, weights: Tensor) -> Tensor:
    """prod_k r_k^(w_k / sum w); ValueError for a negative part."""
    if bool((values < 0).any()):
        raise ValueError(
            "a geometric mean needs parts that are not negative: bring them to a scale in [0, 1]"
        )
    zero = (values == 0).any(dim=1)
    logs = torch.where(values == 0, torch.ones_like(values), values).float().log()
    mean = weighted_mean(logs, weights).exp()
    return torch.where(zero & torch.isfinite(mean), torch.zeros_like(mean), mean)


def log_tamed(values: Tensor, weights: Tensor, *, threshold: float | Literal["mean", "median"]) -> Tensor:
    """The weighted sum after `shaping.log_tame` over the samples that all parts judged."""
    valid = torch.isfinite(values).all(dim=1)
    tamed = torch.full_like(values.float(), torch.nan)
    if bool(valid.any()):
        tamed[valid] = shaping.log_tame(values[valid], threshold=threshold)
    return weighted_sum(tamed, weights)


def confident(
    values: Tensor, weights: Tensor, groups: Tensor, *, strength: float, center: Literal["zero", "group"]
) -> Tensor:
    """The mean of the parts, pulled by exp(-strength * variance of the parts) towards 0 or its group's mean."""
    mean, variance = weighted_mean(values, weights), weighted_variance(values, weights)
    level = scaling.group_reference(mean.detach(), groups, "mean") if center == "group" else 0.0
    return scaling.confidence(mean, variance, strength=strength, center=level)
