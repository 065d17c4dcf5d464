"""From a folder or hub id to a policy. The families are listed here; adding one is a file and a line.

Only safetensors files are read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import torch

from mmalign.attention import set_attention
from mmalign.hub import fetch, incomplete, is_id, pipeline_lacks
from mmalign.policies.adapters import LoraWeights
from mmalign.policies.base import Family, Size
from mmalign.policies.flux_kontext import FluxKontext
from mmalign.policies.lora_files import read_lora
from mmalign.policies.pipeline import PipelinePolicy
from mmalign.policies.sd import StableDiffusion
from mmalign.policies.sd3 import StableDiffusion3
from mmalign.policies.sdxl import StableDiffusionXL
from mmalign.policies.wan import Wan
from mmalign.policies.weights import FullWeights, Weights

FAMILIES: tuple[type[Family], ...] = (StableDiffusion3, StableDiffusion, StableDiffusionXL, FluxKontext, Wan)
WeightsKind = Literal["lora", "full", "frozen"]


def family_named(name: str) -> Family:
    """The family with this short name or pipeline class, with default settings."""
    families = [make() for make in FAMILIES]
    for family in families:
        if name in (family.name, family.pipeline_class):
            return family
    known = ", ".join(f"{family.name} ({family.pipeline_class})" for family in families)
    raise ValueError(f"no policy family for {name!r}; there are {known}")


def from_pipeline(
    pipeline: Any,
    *,
    family: Family | str | None = None,
    weights: WeightsKind = "frozen",
    rank: int = 16,
    alpha: float = 32.0,
    targets: Sequence[str] | None = None,
    adapter: str | Path | None = None,
    reference: bool = True,
    attention: str = "sdpa",
    size: Size | None = None,
    num_frames: int | None = None,
    seed: int = 0,
) -> PipelinePolicy:
    """A policy around a loaded pipeline, whose modules are frozen except for what `weights` trains.

    `adapter` is a saved LoRA to start from; a frozen policy applies it, a `lora` policy keeps training it with its
    own rank, alpha and targets. The reference stays the network without it. `seed` is for the LoRA's first factor.
    `reference=False` saves the memory of the frozen copy that `full` weights otherwise keep.
    """
    if family is None:
        family = type(pipeline).__name__
    chosen = family_named(family) if isinstance(family, str) else family
    if type(pipeline).__name__ != chosen.pipeline_class:
        raise ValueError(
            f"family {chosen.name} needs a {chosen.pipeline_class}, not a {type(pipeline).__name__}"
        )
    chosen.check(pipeline)
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            module.requires_grad_(False).eval()
    network = getattr(pipeline, chosen.component)
    set_attention(network, attention)
    made: Weights
    if weights == "full":
        made = FullWeights(network, component=chosen.component, reference=reference)
    elif weights == "frozen" and adapter is None:
        made = FullWeights(network, component=chosen.component, trainable=False)
    elif weights in ("lora", "frozen"):
        suffixes = tuple(targets or chosen.lora_targets)
        made = lora_weights(
            pipeline, chosen.component, adapter, targets=suffixes, rank=rank, alpha=alpha, seed=seed
        )
    else:
        raise ValueError(f"weights must be lora, full or frozen, not {weights!r}")
    if adapter is not None:
        made.load_lora(adapter)
    if weights == "frozen":
        network.requires_grad_(False)
    return PipelinePolicy(pipeline, chosen, made, size=size, num_frames=num_frames)


def lora_weights(
    pipeline: Any,
    component: str,
    adapter: str | Path | None,
    *,
    targets: Sequence[str],
    rank: int,
    alpha: float,
    seed: int,
) -> LoraWeights:
    """A fresh LoRA, or one with the shape of the saved `adapter`."""
    if adapter is not None:
        file = read_lora(adapter, component)
        targets, rank, alpha = file.targets, file.rank, file.alpha
    network = getattr(pipeline, component)
    kind = type(pipeline)
    return LoraWeights(
        network, targets=targets, rank=rank, alpha=alpha, pipeline_class=kind, component=component, seed=seed
    )


def load(
    path: str | Path,
    *,
    family: Family | str | None = None,
    dtype: torch.dtype | str = torch.float32,
    device: torch.device | str = "cpu",
    **options: Any,
) -> PipelinePolicy:
    """A policy from a diffusers folder or hub id; `options` are those of `from_pipeline`."""
    import diffusers

    config = pipeline_config(path)
    known = str(config["_class_name"])
    wanted = known if family is None or family == "auto" else family
    chosen = family_named(wanted) if isinstance(wanted, str) else wanted
    if chosen.pipeline_class != known:
        raise ValueError(f"{path} holds a {known}, not the {chosen.pipeline_class} of family {chosen.name}")
    precision = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(precision, torch.dtype):
        raise ValueError(f"dtype must be float32, float16 or bfloat16, not {dtype!r}")
    pipeline_class = getattr(diffusers, chosen.pipeline_class)
    needed = [p.name for p in signature(pipeline_class.__init__).parameters.values() if p.default is p.empty]
    absent = {  # saved without it, as SD3 without its T5: diffusers wants to be told so
        name: None for name in needed if name != "self" and (config.get(name) or [None])[0] is None
    }
    try:
        pipeline = pipeline_class.from_pretrained(
            str(path), dtype=precision, use_safetensors=True, **{**absent, **chosen.load_options}
        )
    except (OSError, ValueError, TypeError) as problem:  # what the libraries make of a file that is lacking
        unused = [name for name, given in {**absent, **chosen.load_options}.items() if given is None]
        lacking = pipeline_lacks(_index_of(path).parent, unused)
        if not lacking:
            raise
        raise ValueError(incomplete(path, lacking)) from problem
    if precision == torch.float16 and pipeline.vae.config.get("force_upcast", False):
        pipeline.vae.float()  # this autoencoder overflows in float16
    pipeline.set_progress_bar_config(disable=True)
    return from_pipeline(pipeline.to(device), family=chosen, **options)


def pipeline_config(path: str | Path) -> dict[str, Any]:
    """What the model_index.json of a folder or hub repository holds."""
    return dict(json.loads(_index_of(path).read_text(encoding="utf-8")))


def _index_of(path: str | Path) -> Path:
    """Where the model_index.json lies, which is fetched from the hub; ValueError where there is none."""
    index = Path(path) / "model_index.json"
    if index.is_file():
        return index
    if Path(path).exists():
        raise ValueError(
            f"{path} is not a pipeline: it has no model_index.json; give the folder that holds one"
        )
    if not is_id(path):
        raise ValueError(
            f"no such folder: {path}; give a diffusers pipeline folder or a hub id such as owner/name"
        )
    index = fetch(str(path), ("model_index.json",)) / "model_index.json"
    if not index.is_file():
        raise ValueError(f"{path} on the hub is not a diffusers pipeline: it has no model_index.json")
    return index
