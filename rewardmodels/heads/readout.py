"""What a head says of S scores, before normalisation, and how levels and fused scores are decoded.

Legend: S scores, D dimensions, K ordered levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Overall = Literal["mean", "sum", "min", "product"]


@dataclass(frozen=True, eq=False)
class Readout:
    """Raw values by dimension; the rest only where the family has it."""

    values: Tensor  # (S, D) float32
    log_std: Tensor | None = None  # (S, D) log of the standard deviation of a value
    logits: Tensor | None = None  # (S, D, K-1) of P(Y > k), conditional for CORN

    def select(self, index: Tensor) -> Readout:
        """The scores at integer positions `index`."""
        return Readout(
            self.values[index],
            None if self.log_std is None else self.log_std[index],
            None if self.logits is None else self.logits[index],
        )


def overall_of(
    values: Tensor, rule: Overall, weights: tuple[float, ...] = (), powers: tuple[float, ...] = ()
) -> Tensor:
    """One number (S,) from D dimensions (S, D): by `weights` if there are any, otherwise by the rule.

    `product` is the geometric mean of positive values, (prod_d v_d^p_d)^(1 / sum_d p_d), with equal `powers` p if none
    are given; VEFX's GeoAgg has 2, 1, 1.

    >>> overall_of(torch.tensor([[1.0, 4.0]]), "product").item()
    2.0
    """
    if weights:
        return values @ torch.tensor(weights, dtype=values.dtype, device=values.device)
    if rule == "mean":
        return values.mean(dim=1)
    if rule == "sum":
        return values.sum(dim=1)
    if rule == "min":
        return values.amin(dim=1)
    return (values.clamp_min(1e-6).log() * _shares(values, powers)).sum(dim=1).exp()


def _shares(values: Tensor, powers: tuple[float, ...]) -> Tensor:
    """Exponents (D,) of a product, 1 in all."""
    given = torch.tensor(powers or (1.0,) * values.shape[1], dtype=values.dtype, device=values.device)
    return given / given.sum()


def fused_log_std(log_std: Tensor, rule: Overall, values: Tensor) -> Tensor:
    """The log standard deviation (S,) of the fused score (EditReward, arXiv 2509.26346): variances add for
    `sum`, log stds are averaged for `mean`, `min` takes that of the smaller value.

    Differences from the code: theirs takes the minimum of means and of log stds apart, so that the two may belong
    to different heads.
    """
    if rule == "sum":
        return 0.5 * torch.logsumexp(2 * log_std, dim=1)
    if rule == "min":
        return log_std.gather(1, values.argmin(dim=1, keepdim=True))[:, 0]
    return log_std.mean(dim=1)


def overall_log_variance(
    log_variance: Tensor, values: Tensor, rule: Overall, weights: tuple[float, ...] = (),
    powers: tuple[float, ...] = (),
) -> Tensor:  # fmt: skip
    """The log variance (S,) of `overall_of` values (S, D) of independent heads: weights are squared. `min` takes that
    of the smallest value, `product` is linearised.

    >>> overall_log_variance(torch.zeros(1, 2), torch.ones(1, 2), "mean", (3.0, 4.0)).exp().round().item()
    25.0
    """
    if weights:
        slope = torch.tensor(weights, device=values.device).expand_as(values)
    elif rule == "min":
        return log_variance.gather(1, values.argmin(dim=1, keepdim=True))[:, 0]
    elif rule == "product":
        safe = values.clamp_min(1e-6)
        slope = overall_of(safe, rule, powers=powers)[:, None] * _shares(values, powers) / safe
    else:
        slope = torch.full_like(values, 1.0 if rule == "sum" else 1.0 / values.shape[1])
    return torch.logsumexp(log_variance + 2 * slope.abs().log(), dim=1)
