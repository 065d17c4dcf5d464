"""Tiny instruction models with random weights, written to folders in the layout of published checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|vision_start|>", "<|vision_end|>")
WORDS = ("yes", "Yes", " yes", "no", "No", " no", "Verdict:")
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' %}PICTURE{% elif c.type == 'video' %}VIDEO{% else %}"
    "{{ c.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat(picture: str, video: str) -> str:
    """The chat template of a model that writes pictures and videos so."""
    return CHAT.replace("PICTURE", picture).replace("VIDEO", video)


def tokenizer(*further: str) -> PreTrainedTokenizerFast:
    """Bytes, a few whole words, and control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_tokens([AddedToken(word, normalized=False) for word in WORDS])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=[*SPECIAL, *further], clean_up_tokenization_spaces=False,
    )  # fmt: skip


def qwen(folder: Path, *, seed: int = 0) -> Path:
    """A tiny Qwen2.5-VL: config, safetensors, tokenizer, processor, chat template, generation config."""
    words = tokenizer("<|image_pad|>", "<|video_pad|>")
    token = words.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
            "bos_token_id": token("<|endoftext|>"), "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"), "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 32, "out_hidden_size": 32, "num_heads": 2,
            "window_size": 56, "fullatt_block_indexes": [0], "tokens_per_second": 2,
        },
        image_token_id=token("<|image_pad|>"), video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"), vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=False,
    )  # fmt: skip
    limits = {"min_pixels": 28 * 28, "max_pixels": 28 * 28 * 16}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**limits), words, Qwen2VLVideoProcessor(**limits),
        chat_template=chat(*(f"<|vision_start|><|{kind}_pad|><|vision_end|>" for kind in ("image", "video"))),
    )  # fmt: skip
    return _write(folder, Qwen2_5_VLForConditionalGeneration, config, processor, seed)


def llava(folder: Path, *, seed: int = 0) -> Path:
    """A tiny LLaVA: another backbone through the same path."""
    words = tokenizer("<image>")
    config = LlavaConfig(
        text_config={
            "model_type": "llama", "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 1024, "pad_token_id": words.pad_token_id,
            "eos_token_id": words.eos_token_id,
        },
        vision_config={
            "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "projection_dim": 16,
        },
        image_token_id=words.convert_tokens_to_ids("<image>"), image_seq_length=4,
    )  # fmt: skip
    from transformers import CLIPImageProcessor

    images = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        images, words, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=chat("<image>", ""),
    )  # fmt: skip
    return _write(folder, LlavaForConditionalGeneration, config, processor, seed)


def _write(folder: Path, kind: type[PreTrainedModel], config: Any, processor: Any, seed: int) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
        for parameter in model.parameters():  # far from uniform, so that answers differ
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    model.generation_config.update(
        repetition_penalty=3.0, temperature=0.01, do_sample=True
    )  # must not be used
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def adapter(
    folder: Path, base: Path, *, names: str = "new", zero: bool = False, rank: int = 2, **settings: Any
) -> Path:
    """A LoRA adapter on the attention of a tiny Qwen, as peft writes it; `names="old"` as transformers 4.49 did,
    "deep" with a layer too many, "wide" for a wider model.
    """
    model = AutoModelForImageTextToText.from_pretrained(base)
    folder.mkdir(parents=True, exist_ok=True)
    streams = torch.Generator().manual_seed(7)
    weights = {}
    for name, module in model.named_modules():
        if "language_model" in name and name.endswith(("q_proj", "v_proj")):
            key = name.replace("model.language_model.", "model.") if names == "old" else name
            a = torch.randn(rank, module.in_features, generator=streams) * 0.3
            b = torch.randn(module.out_features, rank, generator=streams) * 0.3
            if names == "deep":
                key = key.replace("layers.1", "layers.9")
            if names == "wide":
                a = torch.cat([a, a], 1)
            weights[f"base_model.model.{key}.lora_A.weight"] = a
            weights[f"base_model.model.{key}.lora_B.weight"] = torch.zeros_like(b) if zero else b
    save_file(weights, folder / "adapter_model.safetensors")
    record = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(base), "r": rank,
        "lora_alpha": 4, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False,
        "target_modules": ["q_proj", "v_proj"], "use_dora": False, "use_rslora": False, **settings,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(record))
    return folder
