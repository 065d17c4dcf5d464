"""Rows of tokens become a padded batch: what a VLM gets, and who sees whom where several prompts share a row.

Legend: B rows, L tokens, S scores, R reward tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rewardmodels.backbones.base import Piece, Text

__all__ = ["Row", "VlmInputs", "batched", "joined", "segments_of", "stacked", "visible"]


@dataclass(frozen=True, eq=False)
class VlmInputs:
    """A padded batch of B rows that ask for S scores, ready for a VLM."""

    input_ids: Tensor  # (B, L), right padded
    attention_mask: Tensor  # (B, L), or (B, 1, L, L) where a row holds several prompts
    position_ids: Tensor  # (3, B, L): time, height, width; or (B, L)
    visual: Mapping[str, Tensor]  # pixels and their sizes, by the names of the model's arguments
    rows: Tensor  # (S,) the row of each score
    columns: Tensor  # (S, R) where its reward tokens stand

    @property
    def pixel_values(self) -> Tensor:
        """The pixels of pictures."""
        return self.visual["pixel_values"]

    def model_arguments(self) -> dict[str, Tensor]:
        """The keyword arguments of the stock model's forward."""
        names = ("input_ids", "attention_mask", "position_ids")
        return {**{name: getattr(self, name) for name in names}, **self.visual}

    def to(self, device: torch.device | str) -> VlmInputs:
        """The same batch on another device."""
        moved = {name: value.to(device) for name, value in self.visual.items()}
        names = ("input_ids", "attention_mask", "position_ids", "rows", "columns")
        return replace(self, visual=moved, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True, eq=False)
class Row:
    """One prompt with its media as tokens."""

    packed: Tensor  # (4, L) int64: id, time, height, width
    columns: Tensor  # (R,) where the reward tokens stand
    prefix: int  # how many columns end with the last medium


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbouring words as one piece; empty words are left out.

    >>> joined([Text("a "), Text("b"), Text("")])
    [Text(words='a b')]
    """
    found: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Text) and found and isinstance(found[-1], Text):
            found[-1] = Text(found[-1].words + piece.words)
        else:
            found.append(piece)
    return [piece for piece in found if not isinstance(piece, Text) or piece.words]


def batched(
    groups: Sequence[Sequence[Row]], order: Tensor, visual: Mapping[str, Tensor], *, pad: int, mrope: bool
) -> VlmInputs:
    """Rows of one or several prompts on the same media to one batch; `order` sorts the S scores as they were asked
    for. With `mrope` tokens have three positions.
    """
    lines: list[Tensor] = []
    columns: list[Tensor] = []
    for group in groups:
        start, width = group[0].prefix, group[0].packed.shape[1]
        columns.append(group[0].columns)
        for row in group[1:]:
            columns.append(row.columns - start + width)
            width += row.packed.shape[1] - start
        tails = [row.packed[:, start:] for row in group[1:]]
        lines.append(torch.cat([group[0].packed, *tails], 1) if tails else group[0].packed)
    packed, mask = stacked(lines, pad)
    if any(len(group) > 1 for group in groups):
        mask = visible([segments_of(group) for group in groups], packed.shape[2])
    rows = torch.tensor([n for n, group in enumerate(groups) for _ in group])
    positions = packed[1:] if mrope else packed[1]
    made = VlmInputs(packed[0], mask, positions, visual, rows[order], torch.stack(columns)[order])
    return made.to(next(iter(visual.values())).device)


def stacked(lines: Sequence[Tensor], pad: int) -> tuple[Tensor, Tensor]:
    """Rows (4, L) padded on the right to (4, B, L), and the mask (B, L) of real tokens."""
    width = max(line.shape[1] for line in lines)
    packed = torch.zeros(4, len(lines), width, dtype=torch.long)
    packed[0] = pad
    real = torch.zeros(len(lines), width, dtype=torch.long)
    for i, line in enumerate(lines):
        packed[:, i, : line.shape[1]] = line
        real[i, : line.shape[1]] = 1
    return packed, real


def segments_of(group: Sequence[Row]) -> Tensor:
    """(L,) of a row of several prompts: 0 up to the end of the picture, then 1 for the first prompt, 2, ..."""
    start = group[0].prefix
    tails = [torch.full((row.packed.shape[1] - start,), k + 1) for k, row in enumerate(group)]
    return torch.cat([torch.zeros(start, dtype=torch.long), *tails])


def visible(segments: Sequence[Tensor], width: int) -> Tensor:
    """(B, 1, L, L), true where a token may look: back, at the picture (segment 0) and at its own prompt."""
    table = torch.full((len(segments), width), -1)
    for i, segment in enumerate(segments):
        table[i, : len(segment)] = segment
    back = torch.ones(width, width, dtype=torch.bool).tril()
    allowed = (table[:, :, None] == table[:, None, :]) | (table == 0)[:, None, :]
    return ((allowed & back) | torch.eye(width, dtype=torch.bool))[:, None]
