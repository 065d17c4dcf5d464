"""Supervised fine-tuning: the native denoising loss, on given data or on the best samples of each group.

Shape legend: `B` samples, `...` the shape of one latent.

Sources: flow matching (arXiv 2210.02747) and DDPM (2006.11239) training losses; best-of-n as RAFT
(2304.06767).

Differences from the paper: best-of-n keeps every sample that ties for the best of its group (flow_grpo's
code); RAFT keeps one. A group in which nothing could be judged keeps nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmalign.objectives.masks import fill, group_index, known, masked_mean
from mmalign.types import Loss


def denoising_error(*, prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error (B,) over all dimensions of a sample (B, ...), in float32.

    >>> denoising_error(prediction=torch.ones(2, 3), target=torch.zeros(2, 3))
    tensor([1., 1.])
    """
    return (prediction.float() - target.float()).square().flatten(1).mean(dim=1)


def sft(*, error: Tensor, weight: Tensor | None = None, where: Tensor | None = None) -> Loss:
    """weight * error per sample; a NaN weight excludes the sample."""
    weight = torch.ones_like(error) if weight is None else weight.detach()
    mask = known(where, weight)
    per_sample = torch.where(
        mask, fill(weight, mask) * error.float(), torch.zeros_like(error, dtype=torch.float32)
    )
    metrics = {"error": masked_mean(error, mask), "weight": masked_mean(weight, mask)}
    return Loss(per_sample, metrics)


def best_of_group(rewards: Tensor, groups: Tensor) -> Tensor:
    """Weight 1 for the best samples (B,) of each group, ties all kept, otherwise 0; a NaN reward has weight
    0.

    >>> best_of_group(torch.tensor([1.0, 3.0, 3.0, 2.0]), torch.tensor([0, 0, 0, 1]))
    tensor([0., 1., 1., 1.])
    """
    valid = torch.isfinite(rewards)
    index, num = group_index(groups)
    low = torch.full((num,), -torch.inf, dtype=torch.float32, device=rewards.device)
    best = low.scatter_reduce(0, index, fill(rewards, valid, -torch.inf), reduce="amax")
    return (valid & (rewards.float() == best[index])).float()
