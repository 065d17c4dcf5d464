"""From a hidden state to scores: the heads that reward models put on a backbone.

Legend: B samples, R reward tokens, W hidden width, D reward dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class LinearHead(nn.Module):
    """Each of R reward tokens, or the only one, gives its dimensions by one linear map, in float32."""

    def __init__(self, width: int, num_dimensions: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, num_dimensions)
        nn.init.normal_(self.score.weight, std=width**-0.5)
        nn.init.zeros_(self.score.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, R, W) of the reward tokens -> scores (B, D)."""
        scores: Tensor = self.score(hidden.float())
        if scores.shape[1] == 1:
            return scores[:, 0]
        return torch.diagonal(scores, dim1=1, dim2=2)


class MlpHead(nn.Module):
    """Two layers with a SiLU between them on one reward token, in float32."""

    def __init__(self, width: int, num_dimensions: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, num_dimensions))

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, 1, W) of the reward token -> scores (B, D)."""
        scores: Tensor = self.score(hidden[:, 0].float())
        return scores


HEADS: dict[str, Callable[[int, int], nn.Module]] = {"linear": LinearHead, "mlp": MlpHead}


def build_head(kind: str, width: int, num_dimensions: int) -> nn.Module:
    """A fresh head by name; ValueError lists the names."""
    if kind not in HEADS:
        raise ValueError(f"unknown head '{kind}': use one of {sorted(HEADS)}")
    return HEADS[kind](width, num_dimensions)
