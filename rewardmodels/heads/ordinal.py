"""Heads for ordered levels: logits of P(Y > k), decoded to the expected level.

Sources: CORN (arXiv 2111.08851), CORAL (1901.07884); VEFX-Reward reads levels 1 to 4 from CORN.

Legend: S scores, R reward tokens, W hidden width, D dimensions, K ordered levels 1 ... K.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmalign.objectives.ordinal import corn_survival
from rewardmodels.heads.readout import Readout
from rewardmodels.heads.seen import Seen

FIRST = 1.0
"""The lowest level."""


def _check(num_levels: int) -> None:
    if num_levels < 2:
        raise ValueError(f"ordered levels need at least 2, got {num_levels}")


def by_dimension(outputs: Tensor, num_dimensions: int) -> Tensor:
    """(S, R, N) of R tokens -> (S, D, N / (D / R)): a token a dimension, or one token for all."""
    if outputs.shape[1] not in (1, num_dimensions):
        raise ValueError(
            f"{num_dimensions} dimensions need one reward token or as many, got {outputs.shape[1]}"
        )
    return outputs.reshape(outputs.shape[0], num_dimensions, -1)


class CornHead(nn.Module):
    """K-1 conditional logits for each dimension; one map shared by all tokens where every dimension has its own."""

    num_layers = 1

    def __init__(
        self,
        width: int,
        num_dimensions: int,
        num_levels: int = 4,
        tokens: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        _check(num_levels)
        self.num_dimensions, self.num_levels = num_dimensions, num_levels
        self.score = nn.Linear(width, (num_levels - 1) * (1 if tokens else num_dimensions), bias=bias)

    def forward(self, seen: Seen) -> Readout:
        """-> values (S, D) in [1, K] and logits (S, D, K-1)."""
        logits = by_dimension(self.score(seen.tokens().float()), self.num_dimensions)
        survival = corn_survival(logits.flatten(0, 1)).view(logits.shape)
        return Readout(FIRST + survival.sum(dim=2), logits=logits)


class CoralHead(nn.Module):
    """One score for each dimension with K-1 biases of its own, so that P(Y > k) never rises with k once trained."""

    num_layers = 1

    def __init__(self, width: int, num_dimensions: int, num_levels: int = 4, tokens: bool = True) -> None:
        super().__init__()
        _check(num_levels)
        self.num_dimensions, self.num_levels = num_dimensions, num_levels
        self.score = nn.Linear(width, 1 if tokens else num_dimensions, bias=False)
        spread = torch.linspace(1.0, -1.0, num_levels - 1)
        self.biases = nn.Parameter(spread.repeat(num_dimensions, 1))

    def forward(self, seen: Seen) -> Readout:
        """-> values (S, D) in [1, K] and logits (S, D, K-1)."""
        scores = by_dimension(self.score(seen.tokens().float()), self.num_dimensions)
        logits = scores + self.biases
        return Readout(FIRST + logits.sigmoid().sum(dim=2), logits=logits)
