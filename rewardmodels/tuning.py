"""What of a reward model is trained: everything, or adapters; the vision tower or not; some rows of the embedding.

Adapters and rows stay apart during training and are merged for saving (`merged`), so that a saved model is a plain
checkpoint of its family, which scores the same bits as the merged model in memory.

Legend: R special tokens, W hidden width, L tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmalign.seeds import seed_of
from rewardmodels.model_recipe import Lora, Model
from rewardmodels.vlm import VlmReward

VISION = ("visual", "vision_tower", "vision_model", "vision_embed_tokens")
"""Names of modules that hold the vision tower in the families there are."""


class SpecialRows(nn.Module):
    """Rows of an embedding table that are trained while the table stands still."""

    tokens: Tensor  # (R,)

    def __init__(self, table: nn.Embedding, tokens: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("tokens", torch.tensor(sorted(set(tokens))), persistent=False)
        self.rows = nn.Parameter(table.weight.detach()[self.tokens].clone())
        table.register_forward_hook(self._replace)

    def _replace(self, table: nn.Module, arguments: tuple[Tensor, ...], found: Tensor) -> Tensor:
        match = arguments[0][..., None] == self.tokens
        rows = self.rows[match.long().argmax(dim=-1)].to(found.dtype)
        return torch.where(match.any(dim=-1)[..., None], rows, found)


def tune(model: VlmReward, settings: Model, *, seed: int = 0) -> None:
    """Set `requires_grad` everywhere, and add adapters and rows, as the recipe says; adapters start by the seed."""
    tied = bool(getattr(model.vlm.config, "tie_word_embeddings", False))
    table = model.vlm.get_input_embeddings()
    for name, parameter in model.vlm.named_parameters():
        trained = settings.weights == "full" and ("lm_head" not in name or tied)
        if _is_vision(name):
            trained = settings.vision == "trained"
        parameter.requires_grad_(trained)
    table.weight.requires_grad_(settings.embeddings == "trained" and settings.weights == "full")
    model.head.requires_grad_(True)
    if settings.weights == "lora" or settings.vision == "lora":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "adapters"))
            add_adapters(
                model, settings.lora, language=settings.weights == "lora", vision=settings.vision == "lora"
            )
    if settings.embeddings == "special":
        builders = model.builders
        names = {token for builder in builders for token in builder.template.reads}
        ids = [int(builders[0].tokenizer.convert_tokens_to_ids(name)) for name in names]
        model.special_rows = SpecialRows(table, ids)
    if settings.checkpointing:
        model.vlm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def add_adapters(model: VlmReward, lora: Lora, *, language: bool, vision: bool) -> None:
    """LoRA on the linear maps of the language model, of the vision tower, or of both.

    Its factors are float32 on any base: bfloat16 would round most updates away.
    """
    from peft import LoraConfig, inject_adapter_in_model

    targets = [
        name
        for name, module in model.vlm.named_modules()
        if isinstance(module, nn.Linear)
        and "lm_head" not in name
        and (vision if _is_vision(name) else language)
    ]
    if not targets:
        raise ValueError("the backbone has no linear maps that adapters could be put on")
    kept = {name for name, p in model.vlm.named_parameters() if p.requires_grad}
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
    inject_adapter_in_model(config, model.vlm)
    for name, parameter in model.vlm.named_parameters():
        factor = "lora_" in name
        parameter.requires_grad_(factor or name.replace(".base_layer.", ".") in kept)
        if factor:
            parameter.data = parameter.data.float()


@contextmanager
def merged(model: VlmReward) -> Iterator[VlmReward]:
    """Inside, adapters and trained rows are part of the weights; afterwards every weight is what it was."""
    from peft.tuners.lora import LoraLayer

    table = model.vlm.get_input_embeddings()
    layers = [module for module in model.vlm.modules() if isinstance(module, LoraLayer)]
    kept = [layer.get_base_layer().weight.detach().clone() for layer in layers]
    rows = getattr(model, "special_rows", None)
    with torch.no_grad():
        for layer in layers:
            layer.merge()
        if rows is not None:
            before = table.weight[rows.tokens].clone()
            table.weight[rows.tokens] = rows.rows.to(table.weight.dtype)
    try:
        yield model
    finally:
        with torch.no_grad():
            for layer, weight in zip(layers, kept, strict=True):
                layer.unmerge()
                layer.get_base_layer().weight.copy_(weight)
            if rows is not None:
                table.weight[rows.tokens] = before


def _is_vision(name: str) -> bool:
    return any(part in VISION for part in name.split("."))
