"""Losses that only the CLIP family has.

Legend: B pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmalign.objectives.masks import fill, known, masked_mean
from mmalign.types import Loss


def triplet(*, cosine_a: Tensor, cosine_b: Tensor, label: Tensor, margin: float) -> Loss:
    """p max(0, m - d) + (1 - p) max(0, m + d) (B,), with d = cosine_a - cosine_b and p = p(a is better), NaN left out.

    The prompt is the anchor, the better picture the positive, the worse the negative (Social Reward, Isajanyan et al.
    2024, 2402.09872). Differences from the paper: distances are 1 - cosine, and labels may be soft; a tie at equal
    scores has no gradient.

    >>> two = torch.tensor([0.30]), torch.tensor([0.25])
    >>> round(triplet(cosine_a=two[0], cosine_b=two[1], label=torch.ones(1), margin=0.2).per_sample.item(), 4)
    0.15
    """
    mask = known(None, label)
    chance, gap = fill(label.detach(), mask, 0.5), cosine_a.float() - cosine_b.float()
    loss = chance * (margin - gap).clamp_min(0) + (1 - chance) * (margin + gap).clamp_min(0)
    toward = gap.detach().sign() * (chance - 0.5).sign()
    return Loss(
        torch.where(mask, loss, torch.zeros_like(loss)),
        {
            "accuracy": masked_mean(0.5 * (1 + toward), mask & (chance != 0.5)),
            "loss": masked_mean(loss, mask),
        },
    )
