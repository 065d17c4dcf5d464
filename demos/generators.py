"""Generators for the comparison page: policies, each with one of its LoRAs switched on or with none.

Generators on one model share its weights; a LoRA is loaded by the stock pipeline's own `load_lora_weights`, so
what the page shows is what any diffusers script would show.

Shapes: latents (B, ...), media (T, C, H, W) in [0, 1], a source image (3, H, W) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from demos.contest import Named, Settings
from mmalign import policies
from mmalign.policies import PipelinePolicy
from mmalign.policies.sources import fitted
from mmalign.rollout import rollout
from mmalign.shapes.bundle import model_path
from mmalign.types import Modality


class PolicyGenerator:
    """A policy under a name; `adapter` is the pipeline's LoRA to switch on, None switches all off."""

    def __init__(self, name: str, policy: PipelinePolicy, adapter: str | None = None) -> None:
        self.name, self.policy, self.adapter = name, policy, adapter
        self.modality: Modality = policy.modality

    @torch.no_grad()
    def __call__(self, prompt: str, settings: Settings) -> list[Tensor]:
        """One medium a seed."""
        switch(self.policy, self.adapter)
        num = len(settings.seeds)
        source = None if settings.source is None else fitted(settings.source, self.policy)
        size = None if source is None else (source.shape[-2], source.shape[-1])
        conditions = self.policy.encode(
            [prompt] * num,
            sources=None if source is None else source.expand(num, -1, -1, -1),
            size=size,
            guidance=settings.guidance,
        )
        noise = [torch.Generator().manual_seed(seed) for seed in settings.seeds]
        latents = self.policy.initial_latents(num, generators=noise, size=size)
        path = rollout(
            self.policy,
            conditions,
            latents,
            num_steps=settings.num_steps,
            guidance=settings.guidance,
            record=False,
        )
        return list(self.policy.decode(path.clean).cpu())


def load_generators(
    models: Sequence[Named], loras: Sequence[Named], *, device: str = "auto", dtype: str = "float32"
) -> list[PolicyGenerator]:
    """A generator a model, then one a LoRA on the first model."""
    place = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    made = [
        PolicyGenerator(m.name, policies.load(model_path(m.path), device=place, dtype=dtype)) for m in models
    ]
    first = made[0].policy
    for index, lora in enumerate(loras):
        adapter = f"lora{index}"
        try:
            first.pipeline.load_lora_weights(lora.path, adapter_name=adapter)
        except (OSError, ValueError, KeyError, RuntimeError) as problem:
            raise ValueError(
                f"--lora {lora.name}: {lora.path} does not load into {models[0].name} ({problem})"
            ) from problem
        made.append(PolicyGenerator(lora.name, first, adapter))
    return made


def switch(policy: PipelinePolicy, adapter: str | None) -> None:
    """Switch one LoRA of the pipeline on, or all off."""
    pipeline = policy.pipeline
    if adapter is not None:
        pipeline.enable_lora()
        pipeline.set_adapters([adapter])
    elif getattr(policy.network, "peft_config", None):
        pipeline.disable_lora()
