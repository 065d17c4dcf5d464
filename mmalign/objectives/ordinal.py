"""Losses that teach a reward model from ratings: regression, good or bad, and ordered levels.

Shape legend: `B` samples, `D` dimensions, `K` ordered levels 0 ... K-1.

Sources: CORN (arXiv 2111.08851), CORAL (1901.07884); `binary` is the absolute term that SoliReward (2512.22170) can add
to its loss of pairs, and the cross entropy of a judge's yes.

Differences from the papers: CORN divides by the number of (sample, task) terms of the batch; here a
sample's loss is the sum over the tasks it takes part in, so it does not depend on its batch. SoliReward's code cuts its
labels at 0 and smooths them by e / 2; here shares of raters stay soft and `label_smoothing` is the share of flipped
labels, half of its e. A target that is NaN (ratings) or negative (levels), or `where` false, is left out.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss, logsigmoid

from mmalign.objectives.masks import fill, known, masked_mean
from mmalign.types import Loss


def regression(
    *,
    score: Tensor,
    target: Tensor,
    centre: float = 0.0,
    kind: Literal["mse", "huber"] = "mse",
    delta: float = 1.0,
    where: Tensor | None = None,
) -> Loss:
    """Squared or Huber error to (target - centre), summed over the dimensions (B, D) that were rated."""
    mask = known(where, target)
    error = score.float() - (fill(target.detach(), mask) - centre)
    if kind == "mse":
        loss = error.square()
    else:
        loss = huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)
    kept = torch.where(mask, loss, torch.zeros_like(loss))
    metrics = {"absolute_error": masked_mean(error.abs(), mask)}
    return Loss(kept if kept.ndim == 1 else kept.flatten(1).sum(dim=1), metrics)


def binary(
    *, score: Tensor, target: Tensor, label_smoothing: float = 0.0, where: Tensor | None = None
) -> Loss:
    """-t log S(score) - (1-t) log S(-score), t the share in [0, 1] of raters who said good (or yes).

    Summed over the dimensions (B, D) that were rated; scores (B,) have one. `accuracy` counts a score of 0 half.
    """
    mask = known(where, target)
    wanted = fill(target.detach(), mask, 0.5)
    if bool(((wanted < 0) | (wanted > 1)).any()):
        raise ValueError("labels good or bad are shares of raters who said good: they must lie in [0, 1]")
    smoothed = wanted * (1 - label_smoothing) + (1 - wanted) * label_smoothing
    loss = binary_cross_entropy_with_logits(score.float(), smoothed, reduction="none")
    kept = torch.where(mask, loss, torch.zeros_like(loss))
    right = 0.5 * (1 + score.detach().sign() * (wanted - 0.5).sign())
    metrics = {"accuracy": masked_mean(right, mask & (wanted != 0.5))}
    return Loss(kept if kept.ndim == 1 else kept.flatten(1).sum(dim=1), metrics)


def corn(*, logits: Tensor, target: Tensor, where: Tensor | None = None) -> Loss:
    """K-1 logits (B, K-1) of P(Y > k | Y > k-1); a task is asked only of samples that passed the one
    before.
    """
    mask = target >= 0 if where is None else (target >= 0) & where
    tasks = torch.arange(logits.shape[1], device=logits.device)
    asked = (target[:, None] > tasks - 1) & mask[:, None]
    passed = (target[:, None] > tasks).float()
    loss = binary_cross_entropy_with_logits(logits.float(), passed, reduction="none")
    per_sample = torch.where(asked, loss, torch.zeros_like(loss)).sum(dim=1)
    error = (corn_survival(logits).sum(dim=1) - target).abs()
    return Loss(per_sample, {"absolute_error": masked_mean(error, mask)})


def corn_survival(logits: Tensor) -> Tensor:
    """P(Y > k) (B, K-1) from CORN's conditional logits; the expected level is its sum over k."""
    return logsigmoid(logits.float()).cumsum(dim=1).exp()


def coral(*, score: Tensor, biases: Tensor, target: Tensor, where: Tensor | None = None) -> Loss:
    """One score (B,) with K-1 biases: P(Y > k) = S(score + bias_k)."""
    return thresholds(logits=score.float()[:, None] + biases.float(), target=target, where=where)


def thresholds(*, logits: Tensor, target: Tensor, where: Tensor | None = None) -> Loss:
    """K-1 logits (B, K-1) of P(Y > k), all asked of every sample."""
    mask = target >= 0 if where is None else (target >= 0) & where
    logits = logits.float()
    passed = (target[:, None] > torch.arange(logits.shape[1], device=logits.device)).float()
    loss = binary_cross_entropy_with_logits(logits, passed, reduction="none").sum(dim=1)
    error = (logits.sigmoid().sum(dim=1) - target).abs()
    return Loss(torch.where(mask, loss, torch.zeros_like(loss)), {"absolute_error": masked_mean(error, mask)})
