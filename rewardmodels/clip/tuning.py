"""What of a CLIP-type reward is trained: whole towers, their last blocks, adapters, the factor of cosines, the head.

Adapters stay apart during training and are merged for saving (`merged`), so that saved files are plain ones.

Legend: no tensors but weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mmalign.seeds import seed_of
from rewardmodels.clip.recipe import ClipModel, Part
from rewardmodels.clip.towers import Stack
from rewardmodels.clip.trained import ClipReward
from rewardmodels.model_recipe import Lora


def tune(model: ClipReward, settings: ClipModel, *, scaled: bool, seed: int = 0) -> None:
    """Set `requires_grad` everywhere, and add adapters, as the recipe says; `scaled`: the loss has a factor."""
    encoder, head = model.scorer.encoder, model.scorer.head
    stacks: dict[str, Stack] = dict(encoder.stacks)  # type: ignore[arg-type]
    choices: dict[str, Part] = {"images": settings.images, "texts": settings.texts}
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(
            any(_is_trained(name, stacks[kind], choice, encoder) for kind, choice in choices.items())
        )
        if name.endswith("logit_scale"):
            parameter.requires_grad_(scaled and settings.scale and settings.score in ("logit", "cosine"))
    if head is not None:
        head.requires_grad_(True)
    adapted = [stacks[kind] for kind, choice in choices.items() if choice == "lora"]
    if adapted:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "adapters"))
            add_adapters(encoder, adapted, settings.lora)


def num_blocks(encoder: nn.Module, stack: Stack) -> int:
    """How many blocks a tower has."""
    places = [
        name.removeprefix(stack.blocks)
        for name, _ in encoder.named_parameters()
        if name.startswith(stack.blocks)
    ]
    return 1 + max(int(place.split(".")[0]) for place in places)


def _is_trained(name: str, stack: Stack, choice: Part, encoder: nn.Module) -> bool:
    if choice in ("frozen", "lora") or not name.startswith(stack.inside):
        return False
    if choice == "all":
        return True
    total = num_blocks(encoder, stack)
    if int(choice) > total:
        raise ValueError(f"this tower has {total} blocks, of which the recipe would train the last {choice}")
    if name.startswith(stack.blocks):
        return int(name.removeprefix(stack.blocks).split(".")[0]) >= total - int(choice)
    return not name.startswith(stack.before)


def add_adapters(encoder: nn.Module, stacks: list[Stack], lora: Lora) -> None:
    """LoRA on the linear maps of the blocks; open_clip's fused attention uses its weights itself and is left alone."""
    from peft import LoraConfig, inject_adapter_in_model

    fused = tuple(
        f"{name}." for name, part in encoder.named_modules() if isinstance(part, nn.MultiheadAttention)
    )
    targets = [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear)
        and name.startswith(tuple(stack.blocks for stack in stacks))
        and not name.startswith(fused)
    ]
    kept = {name for name, p in encoder.named_parameters() if p.requires_grad}
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
    inject_adapter_in_model(config, encoder)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_("lora_" in name or name.replace(".base_layer.", ".") in kept)


@contextmanager
def merged(model: ClipReward) -> Iterator[ClipReward]:
    """Inside, adapters are part of the weights; afterwards every weight is what it was."""
    layers: list[Any] = [
        module for module in model.modules() if hasattr(module, "merge") and hasattr(module, "lora_A")
    ]
    kept = [layer.get_base_layer().weight.detach().clone() for layer in layers]
    for layer in layers:
        layer.merge()
    try:
        yield model
    finally:
        with torch.no_grad():
            for layer, weight in zip(layers, kept, strict=True):
                layer.unmerge()
                layer.get_base_layer().weight.copy_(weight)
