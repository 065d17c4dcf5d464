"""Means that leave out what could not be judged.

Shape legend: `B` samples. An excluded sample has loss 0 and no gradient; it still counts in the mean over
the batch that the loop takes, so that a sample weighs the same in every micro-batch and on every process.
"""

from __future__ import annotations

import torch
from torch import Tensor


def known(where: Tensor | None, *values: Tensor) -> Tensor:
    """True where `where` is (everywhere if None) and all `values` are finite."""
    mask = torch.isfinite(values[0].detach())
    for value in values[1:]:
        mask = mask & torch.isfinite(value.detach())
    return mask if where is None else mask & where.bool()


def fill(values: Tensor, where: Tensor, value: float = 0.0) -> Tensor:
    """Float32 `values`, with `value` where not `where`; no gradient and no NaN flows through what was
    filled.
    """
    return torch.where(where, values.float(), torch.full_like(values, value, dtype=torch.float32))


def group_index(groups: Tensor) -> tuple[Tensor, int]:
    """Group ids (B,) renumbered 0 ... n-1, and n.

    >>> group_index(torch.tensor([7, 3, 7]))
    (tensor([1, 0, 1]), 2)
    """
    names, index = torch.unique(groups, return_inverse=True)
    return index, int(names.shape[0])


def masked_mean(values: Tensor, where: Tensor | None = None) -> Tensor:
    """The mean over the entries where `where`; 0 if there are none. Detached: for metrics.

    >>> masked_mean(torch.tensor([1.0, 3.0, float("nan")]), torch.tensor([True, True, False]))
    tensor(2.)
    """
    values = values.detach().float()
    if where is None:
        return values.mean()
    return fill(values, where).sum() / where.sum().clamp(min=1)
