"""Losses that teach a reward model from rankings of N candidates.

Shape legend: `B` prompts, `N` candidates of each.

Sources: Plackett-Luce (Plackett 1975), as a loss ListMLE (Xia et al. 2008); ties after Breslow (1974); `choice` is
the N-way cross entropy of YOJO.

Differences from the papers: candidates of equal rank share one risk set (Breslow), so that their order in
the list does not matter and equal scores of an all-tied list have no gradient. In the accuracy of pairs equal scores
count half.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mmalign.objectives.masks import fill, known, masked_mean
from mmalign.types import Loss


def plackett_luce(*, scores: Tensor, ranks: Tensor, where: Tensor | None = None) -> Loss:
    """-sum_k [s_k - logsumexp of the candidates ranked k or worse] (B,); smaller rank is better, NaN is not
    ranked.
    """
    mask = known(where, ranks)
    order, values = fill(ranks.detach(), mask), scores.float()
    rivals = (order[:, None, :] >= order[:, :, None]) & mask[:, None, :]
    table = values[:, None, :].expand(rivals.shape).masked_fill(~rivals, -torch.inf)
    table = torch.where(mask[:, :, None], table, torch.zeros_like(table))  # an unranked row has no rivals
    terms = torch.where(mask, table.logsumexp(dim=2) - values, torch.zeros_like(values))
    beaten = (order[:, None, :] > order[:, :, None]) & mask[:, None, :] & mask[:, :, None]
    right = 0.5 * (1 + (values[:, :, None] - values[:, None, :]).detach().sign())
    return Loss(terms.sum(dim=1), {"accuracy": masked_mean(right, beaten)})


def all_pairs(*, scores: Tensor, ranks: Tensor, where: Tensor | None = None) -> Loss:
    """Bradley-Terry over all ranked pairs of a row, each weighing one over their number (B,); a tie counts half."""
    mask = known(where, ranks)
    order, values = fill(ranks.detach(), mask), scores.float()
    num = scores.shape[1]
    upper = torch.ones(num, num, dtype=torch.bool, device=scores.device).triu(1)
    both = mask[:, :, None] & mask[:, None, :] & upper
    chance = 0.5 * (1 + (order[:, None, :] - order[:, :, None]).sign())
    gap = values[:, :, None] - values[:, None, :]
    loss = torch.where(
        both, -chance * logsigmoid(gap) - (1 - chance) * logsigmoid(-gap), torch.zeros_like(gap)
    )
    decided = both & (chance != 0.5)
    right = 0.5 * (1 + gap.detach().sign() * (chance - 0.5).sign())
    per_row = loss.sum(dim=(1, 2)) / both.sum(dim=(1, 2)).clamp(min=1)
    return Loss(per_row, {"accuracy": masked_mean(right, decided)})


def choice(*, scores: Tensor, target: Tensor, where: Tensor | None = None) -> Loss:
    """Cross entropy (B,) of softmax(scores) (B, N) with the share of votes `target` (B, N) each candidate
    got.

    A row of zero votes is left out; `where` (B, N) leaves out candidates.
    """
    mask = torch.ones_like(scores, dtype=torch.bool) if where is None else where
    votes = fill(target.detach(), mask)
    total = votes.sum(dim=1, keepdim=True)
    logits = scores.float().masked_fill(~mask, -1e9)
    loss = -(votes / total.clamp(min=1e-12) * logits.log_softmax(dim=1)).sum(dim=1)
    judged = total[:, 0] > 0
    right = (logits.argmax(dim=1) == votes.argmax(dim=1)).float()
    return Loss(torch.where(judged, loss, torch.zeros_like(loss)), {"accuracy": masked_mean(right, judged)})
