"""Reward-weighted regression: the denoising loss of each sample, weighted by its reward.

Shape legend: `B` samples.

Sources: RWR for diffusion: Lee et al. (arXiv 2302.12192), DDPO's baseline (2305.13301); Flow-RWR: VideoAlign
(2501.13918), L = E[exp(r / tau) |v - v_theta|^2].

Differences from the papers: weights are normalised to mean 1, so that the step size does not depend on the
reward's offset, and may be capped. Flow-RWR keeps a constant weight in the noise level (as its paper does).
flow_grpo's code uses the raw reward as the weight (`kind="raw"`, negative rewards count as 0).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmalign.objectives.masks import fill, group_index
from mmalign.objectives.sft import sft
from mmalign.types import Loss


def rwr(*, error: Tensor, weight: Tensor, where: Tensor | None = None) -> Loss:
    """weight * error per sample, with the weights of `reward_weights`."""
    return sft(error=error, weight=weight, where=where)


def reward_weights(
    rewards: Tensor,
    groups: Tensor | None = None,
    *,
    temperature: float = 1.0,
    kind: Literal["exp", "softmax", "raw"] = "softmax",
    cap: float | None = None,
) -> Tensor:
    """Weights (B,) of mean 1 over the judged samples; NaN rewards get 0.

    `exp`: exp(r / temperature) over the whole batch; `softmax`: the same within each group, so every group
    has the same total; `raw`: the reward itself. `cap` (above 1) bounds a weight, the others take what it
    gives up.

    >>> reward_weights(torch.tensor([0.0, 0.0, float("nan")]), torch.tensor([0, 0, 0]))
    tensor([1., 1., 0.])
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}: use a number above 0 (large = all samples alike)")
    if kind == "softmax" and groups is None:
        raise ValueError("softmax weights are per group: pass groups, or use kind='exp'")
    valid = torch.isfinite(rewards)
    if not bool(valid.any()):
        return torch.zeros_like(rewards, dtype=torch.float32)
    scaled = fill(rewards, valid).double()
    if kind == "raw":
        weights = scaled.clamp(min=0) * valid
    else:
        logits = (scaled / temperature).masked_fill(~valid, -torch.inf)
        index = torch.zeros_like(rewards, dtype=torch.long)
        if kind == "softmax" and groups is not None:
            index = group_index(groups)[0]
        weights = _softmax_within(logits, index, valid)
    total = weights.sum()
    weights = weights * valid.sum() / total if bool(total > 0) else valid.double()
    return (weights if cap is None else _cap(weights, valid, cap)).float()


def _softmax_within(logits: Tensor, index: Tensor, valid: Tensor) -> Tensor:
    """Softmax of logits (B,) within the classes of `index`, times the number of valid members of the class."""
    num = int(index.max()) + 1
    zeros = torch.zeros(num, dtype=logits.dtype, device=logits.device)
    peak = (zeros - torch.inf).scatter_reduce(0, index, logits, reduce="amax").nan_to_num(neginf=0.0)
    powers = (logits - peak[index]).exp()
    sums = zeros.scatter_add(0, index, powers)
    sizes = zeros.scatter_add(0, index, valid.to(logits.dtype))
    return powers * (sizes / sums.clamp(min=1e-300))[index]


def _cap(weights: Tensor, valid: Tensor, cap: float) -> Tensor:
    """min(c w, cap) with c such that the mean over valid samples stays 1."""
    if cap <= 1:
        raise ValueError(f"cap is {cap}: the mean weight is 1, so use a cap above 1")
    capped = torch.zeros_like(valid)
    for _ in range(weights.shape[0]):
        over = weights > cap
        if not bool(over.any()):
            break
        capped = capped | over
        free = valid & ~capped
        rest = valid.sum() - cap * capped.sum()
        mass = weights[free].sum()
        scale = rest / mass if bool(mass > 0) else torch.zeros_like(mass)
        weights = torch.where(capped, torch.full_like(weights, cap), weights * scale)
    return weights
