"""A tiny checkpoint that answers in a given form, with numbers that depend on the pictures and words it was shown.

Nothing of the model is replaced: the weights alone make it say this. A few dimensions of the residual stream belong to
the current token and nothing else writes into them; the head reads from them what comes next. Where several numbers
may come next, the other dimensions decide, which attention fills from the pictures first and the whole question then.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.unit.rewardmodels.judges import tiny_chat

LOUD, CLEAR, SHARP = 20.0, 1000.0, 30.0
"""How large the current token stands in its dimensions, the head's gain on them, and on the others."""

Slot = tuple[Sequence[str], str]
"""What may be said at a place of the answer, and the text up to the next place."""


def write(folder: Path, opening: str, slots: Sequence[Slot], *, seed: int = 0) -> Path:
    """A Qwen2.5-VL that says `opening`, then one option of each slot, and ends; in the layout of `save_pretrained`."""
    tiny_chat.qwen(folder, seed=seed)
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    steps = [[opening], *([option + after for option in options] for options, after in slots)]
    tokenizer = processor.tokenizer
    tokenizer.add_tokens([AddedToken(text, normalized=False) for step in steps for text in step])
    model.resize_token_embeddings(len(tokenizer))
    model.config.text_config.max_position_embeddings = 8192
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    tokens = [newline, *(tokenizer.convert_tokens_to_ids(step) for step in steps), [tokenizer.eos_token_id]]
    _plant(model, tokens, torch.Generator().manual_seed(seed))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@torch.no_grad()
def _plant(model: torch.nn.Module, tokens: Sequence[Sequence[int]], streams: torch.Generator) -> None:
    """Any of `tokens[k]` is followed by one of `tokens[k + 1]`."""
    own = len(tokens) - 1
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    embedding[:, own:] = 0.3 * torch.randn(embedding[:, own:].shape, generator=streams)
    embedding[:, :own] = 0.0
    head.zero_()
    for k in range(own):
        embedding[list(tokens[k])] = 0.0
        embedding[list(tokens[k]), k] = LOUD
        head[list(tokens[k + 1]), k] = CLEAR
    for step in tokens[1:]:
        head[list(step), own:] = SHARP * torch.randn(len(step), head.shape[1] - own, generator=streams)
    _look_at_pictures(model.model, own)
    for layer in model.model.language_model.layers:
        layer.self_attn.o_proj.weight[:own] = 0.0
        layer.mlp.down_proj.weight[:own] = 0.0


def _look_at_pictures(model: torch.nn.Module, mark: int) -> None:
    """Dimension `mark` says what is a picture, and all heads of the first layer look there, by their slowest turn."""
    model.get_input_embeddings().weight[:, mark] = 0.0
    last = model.visual.merger.mlp[-1]
    last.weight[mark], last.bias[mark] = 0.0, LOUD
    attention = model.language_model.layers[0].self_attn
    half = attention.head_dim // 2
    for head in range(attention.k_proj.out_features // attention.head_dim):
        attention.k_proj.weight[head * attention.head_dim + half - 1, mark] = LOUD
    for head in range(attention.q_proj.out_features // attention.head_dim):
        attention.q_proj.bias[head * attention.head_dim + half - 1] = LOUD
