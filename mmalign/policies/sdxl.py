"""Stable Diffusion XL: a UNet told of two CLIP encoders, a pooled embedding and the picture's size.

Shape legend: latents (B, C, H, W); prompt (B, L, D); pooled (B, D'); time_ids (B, 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mmalign.policies.base import Size, Tensors
from mmalign.policies.sd import check_unet, unet_size
from mmalign.types import Modality


@dataclass(frozen=True)
class StableDiffusionXL:
    """Size conditioning as the stock pipeline's defaults: original and target size alike, no crop."""

    name: str = "sdxl"
    pipeline_class: str = "StableDiffusionXLPipeline"
    component: str = "unet"
    modality: Modality = "image"
    uniform_sigmas: bool = False
    noise_dtype: torch.dtype | None = None
    num_frames: int = 1
    load_options: Mapping[str, Any] = field(default_factory=lambda: {"add_watermarker": False})
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
        prompt, negative, pooled, negative_pooled = pipeline.encode_prompt(
            prompts, do_classifier_free_guidance=guided, negative_prompt=negative_prompts
        )
        given = {"prompt": prompt, "pooled": pooled}
        return given, {"prompt": negative, "pooled": negative_pooled} if guided else {}

    def context(self, pipeline: Any, num: int, size: Size, source: Tensor | None) -> Tensors:
        return {"time_ids": torch.tensor([[*size, 0, 0, *size]], dtype=torch.float32).repeat(num, 1)}

    def forward(
        self, network: nn.Module, noisy: Tensor, time: Tensor, inputs: Mapping[str, Tensor]
    ) -> Tensor:
        prediction: Tensor = network(
            noisy,
            time,
            encoder_hidden_states=inputs["prompt"],
            added_cond_kwargs={"text_embeds": inputs["pooled"], "time_ids": inputs["time_ids"]},
            return_dict=False,
        )[0]
        return prediction
