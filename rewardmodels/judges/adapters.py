"""Language models with pictures from a folder or the hub: whole checkpoints, and LoRA adapters merged into their base.

Adapters are read here and not by peft, because everything must fit: each A has its B, each meets a weight of the base
of the right shape, nothing is left over, each module that the adapter's settings name has a pair, and an adapter that
is zero everywhere is an error, not a silent base model.
Names of older transformers versions (`model.layers`, `visual`) are understood.

Legend: R rank, O and I outputs and inputs of a linear map.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin

from mmalign.hub import fetch, is_id
from rewardmodels.lora_targets import require_all
from rewardmodels.vlm import quiet

ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_OLD_NAMES = (
    (r"^model\.(?=layers\.|norm\.|embed_tokens\.)", "model.language_model."),
    (r"^visual\.", "model.visual."),
)


@dataclass(frozen=True, eq=False)
class Opened:
    """A model that answers, its processor, and a name that changes with its weights."""

    model: PreTrainedModel
    processor: ProcessorMixin
    name: str


def open_model(
    path: str | Path, *, base: str | Path | None = None, device: str | torch.device = "cpu",
    dtype: str = "float32",
) -> Opened:  # fmt: skip
    """A whole checkpoint, or an adapter with the base it names (or `base`). Weights are frozen."""
    folder = folder_of(path)
    if not (folder / ADAPTER).is_file():
        model = _stock(folder, dtype)
        processors, name = folder, fingerprint(folder)
    else:
        settings = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
        named = base if base is not None else settings.get("base_model_name_or_path")
        if not named:
            raise ValueError(f"{folder / ADAPTER} names no base model: give it as base=")
        under = folder_of(named)
        model = _stock(under, dtype)
        adapter = read_adapter(folder, settings)
        merge(model, adapter, settings)
        maps = [name for name, one in model.named_modules() if isinstance(one, (nn.Linear, nn.Embedding))]
        require_all(folder / ADAPTER_WEIGHTS, settings, adapter, maps)
        name = f"{fingerprint(under)}+{fingerprint(folder)}"
        own = any((folder / file).is_file() for file in PROCESSOR_FILES)
        processors = folder if own else under
    processor = AutoProcessor.from_pretrained(processors)
    if getattr(processor, "chat_template", None) is None:
        raise ValueError(
            f"{processors} has no chat template: this is no instruction model, or a file is missing"
        )
    model.requires_grad_(False)
    return Opened(model.eval().to(device), processor, f"{name}:{dtype}")


def folder_of(path: str | Path) -> Path:
    """A folder as it is, or the local copy of a hub id; ValueError when there is neither."""
    folder = Path(path)
    if folder.is_dir():
        return folder
    if not is_id(path):
        raise ValueError(f"no such folder: {path} (and it is no hub id such as owner/name)")
    return fetch(str(path), ("*.json", "*.safetensors", "*.txt", "*.jinja"))


def fingerprint(folder: Path) -> str:
    """The folder's name and a digest of the names, sizes and times of its files."""
    files = sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors"))
    stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return f"{folder.name}@{hashlib.sha256(repr(stats).encode()).hexdigest()[:16]}"


def _stock(folder: Path, dtype: str) -> PreTrainedModel:
    with quiet():
        model, report = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=getattr(torch, dtype), output_loading_info=True
        )
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")
    wrong = {kind: sorted(map(str, report[kind]))[:5] for kind in kinds if report[kind]}
    if wrong:
        raise ValueError(f"{folder}: the weights do not fit the model: {wrong}")
    made: PreTrainedModel = model
    return made


# ---------------------------------------------------------------- adapters


def read_adapter(folder: Path, settings: Mapping[str, Any]) -> dict[str, tuple[Tensor, Tensor]]:
    """Module name -> (A (R, I), B (O, R)); ValueError for a layout that is no plain LoRA, or one that is all zero."""
    if settings.get("peft_type") != "LORA":
        raise ValueError(f"{folder}: only LoRA adapters are read, this is {settings.get('peft_type')}")
    odd = [
        key
        for key in ("use_dora", "fan_in_fan_out", "modules_to_save", "alora_invocation_tokens")
        if settings.get(key)
    ]
    if odd or settings.get("bias", "none") != "none":
        raise ValueError(
            f"{folder}: an adapter with {', '.join(odd) or 'bias'} must be merged with peft first"
        )
    file = folder / ADAPTER_WEIGHTS
    if not file.is_file():
        raise ValueError(f"{folder} holds no {ADAPTER_WEIGHTS}: convert adapter_model.bin to safetensors")
    halves: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load_file(file).items():
        match = re.fullmatch(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight", key)
        if match is None:
            raise ValueError(f"{file}: '{key}' is no LoRA weight of a linear map")
        halves.setdefault(match[1], {})[match[2]] = tensor
    lone = [name for name, pair in halves.items() if set(pair) != {"A", "B"}]
    if lone or not halves:
        raise ValueError(f"{file}: {lone[0] if lone else 'no weights at all'}: A and B must come in pairs")
    if not any(bool(pair["B"].any()) for pair in halves.values()):
        raise ValueError(
            f"{file}: every lora_B is zero, so the adapter does nothing: take another checkpoint"
        )
    return {name: (pair["A"], pair["B"]) for name, pair in halves.items()}


@torch.no_grad()
def merge(
    model: nn.Module, adapter: Mapping[str, tuple[Tensor, Tensor]], settings: Mapping[str, Any]
) -> None:
    """W <- W + scale B A in float32 for every pair; scale = alpha / r, or alpha / sqrt(r) for rsLoRA."""
    modules = dict(model.named_modules())
    for name, (a, b) in adapter.items():
        module = modules.get(_present(name, modules))
        if not isinstance(module, nn.Linear):
            raise ValueError(
                f"the base model has no linear map '{name}': this adapter belongs to another base"
            )
        weight = module.weight
        if (b.shape[0], a.shape[1]) != weight.shape or b.shape[1] != a.shape[0]:
            raise ValueError(
                f"'{name}' is {tuple(weight.shape)} in the base, the adapter is for ({b.shape[0]}, {a.shape[1]})"
            )
        rank = a.shape[0]
        alpha = _of_pattern(name, settings.get("alpha_pattern"), settings.get("lora_alpha", rank))
        scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
        weight.copy_((weight.float() + scale * (b.float() @ a.float())).to(weight.dtype))


def _present(name: str, modules: Mapping[str, nn.Module]) -> str:
    if name in modules:
        return name
    for old, new in _OLD_NAMES:
        turned = re.sub(old, new, name)
        if turned in modules:
            return turned
    return name


def _of_pattern(name: str, pattern: Mapping[str, float] | None, default: float) -> float:
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", name):
            return float(value)
    return float(default)
