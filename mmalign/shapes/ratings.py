"""Simulated raters: levels 1 to K, or good and bad, of single pictures with known worth.

A rater gives more than level k with probability sigmoid((worth - top k / K) / temperature), an ordered logit whose
borders divide [0, top] evenly.

Legend: N items, K levels.
"""

from __future__ import annotations

import torch
from torch import Tensor

TOPS = {"overall": 1.5}
"""The largest worth of a dimension; 1 where it is not named."""


def rate(
    worth: Tensor, *, num_levels: int, temperature: float, generator: torch.Generator, raters: int = 1,
    top: float = 1.0,
) -> Tensor:  # fmt: skip
    """The mean level (N,) in [1, K] that so many raters give items of known worth (N,).

    >>> rate(torch.tensor([0.0, 1.0]), num_levels=4, temperature=1e-3, generator=torch.Generator()).tolist()
    [1.0, 4.0]
    """
    if num_levels < 2 or temperature <= 0 or raters < 1:
        raise ValueError("ratings need 2 or more levels, a temperature above 0 and 1 or more raters")
    borders = top * torch.arange(1, num_levels) / num_levels
    above = torch.sigmoid((worth.float()[:, None] - borders) / temperature)
    drawn = torch.rand(worth.shape[0], raters, generator=generator)
    levels = 1 + (drawn[:, :, None] < above[:, None, :]).sum(dim=2)
    return levels.float().mean(dim=1)
