"""The policies under test: tiny pipelines of all families and the bundled models, and what is asked of every one.

Shape legend: `B` samples, `S` steps, `T` frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmalign import policies
from mmalign.policies import PipelinePolicy
from mmalign.policies.flux_kontext import FluxKontext
from mmalign.policies.sd3 import StableDiffusion3
from mmalign.policies.wan import Wan
from mmalign.rollout import rollout
from mmalign.shapes.bundle import bundled_path
from mmalign.types import Conditions
from tests.contract import tiny_pipelines as tiny

PROMPTS = ["a red circle", "a blue cup"]
STEPS = 4  # divides 1000, so that trailing timesteps agree with DDIM
TOLERANCE = 1e-5
SOURCES = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(9))


@dataclass(frozen=True)
class Case:
    """One policy under test: how its pipeline is made, and how the stock pipeline is told the same."""

    name: str
    build: Callable[[], Any]
    family: Any = None
    size: tuple[int, int] = (16, 16)
    num_frames: int = 1
    kinds: tuple[str, ...] = ("flow", "dance", "cps")
    stock: dict[str, Any] = field(default_factory=dict)
    scale: str = "guidance_scale"
    sources: Tensor | None = None


def bundled(name: str) -> Callable[[], Any]:
    def build() -> Any:
        from diffusers import DiffusionPipeline

        without_t5 = {"text_encoder_3": None, "tokenizer_3": None} if name == "flow" else {}
        return DiffusionPipeline.from_pretrained(str(bundled_path(name)), use_safetensors=True, **without_t5)

    return build


CASES = [
    Case("sd3", tiny.sd3, stock={"max_sequence_length": 0}),
    Case("sd3-t5-zeros", tiny.sd3, StableDiffusion3(text_length=5), stock={"max_sequence_length": 5}),
    Case("sd", tiny.sd, kinds=("ddim",)),
    Case("sdxl", tiny.sdxl, kinds=("ddim",)),
    Case(
        "flux-kontext",
        tiny.flux_kontext,
        FluxKontext(text_length=8),
        size=(24, 16),
        stock={"max_sequence_length": 8, "guidance_scale": 2.5, "max_area": 24 * 16, "_auto_resize": False},
        scale="true_cfg_scale",
        sources=SOURCES,
    ),
    Case(
        "wan",
        tiny.wan,
        Wan(text_length=8),
        size=(32, 16),
        num_frames=5,
        stock={"max_sequence_length": 8, "num_frames": 5},
    ),
    Case("bundled-flow", bundled("flow"), size=(32, 32), stock={"max_sequence_length": 0}),
    Case("bundled-epsilon", bundled("epsilon"), size=(32, 32), kinds=("ddim",)),
]


def fresh(case: Case) -> Any:
    """A stock pipeline, as `from_pretrained` gives it: dropout off."""
    pipeline = case.build()
    pipeline.set_progress_bar_config(disable=True)
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            module.eval()
    return pipeline


def make(case: Case, **options: Any) -> PipelinePolicy:
    return policies.from_pipeline(
        fresh(case),
        family=case.family,
        size=case.size,
        num_frames=case.num_frames,
        **{"rank": 4, "alpha": 6.0, **options},
    )


def noise(seeds: range) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def sample(
    policy: PipelinePolicy, case: Case, *, guidance: float = 1.0, negatives: list[str] | None = None
) -> Tensor:
    """Media (2, T, 3, H, W) of a deterministic rollout."""
    conditions = policy.encode(PROMPTS, negative_prompts=negatives, sources=case.sources, guidance=guidance)
    latents = policy.initial_latents(2, generators=noise(range(2)))
    path = rollout(policy, conditions, latents, num_steps=STEPS, guidance=guidance, record=False)
    return policy.decode(path.clean)


def stock(pipeline: Any, case: Case, *, guidance: float = 1.0, negatives: list[str] | None = None) -> Tensor:
    """The same from the stock pipeline's own __call__."""
    options = {**case.stock, case.scale: guidance}
    if case.sources is not None:
        options["image"] = case.sources
        negatives = negatives or [""] * 2
    media = pipeline(
        prompt=PROMPTS,
        negative_prompt=negatives,
        height=case.size[0],
        width=case.size[1],
        num_inference_steps=STEPS,
        generator=noise(range(2)),
        output_type="pt",
        **options,
    )
    return media.frames if hasattr(media, "frames") else media.images[:, None]


@torch.no_grad()
def perturb(policy: PipelinePolicy, scale: float = 0.3) -> None:
    generator = torch.Generator().manual_seed(3)
    for parameter in policy.weights.trainable():
        parameter += scale * torch.randn(parameter.shape, generator=generator)


def one_step(policy: PipelinePolicy, case: Case) -> tuple[Tensor, Tensor, Conditions]:
    conditions = policy.encode(PROMPTS, sources=case.sources)
    latents = policy.initial_latents(2, generators=noise(range(2)))
    return latents, policy.schedule(STEPS, latents)[1], conditions


def gradients(policy: PipelinePolicy) -> Iterator[tuple[str, Tensor | None]]:
    for name, parameter in policy.network.named_parameters():
        yield name, parameter.grad


def check_gradients(policy: PipelinePolicy) -> None:
    up = {name: grad for name, grad in gradients(policy) if "lora_B" in name}
    assert up and all(grad is not None for grad in up.values())
    idle = [name for name, grad in up.items() if grad is not None and not bool(grad.any())]
    # the last block of SD3 drops its text stream, so nothing depends on that stream's queries
    assert len(idle) <= 1 and all(".attn.add_q_proj." in name for name in idle), idle
    assert all(grad is None for name, grad in gradients(policy) if "lora_" not in name)
    for module in policy.pipeline.components.values():
        if isinstance(module, torch.nn.Module) and module is not policy.network:
            assert all(p.grad is None for p in module.parameters())
