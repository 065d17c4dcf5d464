"""DiffusionNFT: contrast an implicit positive and negative policy on the forward process, no
log-probabilities.

Shape legend: `B` samples, `...` the shape of one latent.

Source: DiffusionNFT (arXiv 2509.16117), eq. of the policy loss, and its train_nft_sd3.py. With r in [0, 1]
the optimality of a sample, x0_th and x0_old the clean latents that policy and behaviour policy predict from
the SAME noisy latents, x0+ = b x0_th + (1-b) x0_old and x0- = (1+b) x0_old - b x0_th:

    L = scale [ r/b mean((x0+ - x0)^2) / w+  +  (1-r)/b mean((x0- - x0)^2) / w- ]  +  kl_weight * kl
    w = stopgrad(max(mean |x0+- - x0|, floor)), in float64

Differences from the paper: it has no scale (the code's 5 is its advantage clip), no 1/b, no
self-normalisation and measures velocities; give velocities in the three roles with self_normalize=False and
scale=b for that form. Clean predictions are affine in velocity and in noise alike, so the loss serves
diffusion models unchanged. At x0_th = x0_old the value does not depend on r, the gradient does.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmalign.objectives.masks import fill, known, masked_mean
from mmalign.types import Loss

AdvantageMode = Literal["all", "positive_only", "negative_only", "one_only", "binary"]


def optimality(advantage: Tensor, *, clip: float = 5.0, mode: AdvantageMode = "all") -> Tensor:
    """Advantages (B,) as r in [0, 1]: clip(A, -clip, clip) / clip / 2 + 1/2; NaN stays NaN.

    `positive_only` and `negative_only` take the other side as 0; `binary` takes the sign as A, `one_only` 1 for A > 0
    and otherwise 0 (so with clip 5 they reach 0.6, as published).

    >>> optimality(torch.tensor([2.0, -9.0, 0.0]))
    tensor([0.7000, 0.0000, 0.5000])
    """
    if mode == "binary":
        advantage = advantage.sign()
    elif mode == "one_only":
        advantage = advantage.sign().clamp(min=0)
    elif mode == "positive_only":
        advantage = advantage.clamp(min=0)
    elif mode == "negative_only":
        advantage = advantage.clamp(max=0)
    return advantage.float().clamp(-clip, clip) / clip / 2 + 0.5


def nft(
    *,
    prediction_clean: Tensor,
    behavior_clean: Tensor,
    clean: Tensor,
    optimality: Tensor,
    beta: float = 1.0,
    self_normalize: bool = True,
    scale: float = 5.0,
    floor: float = 1e-5,
    kl: Tensor | None = None,
    kl_weight: float = 0.0,
    where: Tensor | None = None,
) -> Loss:
    """Loss per sample; NaN optimality excludes a sample; `kl` (B,) is mean (v_theta - v_reference)^2."""
    policy, behavior, clean = (
        prediction_clean.float(),
        behavior_clean.detach().float(),
        clean.detach().float(),
    )
    mask = known(where, optimality)
    share = fill(optimality.detach(), mask, 0.5)
    positive = _error(beta * policy + (1 - beta) * behavior - clean, self_normalize, floor)
    negative = _error((1 + beta) * behavior - beta * policy - clean, self_normalize, floor)
    loss = scale / beta * (share * positive + (1 - share) * negative)
    metrics = {
        "positive": masked_mean(positive, mask),
        "negative": masked_mean(negative, mask),
        "shift": masked_mean((policy - behavior).abs().flatten(1).mean(dim=1), mask),
    }
    if kl is not None:
        loss = loss + kl_weight * kl.float()
        metrics["kl"] = masked_mean(kl, mask)
    return Loss(torch.where(mask, loss, torch.zeros_like(loss)), metrics)


def behavior_decay(step: int, *, kind: Literal["copy", "slow", "late"]) -> float:
    """How much of the behaviour policy is kept after an iteration that ends at gradient update `step`.

    The published schedules: `copy` (type 0) keeps nothing; `slow` (type 1) min(0.001 step, 0.5); `late`
    (type 2) nothing until step 75, then min(0.0075 (step - 75), 0.999).

    >>> behavior_decay(100, kind="slow")
    0.1
    """
    if kind == "copy":
        return 0.0
    if kind == "slow":
        return min(0.001 * step, 0.5)
    return min(max(0.0075 * (step - 75), 0.0), 0.999)


def _error(difference: Tensor, self_normalize: bool, floor: float) -> Tensor:
    """Mean square (B,), divided by the mean absolute difference if asked."""
    flat = difference.flatten(1)
    error = flat.square().mean(dim=1)
    if not self_normalize:
        return error
    weight = flat.detach().double().abs().mean(dim=1).clamp(min=floor)
    return (error / weight).float()
