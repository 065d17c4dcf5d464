"""Losses that teach a reward model from pairs.

Shape legend: `B` pairs, `D` dimensions; scores, labels and masks are (B,) or (B, D), a loss is summed over D. `label`
is p(a is better) in [0, 1]: 1 or 0 for a hard label, votes in between, ties counted half. NaN, or `where` false,
leaves an entry out. Losses that know ties also take `tie`, the share t of ties among the answers (a flag is 0 or 1),
and are the cross entropy -(label - t/2) log P(a) - t log P(tie) - (1 - label - t/2) log P(b). With d = score_a -
score_b and S the logistic function:

    bradley_terry  -p log S(d - m) - (1-p) log S(-d - m)                             Bradley & Terry 1952
    rao_kupper     P(a) = S(d - eta), P(tie) = (theta^2 - 1) S(d - eta) S(-d - eta), eta = log theta
                                                            Rao & Kupper 1967; VideoAlign (arXiv 2501.13918), theta 5
    davidson       P(a) : P(b) : P(tie) = e^(d/2) : e^(-d/2) : nu                    Davidson 1970
    gaussian       scores are normals, d has std sqrt(s_a^2 + s_b^2); EditReward (2509.26346), HPSv3 (2508.03789)

Differences from the papers: HPSv3 averages the loss over random draws; `hermite` is the same integral
without noise, `probit` and `mackay` are closed forms of -log E[S]. SoliReward's win-tie loss is rao_kupper
with eta 3 and `constant=False` (2512.22170). `label_noise` corrects for flipped labels in the likelihood (forward
correction, Patrini et al., arXiv 1609.03683), so that no label can pull without bound. Swapping a with b and p with
1-p mirrors every loss; a tie at equal scores has no gradient.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mmalign.objectives.masks import fill, known, masked_mean
from mmalign.types import Loss

GaussianMethod = Literal["probit", "mackay", "hermite", "monte_carlo"]


def bradley_terry(
    *,
    score_a: Tensor,
    score_b: Tensor,
    label: Tensor,
    margin: float | Tensor = 0.0,
    label_smoothing: float = 0.0,
    label_noise: float = 0.0,
    centre: float = 0.0,
    where: Tensor | None = None,
) -> Loss:
    """Logistic loss on the score difference; `centre` adds centre * (a + b)^2, which pins the scale's
    origin; `label_noise` in [0, 1/2) is the share of labels that say the opposite of what was meant.
    """
    if not 0.0 <= label_noise < 0.5:
        raise ValueError(f"label_noise is a share of flipped labels in [0, 0.5), got {label_noise}")
    mask = known(where, label)
    chance, gap = _chance(label, mask, label_smoothing), score_a.float() - score_b.float()
    log_a, log_b = logsigmoid(gap - margin), logsigmoid(-gap - margin)
    if label_noise:
        kept, flipped = math.log1p(-label_noise), math.log(label_noise)
        log_a, log_b = (
            torch.logaddexp(kept + log_a, flipped + log_b),
            torch.logaddexp(kept + log_b, flipped + log_a),
        )
    loss = -chance * log_a - (1 - chance) * log_b
    loss = loss + centre * (score_a.float() + score_b.float()).square()
    return _pair_loss(loss, gap, label, mask)


def rao_kupper(
    *,
    score_a: Tensor,
    score_b: Tensor,
    label: Tensor,
    tie: Tensor,
    theta: float | Tensor = 5.0,
    constant: bool = True,
    where: Tensor | None = None,
) -> Loss:
    """Pairs with ties; `tie` is a flag, or the share of annotators who saw one; theta > 1 may be learned.

    `label` counts ties half; at a full tie it says nothing and may be NaN. Without `constant` the term
    -log(theta^2 - 1) of a tie is left out: it matters only if theta is learned.
    """
    theta = torch.as_tensor(theta, dtype=torch.float32, device=score_a.device)
    if bool((theta <= 1).any()):
        raise ValueError("rao_kupper needs theta > 1: learn it as 1 + softplus(x)")
    gap, width = score_a.float() - score_b.float(), theta.log()
    log_a, log_b = logsigmoid(gap - width), logsigmoid(-gap - width)
    log_tie = log_a + log_b + ((theta.square() - 1).log() if constant else 0.0)
    return _tie_loss(log_a, log_b, log_tie, gap, label, tie, where)


def davidson(
    *,
    score_a: Tensor,
    score_b: Tensor,
    label: Tensor,
    tie: Tensor,
    nu: float | Tensor = 1.0,
    where: Tensor | None = None,
) -> Loss:
    """Pairs with ties; nu > 0 is the odds of a tie at equal scores and may be learned (as exp(x))."""
    nu = torch.as_tensor(nu, dtype=torch.float32, device=score_a.device)
    if bool((nu <= 0).any()):
        raise ValueError("davidson needs nu > 0: learn it as exp(x)")
    gap = score_a.float() - score_b.float()
    logits = torch.stack([gap / 2, -gap / 2, nu.log().expand_as(gap)])
    log_a, log_b, log_tie = logits.log_softmax(dim=0).unbind()
    return _tie_loss(log_a, log_b, log_tie, gap, label, tie, where)


def gaussian(
    *,
    mean_a: Tensor,
    mean_b: Tensor,
    log_std_a: Tensor,
    log_std_b: Tensor,
    label: Tensor,
    margin: float | Tensor = 0.0,
    method: GaussianMethod = "hermite",
    num_points: int = 32,
    limits: tuple[float, float] = (-6.0, 3.0),
    generator: torch.Generator | None = None,
    where: Tensor | None = None,
) -> Loss:
    """Scores with an uncertainty; log stds are clamped to `limits`, and the better score must lead by `margin`.

    `hermite` (num_points nodes) and `monte_carlo` (num_points draws) average the loss over the difference's
    normal; `probit` is -log Phi(d / sqrt(s^2 + 1)), `mackay` -log S(d / sqrt(1 + pi s^2 / 8)).
    """
    mask = known(where, label)
    chance, gap = _chance(label, mask, 0.0), mean_a.float() - mean_b.float()
    for_a, for_b = gap - margin, -gap - margin
    spread_a, spread_b = (raw.float().clamp(*limits).exp() for raw in (log_std_a, log_std_b))
    variance = spread_a.square() + spread_b.square()
    if method == "probit":
        scale = (variance + 1).sqrt()
        log_a, log_b = torch.special.log_ndtr(for_a / scale), torch.special.log_ndtr(for_b / scale)
        loss = -chance * log_a - (1 - chance) * log_b
    elif method == "mackay":
        scale = (1 + math.pi / 8 * variance).sqrt()
        loss = -chance * logsigmoid(for_a / scale) - (1 - chance) * logsigmoid(for_b / scale)
    else:
        points, weights = _normal_points(gap, method, num_points, generator)
        apart = variance.sqrt() * points
        loss = -chance * logsigmoid(for_a + apart) - (1 - chance) * logsigmoid(for_b - apart)
        loss = (loss * weights).sum(dim=0)
    return _pair_loss(loss, gap, label, mask)


def _normal_points(
    like: Tensor, method: GaussianMethod, num: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Points of a standard normal and their weights, (num, 1...) or (num, *like.shape)."""
    shape = (num, *[1] * like.ndim)
    if method == "hermite":
        nodes, weights = np.polynomial.hermite_e.hermegauss(num)
        points = torch.tensor(nodes, dtype=torch.float32, device=like.device).reshape(shape)
        masses = torch.tensor(weights / weights.sum(), dtype=torch.float32, device=like.device).reshape(shape)
        return points, masses
    if method != "monte_carlo":
        raise ValueError(f"gaussian method '{method}' is unknown: use hermite, probit, mackay or monte_carlo")
    where = like.device if generator is None else generator.device
    drawn = torch.randn((num, *like.shape), generator=generator, device=where).to(like.device)
    return drawn, torch.full(shape, 1.0 / num, device=like.device)


def _chance(label: Tensor, mask: Tensor, smoothing: float) -> Tensor:
    chance = fill(label.detach(), mask, 0.5)
    if bool(((chance < 0) | (chance > 1)).any()):
        raise ValueError("labels are probabilities that a is better: they must lie in [0, 1]")
    return chance * (1 - smoothing) + (1 - chance) * smoothing


def _tie_loss(
    log_a: Tensor,
    log_b: Tensor,
    log_tie: Tensor,
    gap: Tensor,
    label: Tensor,
    tie: Tensor,
    where: Tensor | None,
) -> Loss:
    tied = tie.detach().float()
    label = torch.where(tied >= 1, torch.full_like(label, 0.5), label)
    mask = known(where, label, tied)
    chance, share = _chance(label, mask, 0.0), fill(tied, mask)
    for_a, for_b = chance - share / 2, 1 - chance - share / 2
    if bool((torch.minimum(for_a, for_b) < -1e-3).any()):
        raise ValueError("a label counts ties half: with a share t of ties it lies from t / 2 to 1 - t / 2")
    loss = -for_a.clamp(min=0) * log_a - for_b.clamp(min=0) * log_b - share * log_tie
    decided = torch.where(share >= 0.5, torch.full_like(gap, torch.nan), chance)
    return _pair_loss(loss, gap, decided, mask)


def _pair_loss(loss: Tensor, gap: Tensor, label: Tensor, mask: Tensor) -> Loss:
    """Sum over dimensions; accuracy over the entries with a winner, equal scores count half."""
    decided = mask & torch.isfinite(label) & (label != 0.5)
    toward = gap.detach() * (label.nan_to_num(0.5) - 0.5).sign()
    right = (toward > 0).float() + 0.5 * (toward == 0).float()
    metrics = {
        "accuracy": masked_mean(right, decided),
        "gap": masked_mean(toward, decided),
        "loss": masked_mean(loss, mask),
    }
    kept = torch.where(mask, loss, torch.zeros_like(loss))
    return Loss(kept if kept.ndim == 1 else kept.flatten(1).sum(dim=1), metrics)
