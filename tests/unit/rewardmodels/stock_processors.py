"""The stock processors of every VLM family over the byte tokenizer, and what they are given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from tests.unit.rewardmodels.tiny_vlms import PROCESSORS, byte_tokenizer


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """(3, H, W) with 8-bit colours."""
    noise = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    return (noise * 255).round() / 255


def stock_processor(kind: str) -> Any:
    """The stock processor, with the Pillow image processor."""
    pytest.importorskip("torchvision")
    tokenizer = byte_tokenizer()
    for name in ("start_image_token", "end_image_token", "context_image_token", "video_token"):
        token = {"s": "<img>", "e": "</img>", "c": "<IMG_CONTEXT>", "v": "<video>"}[name[0]]
        if kind == "internvl":
            setattr(tokenizer, name, token)
            setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    images, processor, video, options = {
        "qwen2_vl": ("Qwen2VLImageProcessorPil", "Qwen2VLProcessor", "Qwen2VLVideoProcessor", {}),
        "qwen2_5_vl": ("Qwen2VLImageProcessorPil", "Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor", {}),
        "qwen3_vl": ("Qwen2VLImageProcessorPil", "Qwen3VLProcessor", "Qwen3VLVideoProcessor", {}),
        "idefics3": ("Idefics3ImageProcessorPil", "Idefics3Processor", "", {"image_seq_len": 4}),
        "smolvlm": ("SmolVLMImageProcessorPil", "SmolVLMProcessor", "SmolVLMVideoProcessor", {"image_seq_len": 4}),
        "internvl": ("GotOcr2ImageProcessorPil", "InternVLProcessor", "InternVLVideoProcessor",
                     {"image_seq_length": 4}),
        "llava_onevision": (
            "LlavaOnevisionImageProcessorPil", "LlavaOnevisionProcessor", "LlavaOnevisionVideoProcessor",
            {"num_image_tokens": 4, "vision_feature_select_strategy": "full"},
        ),
    }[kind]  # fmt: skip
    if kind == "smolvlm":
        pytest.importorskip("num2words")
    made = getattr(transformers, images)(**PROCESSORS[kind])
    record = {**PROCESSORS[kind], "size": {"shortest_edge": 28 * 28, "longest_edge": 56 * 56}}
    if kind == "qwen3_vl":  # its pixels are those of all frames together
        record["size"] = {"shortest_edge": 4 * 28 * 28, "longest_edge": 4 * 56 * 56}
    if kind == "smolvlm":
        record = {
            name: PROCESSORS[kind][name] for name in ("size", "max_image_size", "image_mean", "image_std")
        }
    elif not kind.startswith("qwen"):
        record = {name: PROCESSORS[kind][name] for name in ("size", "image_mean", "image_std", "resample")}
    if video:
        options = {**options, "video_processor": getattr(transformers, video)(**record)}
    return getattr(transformers, processor)(image_processor=made, tokenizer=tokenizer, **options)


def placeholder(kind: str) -> str:
    if kind.startswith("qwen"):
        return "<|vision_start|><|image_pad|><|vision_end|>"
    return {"internvl": "<IMG_CONTEXT>"}.get(kind, "<image>")


def video_placeholder(kind: str) -> str:
    return "<|vision_start|><|video_pad|><|vision_end|>" if kind.startswith("qwen") else "<video>"


def eight(image: Tensor) -> Any:
    return (image * 255).round().byte()
