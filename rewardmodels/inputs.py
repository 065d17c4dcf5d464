"""The one builder of VLM inputs: prompts, source and candidate media -> tokens, pixels, explicit position ids.

It does what the stock processors do (their resize rules, patch order and placeholder expansion, checked by tests for
every family), without two of their habits: gradients reach the pixels, and positions never depend on an earlier call.
What differs from family to family stands in `rewardmodels.backbones`.

Legend: B rows, L tokens, S scores, R reward tokens, T frames, C H W.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rewardmodels.backbones.base import Backbone, Encoded, Layout, Piece, Span, Text, Token
from rewardmodels.backbones.qwen import QWEN3
from rewardmodels.clips import Clip, VideoRule, read_clip
from rewardmodels.packing import Row, VlmInputs, batched, joined
from rewardmodels.templates import REWARD_TOKEN, TEMPLATES, Template, is_special

__all__ = ["REWARD_TOKEN", "TEMPLATES", "InputBuilder", "Positions", "Template", "VlmInputs"]

Positions = Literal["mrope", "sequential"]


@dataclass(eq=False)
class InputBuilder:
    """Builds `VlmInputs` with one template, one tokenizer, one pixel rule and one backbone."""

    tokenizer: PreTrainedTokenizerBase
    rule: Any
    template: Template
    positions: Positions = "mrope"
    max_prompt_tokens: int = 512
    backbone: Backbone = QWEN3
    video: VideoRule = field(default_factory=VideoRule)
    _rows: dict[tuple[object, ...], Row] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.positions == "mrope" and not self.backbone.mrope:
            raise ValueError(
                f"{self.backbone.model_types[0]} has one position a token: set positions to sequential"
            )
        specials = [part for part in self.template.parts if is_special(part)]
        for token in (*specials, *self.backbone.tokens):
            if self._id(token) is None:
                raise ValueError(
                    f"the tokenizer lacks the token {token}, which template {self.template.key} needs"
                )
        self._guarded = {self._id(token) for token in (*specials, *self.backbone.tokens)}
        self._guarded |= set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}
        self._text = lru_cache(maxsize=65536)(self._tokenize)
        self._counted = lru_cache(maxsize=65536)(self._check_length)

    def _id(self, token: str) -> int | None:
        found = self.tokenizer.convert_tokens_to_ids(token)
        return None if found == self.tokenizer.unk_token_id else found

    def __call__(
        self,
        prompts: Sequence[str],
        media: Sequence[Tensor | Clip],
        sources: Sequence[Tensor | Clip] | None = None,
        *,
        share: bool = False,
    ) -> VlmInputs:
        """One score per prompt; `media` and `sources` hold (T, C, H, W) tensors in [0, 1], or clips, of any sizes.

        Several frames are a video. With `share`, prompts that ask about the very same tensor stand in one row and see
        the picture, not each other: the scores are the same, the picture is read once.
        """
        if self.template.uses_source and sources is None:
            raise ValueError(f"template {self.template.key} needs the source media of each sample")
        share = share and self.template.prompt_last
        slots = self.template.slots(source=sources is not None)
        sources = sources if "source" in slots else None
        keys = [
            (id(media[i]), id(sources[i]) if sources else 0, 0 if share else i) for i in range(len(prompts))
        ]
        members: dict[tuple[int, int, int], list[int]] = {}
        for i, key in enumerate(keys):
            members.setdefault(key, []).append(i)
        flat: list[Clip] = []
        for group in members.values():
            for slot in slots:
                one = sources[group[0]] if slot == "source" and sources else media[group[0]]
                flat.append(self._clip(one))
        encoded, num = self._encode(flat, alone=len(slots) == 1), len(slots)
        rows = [encoded[n * num : (n + 1) * num] for n in range(len(members))]
        groups = [
            [self._row(prompts[i], tuple(item.layout for item in row), sources is not None) for i in group]
            for row, group in zip(rows, members.values(), strict=True)
        ]
        order = torch.tensor([i for group in members.values() for i in group]).argsort()
        return self._batch(groups, order, self.backbone.collate(rows, self.rule))

    def together(
        self,
        prompts: Sequence[str],
        media: Sequence[Sequence[Tensor | Clip]],
        sources: Sequence[Tensor | Clip] | None = None,
    ) -> VlmInputs:
        """B rows of N candidates each, every one followed by the template's separator: columns (B, N)."""
        num = len(media[0])
        if len(self.template.reads) != 1 or any(len(group) != num for group in media):
            raise ValueError(
                "candidates of one forward pass need a template with one separator, and one number"
            )
        sources = sources if "source" in self.template.slots(source=sources is not None) else None
        heads = [[sources[i]] if sources else [] for i in range(len(prompts))]
        flat = [self._clip(one) for head, group in zip(heads, media, strict=True) for one in (*head, *group)]
        width = num + (sources is not None)
        encoded = self._encode(flat, alone=width == 1)
        rows = [encoded[n * width : (n + 1) * width] for n in range(len(prompts))]
        groups = [
            [self._row(prompt, tuple(item.layout for item in row), sources is not None)]
            for prompt, row in zip(prompts, rows, strict=True)
        ]
        return self._batch(groups, torch.arange(len(rows)), self.backbone.collate(rows, self.rule))

    def _clip(self, media: Tensor | Clip) -> Clip:
        return media if isinstance(media, Clip) else read_clip(media, self.video, {})

    def _encode(self, media: Sequence[Clip], *, alone: bool) -> list[Encoded]:
        """All media in order; those of one shape are cut together."""
        by_shape: dict[tuple[object, ...], list[int]] = {}
        for i, clip in enumerate(media):
            by_shape.setdefault((*clip.frames.shape, clip.is_video), []).append(i)
        found: list[Encoded | None] = [None] * len(media)
        for members in by_shape.values():
            made = self.backbone.encode([media[i] for i in members], self.rule, self.video, alone=alone)
            for i, item in zip(members, made, strict=True):
                found[i] = item
        return [item for item in found if item is not None]

    def _tokenize(self, words: str) -> tuple[int, ...]:
        """Token ids of words; special tokens written in them stay plain text."""
        ids = self.tokenizer(words, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if self._guarded.intersection(ids):
            raise ValueError(f"prompt {words!r} holds a special token of the reward model: remove it")
        return tuple(ids)

    def _check_length(self, prompt: str) -> None:
        num = len(self._text(prompt))
        if num > self.max_prompt_tokens:
            raise ValueError(
                f"a prompt of {num} tokens is longer than {self.max_prompt_tokens}: shorten it or raise the limit"
            )

    def _row(self, prompt: str, layouts: tuple[Layout, ...], source: bool) -> Row:
        """Tokens and positions of one prompt with its media; the same again is looked up."""
        key = (prompt, layouts, source)
        found = self._rows.get(key)
        if found is None:
            if len(self._rows) > 65536:
                self._rows.clear()
            self._counted(prompt)
            found = self._rows[key] = self._compose(self._pieces(prompt, layouts, source))
        return found

    def _pieces(self, prompt: str, layouts: Sequence[Layout], source: bool) -> list[Piece]:
        """The template with a sample's words and media in it."""
        left = list(layouts)
        pieces: list[Piece] = []
        for part in self.template.expanded(len(layouts) - source, source=source):
            if part == "prompt":
                pieces.append(Text(prompt))
            elif part in ("source", "media"):
                pieces += self.backbone.pieces(left.pop(0), self.rule)
            else:
                pieces.append(Token(part) if is_special(part) else Text(part))
        return pieces

    def _compose(self, pieces: Sequence[Piece]) -> Row:
        """Ids and positions; neighbouring words are tokenised together, as in one text."""
        columns: dict[str, list[int]] = {}
        parts: list[Tensor] = []
        width = start = prefix = 0
        for piece in joined(pieces):
            if isinstance(piece, Span):
                part, advance = self._span(piece, start)
            else:
                ids = self._text(piece.words) if isinstance(piece, Text) else (self._id(piece.name),)
                if isinstance(piece, Token) and piece.name in self.template.reads:
                    columns.setdefault(piece.name, []).append(width)
                along = torch.arange(start, start + len(ids))
                part = torch.stack([torch.tensor(ids, dtype=torch.long), along, along, along])
                advance = len(ids)
            if isinstance(piece, Span) or (isinstance(piece, Token) and piece.name in self.backbone.tokens):
                prefix = width + part.shape[1]
            parts.append(part)
            width, start = width + part.shape[1], start + advance
        packed = torch.cat(parts, 1)
        if self.positions == "sequential":
            packed[1:] = torch.arange(width)
        read = [column for token in self.template.reads for column in columns[token]]
        return Row(packed, torch.tensor(read), prefix)

    def _span(self, span: Span, start: int) -> tuple[Tensor, int]:
        """Placeholders (4, N) from a position on, and how far the position moves (by the larger side)."""
        number = self._id(span.token)
        if number is None:
            raise ValueError(f"the tokenizer lacks {span.token}, so the model cannot read this medium")
        ids = torch.full((1, span.count), number)
        if span.grid is None:
            return torch.cat([ids, torch.arange(start, start + span.count).expand(3, -1)]), span.count
        _, h, w = span.grid
        return torch.cat([ids, _places(span.grid, span.interval) + start]), max(h, w)

    def _batch(
        self, groups: Sequence[Sequence[Row]], order: Tensor, visual: Mapping[str, Tensor]
    ) -> VlmInputs:
        pad = int(self.tokenizer.pad_token_id)
        return batched(groups, order, visual, pad=pad, mrope=self.backbone.mrope)


@lru_cache(maxsize=256)
def _places(grid: tuple[int, int, int], interval: float) -> Tensor:
    """Positions (3, N) of a grid of time, height and width from 0 on; most media share one."""
    t, h, w = grid
    time = (torch.arange(t) * interval).long()
    return torch.cartesian_prod(time, torch.arange(h), torch.arange(w)).T
