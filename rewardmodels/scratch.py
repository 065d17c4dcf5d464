"""A VLM made from nothing but a recipe: a real Qwen3-VL class with a small configuration and a word tokenizer.

Legend: W hidden width, A heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from mmalign.seeds import seed_of
from rewardmodels.clips import VideoRule
from rewardmodels.heads import build_head
from rewardmodels.model_recipe import Model, Scratch
from rewardmodels.pixels import PixelRule
from rewardmodels.settings import RewardSettings
from rewardmodels.tokens import word_tokenizer
from rewardmodels.vlm import VlmReward, templates_of


def settings_of(
    model: Model, dimensions: tuple[str, ...], modalities: tuple[str, ...], *, max_prompt_tokens: int
) -> RewardSettings:
    """The settings of a new reward model, before any calibration."""
    return RewardSettings(
        model.name, model.template, model.positions, model.head, dimensions,
        modalities=modalities, mean=(0.0,) * len(dimensions), std=(1.0,) * len(dimensions),
        max_prompt_tokens=max_prompt_tokens, head_options=model.head_options,
        more_templates=model.more_templates, overall=model.overall,
    )  # fmt: skip


def build(
    model: Model, scratch: Scratch, words: Sequence[str], *, dimensions: tuple[str, ...], seed: int,
    modalities: tuple[str, ...] = ("image",),
) -> VlmReward:  # fmt: skip
    """A reward model with random weights; the same seed gives the same weights."""
    settings = settings_of(model, dimensions, modalities, max_prompt_tokens=64)
    templates = templates_of(settings)
    fixed = [word for template in templates for word in template.words]
    special = dict.fromkeys(token for template in templates for token in template.specials)
    tokenizer = word_tokenizer([*words, *fixed], tuple(special))
    token = tokenizer.convert_tokens_to_ids
    half = scratch.width // scratch.heads // 2
    sections = [half - 2 * (half * 3 // 8), half * 3 // 8, half * 3 // 8]  # time, height, width
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": scratch.width, "intermediate_size": 2 * scratch.width,
            "num_hidden_layers": scratch.layers, "num_attention_heads": scratch.heads,
            "num_key_value_heads": scratch.heads, "head_dim": scratch.width // scratch.heads,
            "max_position_embeddings": 512, "pad_token_id": tokenizer.pad_token_id, "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 100.0, "mrope_section": sections, "mrope_interleaved": True
            },
        },
        vision_config={
            "depth": scratch.vision_layers, "hidden_size": scratch.vision_width, "num_heads": scratch.heads,
            "intermediate_size": 2 * scratch.vision_width, "out_hidden_size": scratch.width,
            "patch_size": scratch.patch_size, "spatial_merge_size": 2, "temporal_patch_size": 2,
            "num_position_embeddings": (scratch.image_size // scratch.patch_size) ** 2,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=token("<|image_pad|>"), video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"), vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "reward-weights"))
        vlm = Qwen3VLForConditionalGeneration(config)
        head = build_head(model.head, scratch.width, len(dimensions), model.head_options)
    pixels = scratch.image_size**2
    rule = PixelRule(scratch.patch_size, min_pixels=pixels, max_pixels=pixels)
    video = VideoRule(min_frames=2, min_pixels=pixels, max_pixels=pixels)
    return VlmReward(vlm, head, tokenizer, rule, settings, video=video)
