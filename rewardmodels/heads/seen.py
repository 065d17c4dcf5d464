"""What a head may read of a backbone's hidden states.

Legend: B rows of a batch, S scores, R reward tokens of a score, L tokens, W hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Seen:
    """Hidden states of one forward pass, and where its scores stand in them."""

    layers: Sequence[
        Tensor
    ]  # (B, L, W) each, the embeddings first; only the last where no head asks for more
    rows: Tensor  # (S,) the row of each score
    columns: Tensor  # (S, R) where its reward tokens stand
    mask: Tensor  # (B, L) of real tokens, or (B, 1, L, L) where a row holds several prompts

    def tokens(self, offset: int = 0) -> Tensor:
        """(S, R, W): the last layer at the reward tokens, or `offset` tokens after (before if negative)."""
        return self.layers[-1][self.rows[:, None], self.columns + offset]

    def visible(self) -> Tensor:
        """(S, L) bool: the tokens a score's last reward token sees, which are its own and those before."""
        last = self.columns[:, -1]
        if self.mask.ndim == 4:
            return self.mask[self.rows, 0, last].bool()
        places = torch.arange(self.mask.shape[1], device=self.mask.device)
        return self.mask[self.rows].bool() & (places <= last[:, None])

    def mean(self) -> Tensor:
        """(S, W): the mean of the last layer over the visible tokens."""
        seen = self.visible()[:, :, None]
        return (self.layers[-1][self.rows].float() * seen).sum(dim=1) / seen.sum(dim=1)
