"""Heads that give one number for each dimension.

Legend: S scores, R reward tokens, W hidden width, D dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rewardmodels.heads.readout import Readout
from rewardmodels.heads.seen import Seen


class LinearHead(nn.Module):
    """Each of R reward tokens, or the only one, gives its dimensions by one linear map, in float32.

    With several tokens the map gives D numbers for each and the diagonal is taken; with `shared` it gives one, the
    same map for all tokens (VideoReward's published form, which has no bias).
    """

    num_layers = 1

    def __init__(self, width: int, num_dimensions: int, shared: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1 if shared else num_dimensions, bias=bias)
        self.shared = shared
        nn.init.normal_(self.score.weight, std=width**-0.5)
        if bias:
            nn.init.zeros_(self.score.bias)

    def forward(self, seen: Seen) -> Readout:
        """-> values (S, D)."""
        scores: Tensor = self.score(seen.tokens().float())
        if self.shared:
            return Readout(scores[:, :, 0])
        if scores.shape[1] == 1:
            return Readout(scores[:, 0])
        return Readout(torch.diagonal(scores, dim1=1, dim2=2))


def two_layers(width: int, num_outputs: int, hidden: int | None) -> nn.Sequential:
    """Linear, SiLU, Linear: the head that BaseReward's ablation (arXiv 2509.16127) found best."""
    inner = hidden or width
    return nn.Sequential(nn.Linear(width, inner), nn.SiLU(), nn.Linear(inner, num_outputs))


class MlpHead(nn.Module):
    """Two layers with a SiLU between them on one reward token, in float32."""

    num_layers = 1

    def __init__(self, width: int, num_dimensions: int, hidden: int | None = None) -> None:
        super().__init__()
        self.score = two_layers(width, num_dimensions, hidden)

    def forward(self, seen: Seen) -> Readout:
        """-> values (S, D)."""
        return Readout(self.score(seen.tokens()[:, 0].float()))


class MeanHead(nn.Module):
    """Two layers on the mean over all tokens of a sample, as InternLM-XComposer2.5-Reward (arXiv 2501.12368)."""

    num_layers = 1

    def __init__(self, width: int, num_dimensions: int, hidden: int | None = None) -> None:
        super().__init__()
        self.score = two_layers(width, num_dimensions, hidden)

    def forward(self, seen: Seen) -> Readout:
        """-> values (S, D)."""
        return Readout(self.score(seen.mean()))


class CandidateHead(nn.Module):
    """Two layers on the token before each separator: N candidates that stand in one row (YOJO).

    `num_together` is how many share a forward pass when a group of one prompt is scored.
    """

    num_layers = 1

    def __init__(
        self, width: int, num_dimensions: int, hidden: int | None = None, num_together: int = 4
    ) -> None:
        super().__init__()
        if num_dimensions != 1:
            raise ValueError(f"a head over candidates gives one dimension, got {num_dimensions}")
        self.score, self.num_together = two_layers(width, 1, hidden), num_together

    def forward(self, seen: Seen) -> Readout:
        """-> values (S * N, 1), the N candidates of a row side by side."""
        return Readout(self.score(seen.tokens(offset=-1).flatten(0, 1).float()))


class NumericHead(nn.Module):
    """An MLP on a score token, squeezed into [low, high] by a logistic function (ADIEE: scores in [0, 1])."""

    num_layers = 1

    def __init__(
        self, width: int, num_dimensions: int, hidden: int | None = None, low: float = 0.0, high: float = 1.0
    ) -> None:
        super().__init__()
        if low >= high:
            raise ValueError(f"low must be below high, got {low} and {high}")
        self.score, self.low, self.high = two_layers(width, num_dimensions, hidden), low, high

    def forward(self, seen: Seen) -> Readout:
        """-> values (S, D) in [low, high]."""
        squeezed = torch.sigmoid(self.score(seen.tokens()[:, 0].float()))
        return Readout(self.low + (self.high - self.low) * squeezed)


class IndexHead(nn.Module):
    """Three layers on a token counted from the end, absolute value times `scale` (EditHF: index -6, scale 100).

    The reward token is the last of the template, so index -1 is the token itself.
    """

    num_layers = 1

    def __init__(
        self, width: int, num_dimensions: int, index: int = -6, scale: float = 100.0, hidden: int = 128
    ) -> None:
        super().__init__()
        if index >= 0:
            raise ValueError(f"index counts from the end and must be negative, got {index}")
        self.index, self.scale = index, scale
        self.score = nn.Sequential(
            nn.Linear(width, width // 2), nn.ReLU(),
            nn.Linear(width // 2, hidden), nn.ReLU(),
            nn.Linear(hidden, num_dimensions),
        )  # fmt: skip

    def forward(self, seen: Seen) -> Readout:
        """-> values (S, D), none negative."""
        hidden = seen.tokens(offset=self.index + 1)[:, 0].float()
        return Readout(self.score(hidden).abs() * self.scale)
