"""Tiny random models of every real VLM class, with a byte tokenizer, for tests without any download."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel, PreTrainedTokenizerFast

from rewardmodels.backbones import backbone_of
from rewardmodels.heads import build_head
from rewardmodels.settings import RewardSettings
from rewardmodels.vlm import VlmReward

SPECIAL = (
    "<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<image>", "<video>",
    "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<img>", "</img>", "<IMG_CONTEXT>",
    *(f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)),
)  # fmt: skip
REWARDS = (
    "<|Reward|>", "<|VQ_reward|>", "<|MQ_reward|>", "<|TA_reward|>", "<|IF_reward|>", "<|RQ_reward|>", "<|EE_reward|>",
)  # fmt: skip


def byte_tokenizer(special: tuple[str, ...] = (*SPECIAL, *REWARDS)) -> PreTrainedTokenizerFast:
    """Byte-level BPE without merges: every byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=list(special),
    )  # fmt: skip


def config_of(kind: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    """A configuration of a `model_type` with a hidden width of 32."""
    token = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 4096, "head_dim": 16,
        "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    if kind.startswith("qwen"):
        return AutoConfig.for_model(kind, **_qwen(kind, text, token))
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind in ("idefics3", "smolvlm"):
        return AutoConfig.for_model(
            kind, text_config={"model_type": "llama", **text}, image_token_id=token("<image>"), scale_factor=2,
            vision_config={**vision, "image_size": 28, "patch_size": 7}, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
    if kind == "internvl":
        return AutoConfig.for_model(
            kind, text_config={"model_type": "qwen2", **text}, image_token_id=token("<IMG_CONTEXT>"),
            vision_config={**vision, "image_size": [28, 28], "patch_size": [7, 7]}, downsample_ratio=0.5,
        )  # fmt: skip
    return AutoConfig.for_model(
        kind, text_config={"model_type": "qwen2", **text}, image_token_index=token("<image>"),
        video_token_index=token("<video>"), image_grid_pinpoints=[[28, 28], [28, 56], [56, 28]],
        vision_config={"model_type": "siglip_vision_model", **vision, "image_size": 28, "patch_size": 14},
        vision_feature_select_strategy="full", vision_feature_layer=-1,
    )  # fmt: skip


def _qwen(kind: str, text: dict[str, Any], token: Any) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    if kind == "qwen3_vl":
        rope["mrope_interleaved"] = True
    vision = {
        "qwen2_vl": {"embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14},
        "qwen2_5_vl": {
            "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32, "num_heads": 2, "window_size": 56,
            "fullatt_block_indexes": [1], "tokens_per_second": 2, "patch_size": 14,
        },
        "qwen3_vl": {
            "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32, "num_heads": 2, "patch_size": 16,
            "num_position_embeddings": 64, "deepstack_visual_indexes": [0],
        },
    }[kind]  # fmt: skip
    return {
        "text_config": {**text, "rope_parameters": rope}, "vision_config": {"depth": 2, **vision},
        "image_token_id": token("<|image_pad|>"), "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"), "vision_end_token_id": token("<|vision_end|>"),
        "tie_word_embeddings": False,
    }  # fmt: skip


PROCESSORS: dict[str, dict[str, Any]] = {
    **{
        kind: {
            "patch_size": 16 if kind == "qwen3_vl" else 14, "merge_size": 2, "temporal_patch_size": 2,
            "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28],
            "size": {"shortest_edge": 28 * 28, "longest_edge": 112 * 112},
        }
        for kind in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
    },
    **{
        kind: {
            "size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}, "resample": 1,
            "do_image_splitting": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        }
        for kind in ("idefics3", "smolvlm")
    },
    "internvl": {
        "size": {"height": 28, "width": 28}, "crop_to_patches": True, "min_patches": 1, "max_patches": 4,
        "image_mean": [0.48, 0.46, 0.41], "image_std": [0.23, 0.22, 0.23], "resample": 3,
    },
    "llava_onevision": {
        "size": {"height": 28, "width": 28}, "image_grid_pinpoints": [[28, 28], [28, 56], [56, 28]],
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3,
    },
}  # fmt: skip
"""The fields of a stock `preprocessor_config.json` by `model_type`."""


def tiny_vlm(kind: str, *, seed: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A model of the real class with random weights, and its tokenizer."""
    tokenizer = byte_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(
            config_of(kind, tokenizer), attn_implementation="sdpa"
        )
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    return model.eval(), tokenizer


def tiny_reward_of(
    kind: str, *, template: str = "media-prompt/1", head: str = "linear", **options: Any
) -> VlmReward:
    """A reward on a tiny model of a `model_type`."""
    model, tokenizer = tiny_vlm(kind)
    rule = backbone_of(kind).read_rule(PROCESSORS[kind], model.config)
    positions = "mrope" if backbone_of(kind).mrope else "sequential"
    dimensions = options.pop("dimensions", ("overall",))
    settings = RewardSettings(
        f"tiny-{kind}", template, options.pop("positions", positions), head, dimensions, ("image", "edit", "video"),
        (0.0,) * len(dimensions), (1.0,) * len(dimensions),
    )  # fmt: skip
    made = build_head(head, 32, len(dimensions))
    return VlmReward(model, made, tokenizer, rule, settings, **options).eval().requires_grad_(False)
