"""Heads that say how sure they are: a mean and a log standard deviation.

Sources: HPSv3 (arXiv 2508.03789), EditReward (2509.26346).

Legend: S scores, W hidden width, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rewardmodels.heads.readout import Readout
from rewardmodels.heads.seen import Seen

LIMITS = (-6.0, 3.0)
"""Log standard deviations are kept within these, as in the loss (`objectives.reward.gaussian`)."""


def ranknet(
    width: int, num_outputs: int, hidden: Sequence[int] = (1024, 16), dropout: float = 0.05
) -> nn.Sequential:
    """Linear-ReLU-Dropout-Linear-ReLU-Linear: the MLP of HPSv3 and EditReward with their key names 0, 3, 5."""
    first, second = hidden
    return nn.Sequential(
        nn.Linear(width, first), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(first, second), nn.ReLU(), nn.Linear(second, num_outputs),
    )  # fmt: skip


class GaussianHead(nn.Module):
    """Mean and log standard deviation of every dimension from one reward token, in float32."""

    num_layers = 1

    def __init__(
        self,
        width: int,
        num_dimensions: int,
        hidden: Sequence[int] = (1024, 16),
        dropout: float = 0.05,
    ) -> None:
        super().__init__()
        self.score = ranknet(width, 2 * num_dimensions, hidden, dropout)

    def forward(self, seen: Seen) -> Readout:
        """-> values and log_std (S, D)."""
        both: Tensor = self.score(seen.tokens()[:, 0].float()).unflatten(1, (-1, 2))
        return Readout(both[..., 0], both[..., 1].clamp(*LIMITS))


class FusedHead(nn.Module):
    """One Gaussian head for each of D prompts; head d reads the forward pass of prompt d only."""

    num_layers = 1

    def __init__(
        self,
        width: int,
        num_dimensions: int,
        hidden: Sequence[int] = (1024, 16),
        dropout: float = 0.05,
    ) -> None:
        super().__init__()
        heads = [GaussianHead(width, 1, hidden, dropout) for _ in range(num_dimensions)]
        self.heads = nn.ModuleList(heads)

    def forward(self, *seen: Seen) -> Readout:
        """One forward pass a prompt -> values and log_std (S, D)."""
        if len(seen) != len(self.heads):
            raise ValueError(f"{len(self.heads)} fused heads need as many templates, got {len(seen)}")
        parts = [head(one) for head, one in zip(self.heads, seen, strict=True)]
        return Readout(
            torch.cat([part.values for part in parts], 1), torch.cat([part.log_std for part in parts], 1)
        )
