"""A new reward model on a stock VLM of any family: reward tokens in the vocabulary, a fresh head, everything seeded.

Legend: V rows of the embedding, W hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from mmalign.seeds import seed_of
from rewardmodels.backbones import backbone_of
from rewardmodels.clip.weights import locate
from rewardmodels.clips import VideoRule
from rewardmodels.heads import build_head
from rewardmodels.pixels import PixelRule
from rewardmodels.settings import RewardSettings
from rewardmodels.vlm import VlmReward, quiet, read_pixels, templates_of

FILES = ("*.json", "*.txt", "*.jinja", "*.model", "*.safetensors")


def from_backbone(
    path: str | Path, settings: RewardSettings, *, seed: int = 0, video: VideoRule | None = None,
    pixels: tuple[int, int] | None = None, dtype: str = "float32",
) -> VlmReward:  # fmt: skip
    """A reward on the VLM of a folder or hub id, with the head and templates of `settings`, ready to be trained.

    `pixels` are the least and most pixels of a picture for families that read any size; `video` says how videos are
    read in time. The families with one position a token need `positions: sequential`. The same seed gives the same
    head and the same rows for the reward tokens.
    """
    folder = locate(path, FILES)
    with quiet():
        vlm, report = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=getattr(torch, dtype), attn_implementation="sdpa", output_loading_info=True
        )
    wrong = {kind: sorted(keys) for kind, keys in report.items() if keys and kind.endswith("_keys")}
    if wrong:
        raise ValueError(f"{folder}: the weights do not fit the model: {wrong}")
    backbone_of(vlm.config.model_type)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokens = dict.fromkeys(token for template in templates_of(settings) for token in template.specials)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "reward-weights"))
        add_tokens(vlm, tokenizer, tuple(tokens))
        width = vlm.config.get_text_config().hidden_size
        head = build_head(settings.head, width, len(settings.dimensions), settings.head_options)
    rule = read_pixels(folder, vlm.config)
    if isinstance(rule, PixelRule):
        low, high = pixels or (rule.min_pixels, rule.max_pixels)
        rule = replace(rule, eight_bit=True, min_pixels=low, max_pixels=high)
    elif pixels is not None:
        raise ValueError(f"{vlm.config.model_type} cuts pictures in tiles of one size: leave pixels out")
    return VlmReward(vlm, head, tokenizer, rule, settings, video=video)


@torch.no_grad()
def add_tokens(vlm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> None:
    """Add special tokens that the tokenizer lacks; their rows become the mean row with a little noise."""
    known = tokenizer.get_vocab()
    lacking = [token for token in tokens if token not in known]
    if not lacking:
        return
    tokenizer.add_special_tokens({"additional_special_tokens": lacking}, replace_extra_special_tokens=False)
    rows = vlm.get_input_embeddings().weight.shape[0]
    mean = vlm.get_input_embeddings().weight[:rows].float().mean(dim=0)
    spread = float(vlm.get_input_embeddings().weight.float().std()) * 0.1
    if len(tokenizer) > rows:
        vlm.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    weight = vlm.get_input_embeddings().weight
    for number in tokenizer.convert_tokens_to_ids(lacking):
        weight[number] = (mean + spread * torch.randn_like(mean)).to(weight.dtype)
