"""Attention over many small pictures at once, for vision towers that pack all patches into one sequence.

Stock towers either call a flash kernel with sequence borders, or cut the sequence and attend picture by picture,
which costs a Python loop per layer. `BLOCKS` answers the flash-style call with PyTorch's own attention: pictures of
one size become a batch. The numbers are those of the stock loop.

Legend: N patches of all pictures, B pictures, A heads, E head width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

BLOCKS = "mmalign_flash_blocks"
"""The name must hold "flash": that is how stock towers choose between one call and a loop."""


def attend_blocks(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None,
    *, cu_seq_lens_q: Tensor, scaling: float | None = None, dropout: float = 0.0, **unused: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """(1, A, N, E) queries, keys and values, cut at `cu_seq_lens_q` -> (1, N, A, E)."""
    lengths = torch.diff(cu_seq_lens_q)
    _, heads, num, width = query.shape

    def cut(tensor: Tensor, start: int, stop: int, length: int) -> Tensor:
        return tensor[0, :, start:stop].reshape(heads, -1, length, width).transpose(0, 1)

    parts, start = [], 0
    for length, count in _runs(lengths.tolist()):
        stop = start + length * count
        q, k, v = (cut(tensor, start, stop, length) for tensor in (query, key, value))
        seen = F.scaled_dot_product_attention(q, k, v, scale=scaling, dropout_p=dropout)
        parts.append(seen.transpose(1, 2).reshape(-1, heads, width))
        start = stop
    assert start == num
    return torch.cat(parts)[None], None


def _runs(lengths: list[int]) -> list[tuple[int, int]]:
    """Neighbours of equal length as (length, count).

    >>> _runs([4, 4, 9, 4])
    [(4, 2), (9, 1), (4, 1)]
    """
    runs: list[tuple[int, int]] = []
    for length in lengths:
        if runs and runs[-1][0] == length:
            runs[-1] = (length, runs[-1][1] + 1)
        else:
            runs.append((length, 1))
    return runs


def use_blocks(tower: nn.Module) -> None:
    """Let a vision tower with a `config` attend through `BLOCKS`."""
    AttentionInterface.register(BLOCKS, attend_blocks)
    tower.config._attn_implementation = BLOCKS  # type: ignore[union-attr]
