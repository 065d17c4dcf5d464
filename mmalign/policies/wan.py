"""Wan 2.1 text-to-video: a flow network on video latents, told of UMT5 embeddings.

Wan folders ship a multistep solver (UniPC); a policy samples the same flow with Euler steps, because
reinforcement needs one-step transitions.

Shape legend: latents (B, C, T, H, W) with T = (frames - 1) / 4 + 1; prompt (B, L, D).
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
class Wan:
    """One transformer for all noise levels (Wan 2.1; of 2.2 only the variants that have one)."""

    text_length: int = 512
    name: str = "wan"
    pipeline_class: str = "WanPipeline"
    component: str = "transformer"
    modality: Modality = "video"
    uniform_sigmas: bool = False
    noise_dtype: torch.dtype | None = torch.float32
    num_frames: int = 81
    load_options: Mapping[str, Any] = field(default_factory=dict)
    lora_targets: tuple[str, ...] = (
        "attn1.to_q",
        "attn1.to_k",
        "attn1.to_v",
        "attn1.to_out.0",
        "attn2.to_q",
        "attn2.to_k",
        "attn2.to_v",
        "attn2.to_out.0",
        "ffn.net.0.proj",
        "ffn.net.2",
    )

    def check(self, pipeline: Any) -> None:
        if pipeline.config.boundary_ratio is not None or pipeline.transformer_2 is not None:
            raise ValueError("Wan 2.2 with two transformers (boundary_ratio) is not supported: use Wan 2.1")
        if pipeline.config.expand_timesteps:
            raise ValueError("Wan 2.2 TI2V (expand_timesteps) is not supported: use Wan 2.1")

    def default_size(self, pipeline: Any) -> Size:
        return 480, 832

    def latent_shape(self, pipeline: Any, size: Size, num_frames: int) -> tuple[int, ...]:
        every, factor = pipeline.vae_scale_factor_temporal, pipeline.vae_scale_factor_spatial
        if (num_frames - 1) % every:
            nearest = (num_frames - 1) // every * every + 1
            raise ValueError(
                f"num_frames must be a multiple of {every} plus 1: use {nearest}, not {num_frames}"
            )
        channels = pipeline.transformer.config.in_channels
        return channels, (num_frames - 1) // every + 1, size[0] // factor, size[1] // factor

    def num_tokens(self, pipeline: Any, latents: Tensor) -> int:
        depth, height, width = pipeline.transformer.config.patch_size
        frames, rows, columns = latents.shape[-3:]
        return (frames // depth) * (rows // height) * (columns // width)

    def encode_text(
        self, pipeline: Any, prompts: list[str], negative_prompts: list[str] | None, *, guided: bool
    ) -> tuple[Tensors, Tensors]:
        prompt, negative = pipeline.encode_prompt(
            prompts, negative_prompts, guided, max_sequence_length=self.text_length
        )
        return {"prompt": prompt}, {"prompt": negative} if guided else {}

    def context(self, pipeline: Any, num: int, size: Size, source: Tensor | None) -> Tensors:
        return {}

    def forward(
        self, network: nn.Module, noisy: Tensor, time: Tensor, inputs: Mapping[str, Tensor]
    ) -> Tensor:
        prediction: Tensor = network(
            hidden_states=noisy, timestep=time, encoder_hidden_states=inputs["prompt"], return_dict=False
        )[0]
        return prediction
