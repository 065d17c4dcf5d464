"""A published state dict becomes a reward: the stock class without random weights, a float32 head, a report.

Legend: W hidden width, D dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, PreTrainedModel, PreTrainedTokenizerBase

from rewardmodels.checkpoints.files import Base
from rewardmodels.checkpoints.keys import kind_of, parted
from rewardmodels.clip.weights import load_strictly
from rewardmodels.clips import VideoRule
from rewardmodels.heads import build_head
from rewardmodels.settings import RewardSettings
from rewardmodels.templates import TEMPLATES, Template
from rewardmodels.vlm import VlmReward

PADDED = 64
"""Embeddings whose number is a multiple of this may be padded; others end with the last token."""


@dataclass(frozen=True)
class LoadReport:
    """What was loaded: weights by class, merged adapters, the prompt."""

    source: str
    counts: Mapping[str, int]
    merged: int
    template: str
    notes: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        weights = ", ".join(f"{num} {kind}" for kind, num in sorted(self.counts.items()))
        adapters = f"; {self.merged} adapters merged" if self.merged else ""
        more = "".join(f"; {note}" for note in self.notes)
        return f"{self.source}: {weights}{adapters}; none missing, none left over; {self.template}{more}"


@dataclass(frozen=True, eq=False)
class Parts:
    """A published checkpoint as its reader found it; `heads` are named as in our head classes."""

    source: str
    state: Mapping[str, Tensor]
    head: Mapping[str, Tensor]
    base: Base
    merged: int = 0
    notes: tuple[str, ...] = ()


def renamed(head: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Head weights with published beginnings of names replaced by ours.

    >>> list(renamed({"rm_head.0.weight": torch.ones(1)}, {"rm_head.": "score."}))
    ['score.0.weight']
    """
    found = {}
    for name, value in head.items():
        start = next((old for old in names if name.startswith(old)), None)
        if start is None:
            raise ValueError(f"the checkpoint has a head weight {name} that this layout does not know")
        found[names[start] + name[len(start) :]] = value
    return found


def add_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str], num_rows: int) -> None:
    """Register reward tokens as the publisher did, at the end, unless the tokenizer has them; check their rows."""
    known = tokenizer.get_vocab()
    fresh = [token for token in tokens if token not in known]
    if fresh:
        tokenizer.add_special_tokens({"additional_special_tokens": fresh}, replace_extra_special_tokens=False)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in tokens}
    beyond = [f"{token} ({number})" for token, number in ids.items() if number >= num_rows]
    if beyond:
        raise ValueError(
            f"the checkpoint has {num_rows} embeddings and none for {', '.join(beyond)}: the tokenizer is not its own"
        )
    if fresh and num_rows != len(tokenizer) and num_rows % PADDED:
        raise ValueError(
            f"the checkpoint has {num_rows} embeddings, base_config with the reward tokens {len(tokenizer)} tokens: "
            "the reward tokens would be other rows than those it was trained with; give the base model it names"
        )


def build_vlm(state: Mapping[str, Tensor], config: Any, source: str) -> PreTrainedModel:
    """The stock class of a configuration with exactly these weights; nothing is initialised at random."""
    rows = _embeddings(state, source).shape[0]
    config.get_text_config().vocab_size = rows
    with init_empty_weights(include_buffers=False):
        vlm = AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa")
    tied = bool(getattr(config, "tie_word_embeddings", False))
    given = dict(state)
    if tied:
        given["lm_head.weight"] = _embeddings(state, source)
    load_strictly(vlm, given, source=source)
    if tied:
        vlm.tie_weights()
    empty = [name for name, value in (*vlm.named_parameters(), *vlm.named_buffers()) if value.is_meta]
    assert not empty, f"weights without values: {empty[:3]}"
    return vlm


def _embeddings(state: Mapping[str, Tensor], source: str) -> Tensor:
    found = state.get("model.language_model.embed_tokens.weight")
    if found is None:
        raise ValueError(f"{source} has no token embeddings: it is not a complete Qwen-VL checkpoint")
    return found


def as_reward(
    parts: Parts, settings: RewardSettings, *, rule: Any, video: VideoRule | None, tokens: Sequence[str],
    template_file: str | Sequence[str] | None, batch_size: int, device: str | torch.device, dtype: str,
) -> VlmReward:  # fmt: skip
    """The reward of a checkpoint's parts, frozen, in evaluation mode; `.report` says what was loaded."""
    add_tokens(parts.base.tokenizer, tokens, _embeddings(parts.state, parts.source).shape[0])
    templates, words = templates_of(settings, template_file)
    vlm = build_vlm(parts.state, parts.base.config, parts.source).to(precision(dtype, device))
    width = vlm.config.get_text_config().hidden_size
    with init_empty_weights(include_buffers=False):
        head: nn.Module = build_head(settings.head, width, len(settings.dimensions), settings.head_options)
    load_strictly(head, parts.head, source=f"{parts.source}, reward head")
    reward = VlmReward(
        vlm, head, parts.base.tokenizer, rule, settings,
        batch_size=batch_size, video=video, templates=templates,
    )  # fmt: skip
    counts = Counter([*map(kind_of, parts.state), *["reward head"] * len(parts.head)])
    reward.report = LoadReport(parts.source, counts, parts.merged, words, parts.notes)
    reward.requires_grad_(False)
    return reward.eval().to(device)


def templates_of(
    settings: RewardSettings, template_file: str | Sequence[str] | None
) -> tuple[list[Template], str]:
    """The templates of a reward, from the user's files if there are any, and a word on which they are."""
    ours = [TEMPLATES[key] for key in (settings.template, *settings.more_templates)]
    if not template_file:
        return ours, "prompt in mmalign's words (template_file gives the published one)"
    given = template_file.split(",") if isinstance(template_file, str) else list(template_file)
    if len(given) != len(ours):
        raise ValueError(
            f"this reward asks {len(ours)} prompts: give as many template files, got {len(given)}"
        )
    found = [Template.read(path.strip(), like) for path, like in zip(given, ours, strict=True)]
    return found, f"prompt from {', '.join(Path(path).name for path in given)}"


def precision(dtype: str, device: str | torch.device) -> torch.dtype:
    """`auto` is bfloat16 on an accelerator and float32 on a CPU."""
    if dtype == "auto":
        return torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
    found: torch.dtype = getattr(torch, dtype)
    return found


def state_and_head(
    state: Mapping[str, Tensor], names: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The VLM's weights, and the head's under our names."""
    body, head = parted(state)
    if not head:
        raise ValueError(
            "the checkpoint has no reward head (rm_head): it is a plain VLM, or an adapter alone"
        )
    return body, renamed(head, names)
