"""Learned queries over several layers: SoliReward's progressive hierarchical attention (arXiv 2512.22170).

Legend: S scores, L tokens, W hidden width, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rewardmodels.heads.readout import Readout
from rewardmodels.heads.seen import Seen


class QueryHead(nn.Module):
    """A query attends to one layer after another, each answer updating it; a second one to the last layer.

    Their sum goes through two layers. `layers` are positions among the hidden states, 0 being the embeddings and
    -1 the last. Differences from the paper: hidden states are normalised before they are attended to, without which
    the early layers of a small backbone hardly speak.
    """

    def __init__(
        self,
        width: int,
        num_dimensions: int,
        layers: Sequence[int] = (6, 12, 18, 24),
        num_heads: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not layers:
            raise ValueError("a query head needs at least one layer")
        self.layers = tuple(layers)
        self.query = nn.Parameter(torch.randn(width) * width**-0.5)
        self.final_query = nn.Parameter(torch.randn(width) * width**-0.5)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.layers)
        self.steps = nn.ModuleList(nn.MultiheadAttention(width, num_heads) for _ in self.layers)
        self.final_norm = nn.LayerNorm(width)
        self.final = nn.MultiheadAttention(width, num_heads)
        self.score = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout),
            nn.Linear(width, num_dimensions, bias=False),
        )  # fmt: skip

    @property
    def num_layers(self) -> int:
        """More than the last hidden state is needed."""
        return len(self.layers) + 1

    def forward(self, seen: Seen) -> Readout:
        """-> values (S, D)."""
        hidden = ~seen.visible()
        num = hidden.shape[0]
        query = self.query.expand(num, 1, -1)
        for place, norm, step in zip(self.layers, self.norms, self.steps, strict=True):
            query = query + _attend(step, query, norm(_layer(seen, place)), hidden)
        last = self.final_norm(_layer(seen, -1))
        final = self.final_query.expand(num, 1, -1)
        pooled = query + _attend(self.final, final, last, hidden)
        return Readout(self.score(pooled[:, 0]))


def _layer(seen: Seen, place: int) -> Tensor:
    if not -len(seen.layers) <= place < len(seen.layers):
        raise ValueError(f"layer {place} is not among the {len(seen.layers)} hidden states of this backbone")
    return seen.layers[place][seen.rows].float()


def _attend(step: nn.Module, query: Tensor, states: Tensor, hidden: Tensor) -> Tensor:
    """Query (S, 1, W) over states (S, L, W); contiguous, since torch multiplies others in another way where weights are
    trained than where they are frozen, and a saved reward would differ in the last bit.
    """
    first, rest = (one.transpose(0, 1).contiguous() for one in (query, states))
    found: Tensor = step(first, rest, rest, key_padding_mask=hidden, need_weights=False)[0]
    return found.transpose(0, 1)
