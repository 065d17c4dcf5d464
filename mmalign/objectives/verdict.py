"""Losses for a judge that answers yes or no: what it says is l = logit(yes) - logit(no), and P(yes) = S(l).

Shape legend: `B` pairs or samples; S the logistic function.

    margin       -p log S(l_a - l_b) - (1-p) log S(l_b - l_a)      Bradley-Terry on the logit margin
    probability  the same on S(l_a) - S(l_b)                       RewardDance (arXiv 2509.08826), pointwise
    anchor       + c * [-log S(l) of the better one - log S(-l) of the worse one]: keeps yes meaning yes

Differences from the paper: with soft labels the anchor's two targets are p and 1 - p, so that a tie asks for 1/2 of
both. Swapping a with b and p with 1-p mirrors the loss.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from mmalign.objectives.masks import fill, known, masked_mean
from mmalign.objectives.ordinal import binary
from mmalign.types import Loss


def yes_pair(
    *,
    logit_a: Tensor,
    logit_b: Tensor,
    label: Tensor,
    on: Literal["margin", "probability"] = "margin",
    scale: float = 1.0,
    anchor: float = 0.0,
    where: Tensor | None = None,
) -> Loss:
    """Pairs (B,) by the yes-minus-no logits of both; `label` is p(a is better), NaN leaves out.

    `scale` multiplies the difference: one of probabilities never exceeds 1, so its loss is flat without.
    """
    mask = known(where, label)
    chance = fill(label.detach(), mask, 0.5)
    a, b = logit_a.float(), logit_b.float()
    gap = scale * (a - b if on == "margin" else a.sigmoid() - b.sigmoid())
    loss = -chance * logsigmoid(gap) - (1 - chance) * logsigmoid(-gap)
    if anchor:
        ends = binary_cross_entropy_with_logits(a, chance, reduction="none")
        loss = loss + anchor * (ends + binary_cross_entropy_with_logits(b, 1 - chance, reduction="none"))
    decided = mask & (chance != 0.5)
    right = 0.5 * (1 + gap.detach().sign() * (chance - 0.5).sign())
    metrics = {
        "accuracy": masked_mean(right, decided),
        "yes": masked_mean((a.sigmoid() + b.sigmoid()) / 2, mask),
    }
    return Loss(torch.where(mask, loss, torch.zeros_like(loss)), metrics)


def yes_point(*, logit: Tensor, target: Tensor, where: Tensor | None = None) -> Loss:
    """Cross entropy of single samples (B,) with the share of annotators who said yes, in [0, 1]."""
    return binary(score=logit, target=target, where=where)
