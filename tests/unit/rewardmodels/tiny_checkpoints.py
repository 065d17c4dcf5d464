"""Tiny random checkpoints in the file layouts and under the names that the published ones have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tests.unit.rewardmodels.tiny_vlms import (
    PROCESSORS,
    REWARDS,
    SPECIAL,
    byte_tokenizer,
    config_of,
    tiny_vlm,
)

RANK, ALPHA = 2, 8.0
TRAINED = ("q_proj", "down_proj")


def legacy(name: str) -> str:
    """The name a weight had before transformers 4.52."""
    if name.startswith("model.visual."):
        return name.removeprefix("model.")
    return name.replace("model.language_model.", "model.")


def random(*shape: int, seed: int = 0) -> Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def base_folder(folder: Path, kind: str, tokens: tuple[str, ...] = ()) -> Path:
    """What a base model's folder holds beside its weights."""
    tokenizer = byte_tokenizer((*SPECIAL, *tokens))
    tokenizer.save_pretrained(folder)
    config_of(kind, tokenizer).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSORS[kind]))
    return folder


def grown(kind: str, tokens: tuple[str, ...]) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A tiny VLM whose embeddings end with the reward tokens, as `resize_token_embeddings` leaves them."""
    model, _ = tiny_vlm(kind)
    tokenizer = byte_tokenizer((*SPECIAL, *tokens))
    model.resize_token_embeddings(len(tokenizer))
    return model, tokenizer


def ranknet(prefix: str, width: int = 32, seed: int = 0) -> dict[str, Tensor]:
    """The MLP of HPSv3 and EditReward, with 8 and 4 in place of 1024 and 16; biases keep its ReLUs awake."""
    shapes = {0: (8, width), 3: (4, 8), 5: (2, 4)}
    return {
        f"{prefix}.{layer}.{kind}": random(*(shape if kind == "weight" else shape[:1]), seed=seed + layer)
        + float(kind == "bias")
        for layer, shape in shapes.items()
        for kind in ("weight", "bias")
    }


def video_reward(folder: Path, *, zero: bool = False) -> dict[str, Any]:
    """`model_config.json`, `checkpoint-*/model.pth` with peft names, `checkpoint-*/tokenizer`."""
    tokens = REWARDS[1:4]
    model, tokenizer = grown("qwen2_vl", tokens)
    step = folder / "checkpoint-12"
    (step / "tokenizer").mkdir(parents=True)
    (folder / "checkpoint-3").mkdir()
    tokenizer.save_pretrained(step / "tokenizer")
    state = peft_state(model, zero=zero) | {"base_model.model.rm_head.weight": random(1, 32, seed=5)}
    torch.save(state, step / "model.pth")
    facts = {
        "data_config": {"fps": 2, "max_frame_pixels": 200704},
        "peft_lora_config": {"lora_r": RANK, "lora_alpha": ALPHA},
        "inference_config": {
            "VQ_mean": 0.5, "VQ_std": 2.0, "MQ_mean": -0.5, "MQ_std": 1.5, "TA_mean": 0.1, "TA_std": 0.5,
        },
    }  # fmt: skip
    (folder / "model_config.json").write_text(json.dumps(facts))
    return {
        "path": str(folder), "base_config": str(base_folder(folder / "base", "qwen2_vl")), "max_pixels": 56 * 56,
    }  # fmt: skip


def peft_state(model: PreTrainedModel, *, zero: bool = False) -> dict[str, Tensor]:
    """All weights under peft's names, with adapters on some of the language model's maps."""
    found: dict[str, Tensor] = {}
    for number, (name, value) in enumerate(model.state_dict().items()):
        parts = f"base_model.model.{legacy(name)}".split(".")
        adapted = "language_model" in name and parts[-2] in TRAINED
        if not adapted:
            found[".".join(parts)] = value.clone()
            continue
        stem = ".".join(parts[:-1])
        found[f"{stem}.base_layer.{parts[-1]}"] = value.clone()
        if parts[-1] == "weight":
            found[f"{stem}.lora_A.default.weight"] = random(RANK, value.shape[1], seed=number)
            b = random(value.shape[0], RANK, seed=1000 + number)
            found[f"{stem}.lora_B.default.weight"] = torch.zeros_like(b) if zero else b
    return found


def adapter_pair(folder: Path, **settings: Any) -> dict[str, Any]:
    """The same model as `video_reward`, as an adapter and what is no adapter; the base folder has weights."""
    options = video_reward(folder)
    step = folder / "checkpoint-12"
    state = torch.load(step / "model.pth", weights_only=True)
    (step / "model.pth").unlink()
    adapter = {name.replace(".default", ""): value for name, value in state.items() if "lora_" in name}
    save_file(adapter, step / "adapter_model.safetensors")
    record = {"lora_alpha": ALPHA, "r": RANK, "target_modules": list(TRAINED), **settings}
    (step / "adapter_config.json").write_text(json.dumps(record))
    rest = {name: value for name, value in state.items() if "lora_" not in name}
    trained = {
        name: value
        for name, value in rest.items()
        if "visual" in name or "rm_head" in name or "embed" in name
    }
    torch.save(trained, step / "non_lora_state_dict.pth")
    kept = {name: value for name, value in rest.items() if name not in trained}
    bare = {name.removeprefix("base_model.model.").replace(".base_layer", ""): v for name, v in kept.items()}
    save_file(bare, Path(options["base_config"]) / "model.safetensors")
    return options


def hpsv3(folder: Path) -> dict[str, Any]:
    """`HPSv3.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    model, _ = grown("qwen2_vl", REWARDS[:1])
    state = {legacy(name): value.clone() for name, value in model.state_dict().items()}
    save_file(state | ranknet("rm_head"), folder / "HPSv3.safetensors")
    return {
        "path": str(folder),
        "base_config": str(base_folder(folder / "base", "qwen2_vl")),
        "pixels": 56 * 56,
    }


def edit_reward(
    folder: Path, *, suffix: str = ".safetensors", kind: str = "qwen2_5_vl", pixels: int = 56 * 56
) -> dict[str, Any]:
    """`model.safetensors`, or `model.pth` with the weights under `model`."""
    folder.mkdir(parents=True, exist_ok=True)
    model, _ = grown(kind, REWARDS[:1])
    state = {legacy(name): value.clone() for name, value in model.state_dict().items()}
    state |= ranknet("rm_heads.head_0", seed=20) | ranknet("rm_heads.head_1", seed=40)
    if suffix == ".pth":
        torch.save({"model": state}, folder / "model.pth")
    else:
        save_file(state, folder / "model.safetensors")
    return {
        "path": str(folder),
        "base_config": str(base_folder(folder / "base", kind)),
        "pixels": pixels,
    }


def vefx(folder: Path) -> dict[str, Any]:
    """`vefx_config.json` and two shards under current names; configuration and tokenizer lie with them."""
    base_folder(folder, "qwen3_vl", REWARDS[1:])
    model, _ = grown("qwen3_vl", REWARDS[1:])
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["rm_head.weight"] = random(3, 32, seed=9)
    halves = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}
    for number, (name, value) in enumerate(state.items()):
        halves[list(halves)[number % 2]][name] = value
    for file, part in halves.items():
        save_file(part, folder / file)
    places = {name: file for file, part in halves.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    (folder / "vefx_config.json").write_text(
        json.dumps({"num_classes": 4, "output_dim": 3, "use_ordinal": True})
    )
    return {"path": str(folder)}
