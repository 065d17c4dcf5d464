"""Stable Diffusion 1 and 2: variance-preserving diffusion, a UNet and one CLIP encoder.

Shape legend: latents (B, C, H, W); prompt (B, L, D).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mmalign.policies.base import Size, Tensors
from mmalign.types import Modality


@dataclass(frozen=True)
class StableDiffusion:
    """Loaded without its safety checker, which would black out samples during training."""

    name: str = "sd"
    pipeline_class: str = "StableDiffusionPipeline"
    component: str = "unet"
    modality: Modality = "image"
    uniform_sigmas: bool = False
    noise_dtype: torch.dtype | None = None
    num_frames: int = 1
    load_options: Mapping[str, Any] = field(
        default_factory=lambda: {"safety_checker": None, "requires_safety_checker": False}
    )
    lora_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")

    def check(self, pipeline: Any) -> None:
        check_unet(pipeline)

    def default_size(self, pipeline: Any) -> Size:
        return unet_size(pipeline)

    def latent_shape(self, pipeline: Any, size: Size, num_frames: int) -> tuple[int, ...]:
        factor = pipeline.vae_scale_factor
        return pipeline.unet.config.in_channels, size[0] // factor, size[1] // factor

    def num_tokens(self, pipeline: Any, latents: Tensor) -> int:
        return latents.shape[-2] * latents.shape[-1]

    def encode_text(
        self, pipeline: Any, prompts: list[str], negative_prompts: list[str] | None, *, guided: bool
    ) -> tuple[Tensors, Tensors]:
        prompt, negative = pipeline.encode_prompt(
            prompts, pipeline.device, 1, guided, negative_prompt=negative_prompts
        )
        return {"prompt": prompt}, {"prompt": negative} if guided else {}

    def context(self, pipeline: Any, num: int, size: Size, source: Tensor | None) -> Tensors:
        return {}

    def forward(
        self, network: nn.Module, noisy: Tensor, time: Tensor, inputs: Mapping[str, Tensor]
    ) -> Tensor:
        prompt = inputs["prompt"]
        prediction: Tensor = network(noisy, time, encoder_hidden_states=prompt, return_dict=False)[0]
        return prediction


def check_unet(pipeline: Any) -> None:
    """Refuse UNets with inputs beyond text-to-image."""
    config = pipeline.unet.config
    if config.time_cond_proj_dim is not None:
        raise ValueError(
            "guidance-distilled UNets (LCM, time_cond_proj_dim) are not supported: use the base model"
        )
    if pipeline.vae.config.get("shift_factor"):
        raise ValueError(
            "this autoencoder has a shift_factor, which the stock UNet pipelines ignore: set it to null"
        )
    if config.in_channels != pipeline.vae.config.latent_channels:
        raise ValueError(
            "inpainting UNets, whose input has further channels, are not supported: use the base model"
        )


def unet_size(pipeline: Any) -> Size:
    """The size in pixels that the UNet was made for."""
    sample = pipeline.unet.config.sample_size
    height, width = (sample, sample) if isinstance(sample, int) else sample
    return height * pipeline.vae_scale_factor, width * pipeline.vae_scale_factor
