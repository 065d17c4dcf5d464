"""The one builder of VLM inputs: prompts, source and candidate media -> tokens, pixels, explicit position ids.

It does what the stock processors do (their resize rule, patch order and placeholder expansion, checked by
tests), without two of their habits: gradients reach the pixels, and positions never depend on an earlier call.

Legend: B samples, L tokens, N patches of all media together, T frames, C H W, P patch side, M merge side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rewardmodels.pixels import PixelRule, patchify

Positions = Literal["mrope", "sequential"]


@dataclass(frozen=True)
class Template:
    """The order of a reward model's inputs; a saved model names the template and version it was trained with.

    `parts` holds literal special tokens, and the names `prompt`, `source` and `media` for what a sample brings.
    """

    name: str
    version: int
    parts: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{self.name}/{self.version}"

    @property
    def uses_source(self) -> bool:
        return "source" in self.parts

    @property
    def prompt_last(self) -> bool:
        """Whether everything before the prompt is the same for all prompts of one picture."""
        words = [part for part in self.parts if not part.startswith("<|")]
        return words[-1] == "prompt"


REWARD_TOKEN = "<|Reward|>"
TEMPLATES: dict[str, Template] = {
    template.key: template
    for template in (
        Template("prompt-media", 1, ("prompt", "media", REWARD_TOKEN)),
        Template("media-prompt", 1, ("media", "prompt", REWARD_TOKEN)),
        Template("prompt-source-media", 1, ("prompt", "source", "media", REWARD_TOKEN)),
    )
}
"""Never edit an entry: models were trained with it. Add a version."""


@dataclass(frozen=True, eq=False)
class VlmInputs:
    """A padded batch of B rows that ask for S scores, ready for a Qwen-type VLM."""

    input_ids: Tensor  # (B, L), right padded
    attention_mask: Tensor  # (B, L), or (B, 1, L, L) where a row holds several prompts
    position_ids: Tensor  # (3, B, L): time, height, width
    pixel_values: Tensor  # (N, C*tp*P*P)
    image_grid_thw: Tensor  # (media, 3)
    rows: Tensor  # (S,) the row of each score
    columns: Tensor  # (S, R) where its reward tokens stand

    def model_arguments(self) -> dict[str, Tensor]:
        """The keyword arguments of the stock model's forward."""
        names = ("input_ids", "attention_mask", "position_ids", "pixel_values", "image_grid_thw")
        return {name: getattr(self, name) for name in names}

    def to(self, device: torch.device | str) -> VlmInputs:
        """The same batch on another device."""
        return VlmInputs(**{item.name: getattr(self, item.name).to(device) for item in fields(self)})


@dataclass(eq=False)
class InputBuilder:
    """Builds `VlmInputs` with one template, one tokenizer and one pixel rule."""

    tokenizer: PreTrainedTokenizerBase
    rule: PixelRule
    template: Template
    positions: Positions = "mrope"
    max_prompt_tokens: int = 512
    image_token: str = "<|image_pad|>"
    start_token: str = "<|vision_start|>"
    end_token: str = "<|vision_end|>"
    _rows: dict[tuple[object, ...], Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        specials = [part for part in self.template.parts if part.startswith("<|")]
        for token in (*specials, self.image_token, self.start_token, self.end_token):
            if self.tokenizer.convert_tokens_to_ids(token) == self.tokenizer.unk_token_id:
                raise ValueError(
                    f"the tokenizer lacks the token {token}, which template {self.template.key} needs"
                )
        ids = self.tokenizer.convert_tokens_to_ids
        self._reward_ids = torch.tensor([ids(token) for token in specials])
        self._text = lru_cache(maxsize=65536)(self._tokenize)

    def __call__(
        self,
        prompts: Sequence[str],
        media: Sequence[Tensor],
        sources: Sequence[Tensor] | None = None,
        *,
        share: bool = False,
    ) -> VlmInputs:
        """One score per prompt; `media` and `sources` hold (T, C, H, W) tensors in [0, 1], of any sizes.

        With `share`, prompts that ask about the very same tensor stand in one row and see the picture, not each
        other: the scores are the same, the picture is read once.
        """
        if self.template.uses_source and sources is None:
            raise ValueError(f"template {self.template.key} needs the source media of each sample")
        share = share and self.template.prompt_last
        keys = [
            (id(media[i]), id(sources[i]) if sources else 0, 0 if share else i) for i in range(len(prompts))
        ]
        members: dict[tuple[int, int, int], list[int]] = {}
        for i, key in enumerate(keys):
            members.setdefault(key, []).append(i)
        flat: list[Tensor] = []
        slots = [part for part in self.template.parts if part in ("source", "media")]
        for group in members.values():
            for slot in slots:
                flat.append(sources[group[0]] if slot == "source" and sources else media[group[0]])
        pixels, grids = self._pixels(flat)
        num = len(slots)
        groups = [
            [self._row(prompts[i], tuple(grids[n * num : (n + 1) * num])) for i in group]
            for n, group in enumerate(members.values())
        ]
        order = torch.tensor([i for group in members.values() for i in group]).argsort()
        return self._pad(groups, order, pixels, torch.tensor(grids, device=pixels.device))

    def _pixels(self, media: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int, int]]]:
        """Patches of all media in order; media of one size are cut together."""
        by_size: dict[tuple[int, ...], list[int]] = {}
        for i, frames in enumerate(media):
            by_size.setdefault(tuple(frames.shape), []).append(i)
        grids: list[tuple[int, int, int]] = [(0, 0, 0)] * len(media)
        parts: list[Tensor] = [torch.empty(0)] * len(media)
        for members in by_size.values():
            patches, grid = patchify(torch.stack([media[i] for i in members]).float(), self.rule)
            if len(by_size) == 1:
                return patches.flatten(0, 1), [grid] * len(media)
            for i, rows in zip(members, patches, strict=True):
                parts[i], grids[i] = rows, grid
        return torch.cat(parts), grids

    def _tokenize(self, prompt: str) -> tuple[int, ...]:
        """Token ids of the user's words; special tokens written in a prompt stay plain text."""
        ids = self.tokenizer(prompt, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if len(ids) > self.max_prompt_tokens:
            raise ValueError(
                f"a prompt of {len(ids)} tokens is longer than {self.max_prompt_tokens}: shorten it or raise the limit"
            )
        special = set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}
        if special.intersection(ids):
            raise ValueError(f"prompt {prompt!r} holds a special token of the reward model: remove it")
        return tuple(ids)

    def _row(self, prompt: str, grids: tuple[tuple[int, int, int], ...]) -> Tensor:
        """Token ids and positions of one row: (4, L) int64, rows id, time, height, width."""
        key = (prompt, grids)
        found = self._rows.get(key)
        if found is None:
            if len(self._rows) > 65536:
                self._rows.clear()
            found = self._rows[key] = self._compose(prompt, grids)
        return found

    def _compose(self, prompt: str, grids: tuple[tuple[int, int, int], ...]) -> Tensor:
        token = self.tokenizer.convert_tokens_to_ids
        left = list(grids)
        pieces: list[Tensor] = []
        start = 0

        def text(ids: Sequence[int]) -> None:
            nonlocal start
            along = torch.arange(start, start + len(ids))
            pieces.append(torch.stack([torch.tensor(ids, dtype=torch.long), along, along, along]))
            start += len(ids)

        for part in self.template.parts:
            if part == "prompt":
                text(self._text(prompt))
            elif part in ("source", "media"):
                text([token(self.start_token)])
                t, h, w = left.pop(0)
                tall, wide = h // self.rule.merge_size, w // self.rule.merge_size
                place = (
                    torch.cartesian_prod(torch.arange(t), torch.arange(tall), torch.arange(wide)).T + start
                )
                pad = torch.full((1, place.shape[1]), token(self.image_token))
                pieces.append(torch.cat([pad, place]))
                start += max(t, tall, wide)
                text([token(self.end_token)])
            else:
                text([token(part)])
        row = torch.cat(pieces, 1)
        if self.positions == "sequential":
            row[1:] = torch.arange(row.shape[1])
        return row

    def _prefix(self, row: Tensor) -> int:
        """How many columns stand before the prompt."""
        ends = (row[0] == self.tokenizer.convert_tokens_to_ids(self.end_token)).nonzero()
        return int(ends[-1]) + 1

    def _pad(
        self, groups: Sequence[Sequence[Tensor]], order: Tensor, pixels: Tensor, grids: Tensor
    ) -> VlmInputs:
        """Rows of one or several prompts to one batch; `order` sorts the scores as they were asked for."""
        joined = [group[0] for group in groups]
        segments: list[Tensor] | None = None
        if any(len(group) > 1 for group in groups):
            segments = []
            for n, group in enumerate(groups):
                start = self._prefix(group[0])
                joined[n] = torch.cat([group[0], *(row[:, start:] for row in group[1:])], 1)
                tails = [torch.full((row.shape[1] - start,), k + 1) for k, row in enumerate(group)]
                segments.append(torch.cat([torch.zeros(start, dtype=torch.long), *tails]))
        width = max(row.shape[1] for row in joined)
        packed = torch.zeros(4, len(joined), width, dtype=torch.long)
        packed[0] = int(self.tokenizer.pad_token_id)
        real = torch.zeros(len(joined), width, dtype=torch.bool)
        for i, row in enumerate(joined):
            packed[:, i, : row.shape[1]] = row
            real[i, : row.shape[1]] = True
        mask = real.long() if segments is None else _visible(segments, width)
        found = ((packed[0][:, :, None] == self._reward_ids).any(-1) & real).nonzero()
        columns = found[:, 1].view(-1, len(self._reward_ids))
        rows = found[:: len(self._reward_ids), 0]
        made = VlmInputs(packed[0], mask, packed[1:], pixels, grids, rows[order], columns[order])
        return made.to(pixels.device)


def _visible(segments: Sequence[Tensor], width: int) -> Tensor:
    """(B, 1, L, L), true where a token may look: back, at the picture (segment 0) and at its own prompt."""
    table = torch.full((len(segments), width), -1)
    for i, segment in enumerate(segments):
        table[i, : len(segment)] = segment
    back = torch.ones(width, width, dtype=torch.bool).tril()
    allowed = (table[:, :, None] == table[:, None, :]) | (table == 0)[:, None, :]
    return ((allowed & back) | torch.eye(width, dtype=torch.bool))[:, None]
