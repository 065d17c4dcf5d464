"""Prompts as token ids of one length, for text towers that read no further.

Legend: B prompts, L tokens that the tower reads, begin and end mark included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


class PromptReader:
    """Cuts prompts to L tokens with the end mark kept, pads them to L, and knows which were cut.

    `encode` gives all ids of one prompt, begin and end mark included.
    """

    def __init__(self, encode: Callable[[str], Sequence[int]], *, length: int, end: int, pad: int) -> None:
        self.length, self.end, self.pad = length, end, pad
        self._encode: Callable[[str], Sequence[int]] = lru_cache(maxsize=8192)(encode)

    def is_long(self, prompt: str) -> bool:
        """Whether the prompt has more tokens than are read."""
        return len(self._encode(prompt)) > self.length

    def __call__(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids (B, L) and which of them are tokens of the prompt (B, L)."""
        ids = torch.full((len(prompts), self.length), self.pad, dtype=torch.long)
        known = torch.zeros(len(prompts), self.length, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            tokens = list(self._encode(prompt))
            if len(tokens) > self.length:
                tokens = [*tokens[: self.length - 1], self.end]
            ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
            known[row, : len(tokens)] = True
        return ids, known


def from_tokenizer(tokenizer: Any, *, length: int) -> PromptReader:
    """The reader of a transformers tokenizer that adds begin and end marks by itself."""

    def encode(prompt: str) -> Sequence[int]:
        ids: Sequence[int] = tokenizer(prompt, truncation=False, verbose=False).input_ids
        return tuple(ids)

    end = encode("")[-1]
    pad = tokenizer.pad_token_id
    return PromptReader(encode, length=length, end=end, pad=end if pad is None else pad)


def from_open_clip(*, length: int) -> PromptReader:
    """The reader of CLIP's own byte-pair vocabulary, which open_clip's wheel carries."""
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer(context_length=length)
    start, end = tokenizer.sot_token_id, tokenizer.eot_token_id
    return PromptReader(lambda prompt: (start, *tokenizer.encode(prompt), end), length=length, end=end, pad=0)
