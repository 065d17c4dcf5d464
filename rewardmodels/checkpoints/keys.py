"""From the names in published files to the names of the stock classes, with adapters merged into the weights.

Legend: r rank of an adapter, I O inputs and outputs of a linear map.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.|base_model\.model\.)+")
_ADAPTER = re.compile(r"^(?P<of>.+)\.lora_(?P<side>embedding_[AB]|[AB])(?:\.default)?(?:\.weight)?$")
_BASE = ".base_layer."
HEADS = ("rm_head", "rm_heads")


@dataclass(frozen=True)
class Adapter:
    """How a LoRA was scaled: alpha over r, or over its root."""

    alpha: float
    rank_stabilised: bool = False

    def scale(self, rank: int) -> float:
        """The factor of B A.

        >>> Adapter(128).scale(64), Adapter(8, True).scale(16)
        (2.0, 2.0)
        """
        return self.alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def modern(name: str) -> str:
    """The name in the stock class of a current transformers of a weight under any published name.

    >>> modern("base_model.model.visual.merger.ln_q.weight")
    'model.visual.merger.ln_q.weight'
    >>> modern("model.layers.0.mlp.up_proj.weight"), modern("model.language_model.norm.weight")
    ('model.language_model.layers.0.mlp.up_proj.weight', 'model.language_model.norm.weight')
    """
    bare = _WRAPPERS.sub("", name)
    if bare.startswith("visual."):
        return f"model.{bare}"
    if bare.startswith("language_model."):
        return (
            f"model.{bare}"
            if not bare.startswith("language_model.lm_head")
            else bare[len("language_model.") :]
        )
    if bare.startswith("model.") and not bare.startswith(("model.visual.", "model.language_model.")):
        return f"model.language_model.{bare[len('model.') :]}"
    return bare


def plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Current names for all weights; of modules that were trained whole, the trained copy."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if ".original_module." in name:
            continue
        key = modern(name.replace(".modules_to_save.default", "").replace(_BASE, "."))
        if key in found:
            raise ValueError(f"two weights of the checkpoint are called {key}: it is not one state dict")
        found[key] = value
    return found


def merged(state: Mapping[str, Tensor], adapter: Adapter | None) -> tuple[dict[str, Tensor], int]:
    """Weights with every adapter added in (W + alpha / r * B A), under current names, and how many there were.

    An adapter whose B is zero everywhere was never trained: all of them zero is an error, and so is a weight that
    peft calls a `base_layer` without an adapter to it.
    """
    found = plain({name: value for name, value in state.items() if not _ADAPTER.match(name)})
    sides: dict[str, dict[str, Tensor]] = {
        modern(name.replace(_BASE, ".")): {} for name in state if name.endswith(f"{_BASE}weight")
    }
    for name, value in state.items():
        match = _ADAPTER.match(name)
        if match:
            sides.setdefault(modern(match["of"] + ".weight"), {})[match["side"]] = value
    if not sides:
        return found, 0
    if adapter is None:
        raise ValueError("the checkpoint holds LoRA weights but not their alpha: add its adapter_config.json")
    if not any(bool(side[name].any()) for side in sides.values() for name in side if name.endswith("B")):
        raise ValueError(
            "every lora_B of the checkpoint is zero: the adapter was never trained, or saved wrongly"
        )
    for key, side in sides.items():
        if key not in found:
            raise ValueError(f"the checkpoint has an adapter for {key}, which is not among the weights")
        found[key] = found[key] + _delta(key, side, adapter).to(found[key].dtype)
    return found, len(sides)


def adapted(state: Mapping[str, Tensor]) -> set[str]:
    """The modules that have adapters, by their published names without what wraps them.

    >>> adapted({"base_model.model.visual.blocks.0.attn.qkv.lora_A.weight": torch.ones(1)})
    {'visual.blocks.0.attn.qkv'}
    """
    return {_WRAPPERS.sub("", match["of"]) for name in state if (match := _ADAPTER.match(name))}


def _delta(key: str, side: Mapping[str, Tensor], adapter: Adapter) -> Tensor:
    """alpha / r * B A, (O, I); of an embedding transposed."""
    table = "embedding_A" in side
    names = ("embedding_A", "embedding_B") if table else ("A", "B")
    if set(side) != set(names):
        raise ValueError(f"the adapter of {key} is incomplete: it has {', '.join(sorted(side)) or 'nothing'}")
    a, b = (side[name].float() for name in names)
    delta = adapter.scale(a.shape[0]) * (b @ a)
    return delta.T if table else delta


def parted(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of the VLM, and those of the reward heads in float32."""
    heads = {name: value.to(torch.float32) for name, value in state.items() if name.split(".")[0] in HEADS}
    return {name: value for name, value in state.items() if name not in heads}, heads


def kind_of(name: str) -> str:
    """The class of weights that a name belongs to, for the report.

    >>> kind_of("model.visual.blocks.0.norm1.weight"), kind_of("rm_heads.head_0.0.bias")
    ('vision', 'reward head')
    """
    if name.split(".")[0] in HEADS:
        return "reward head"
    if "embed_tokens" in name:
        return "embeddings"
    if name.startswith("lm_head"):
        return "lm_head"
    return "vision" if name.startswith("model.visual.") else "language model"
