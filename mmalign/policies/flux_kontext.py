"""FLUX.1 Kontext: editing by a flow network on packed tokens of the noisy latents and of the source.

The network embeds a guidance value (it was distilled from guided predictions): `embedded_guidance`, the same in
every rollout and every loss. The `guidance` of a policy means true classifier-free guidance here as everywhere
(`true_cfg_scale` of the stock pipeline), and is normally 1.

Shape legend: latents (B, C, H, W), both sides even; packed (B, H/2 * W/2, 4 C); prompt (B, L, D); pooled (B, D').
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from mmalign.policies.base import Size, Tensors
from mmalign.types import Modality


@dataclass(frozen=True)
class FluxKontext:
    """Sources are used at the size given, which must be a multiple of 16 pixels; resize them beforehand."""

    embedded_guidance: float = 2.5
    text_length: int = 512
    name: str = "flux-kontext"
    pipeline_class: str = "FluxKontextPipeline"
    component: str = "transformer"
    modality: Modality = "edit"
    uniform_sigmas: bool = True
    noise_dtype: torch.dtype | None = None
    num_frames: int = 1
    load_options: Mapping[str, Any] = field(default_factory=dict)
    lora_targets: tuple[str, ...] = (
        "attn.to_q",
        "attn.to_k",
        "attn.to_v",
        "attn.to_out.0",
        "attn.add_q_proj",
        "attn.add_k_proj",
        "attn.add_v_proj",
        "attn.to_add_out",
        "ff.net.0.proj",
        "ff.net.2",
        "ff_context.net.0.proj",
        "ff_context.net.2",
    )

    def check(self, pipeline: Any) -> None:
        pass

    def default_size(self, pipeline: Any) -> Size:
        pixels = pipeline.default_sample_size * pipeline.vae_scale_factor
        return pixels, pixels

    def latent_shape(self, pipeline: Any, size: Size, num_frames: int) -> tuple[int, ...]:
        multiple = 2 * pipeline.vae_scale_factor
        channels = pipeline.transformer.config.in_channels // 4
        return channels, 2 * (size[0] // multiple), 2 * (size[1] // multiple)

    def num_tokens(self, pipeline: Any, latents: Tensor) -> int:
        return (latents.shape[-2] // 2) * (latents.shape[-1] // 2)

    def encode_text(
        self, pipeline: Any, prompts: list[str], negative_prompts: list[str] | None, *, guided: bool
    ) -> tuple[Tensors, Tensors]:
        length = self.text_length
        prompt, pooled, _ = pipeline.encode_prompt(prompts, max_sequence_length=length)
        given = {"prompt": prompt, "pooled": pooled}
        if not guided:
            return given, {}
        negatives = negative_prompts or [""] * len(prompts)
        prompt, pooled, _ = pipeline.encode_prompt(negatives, negatives, max_sequence_length=length)
        return given, {"prompt": prompt, "pooled": pooled}

    def context(self, pipeline: Any, num: int, size: Size, source: Tensor | None) -> Tensors:
        tensors = {} if source is None else {"source": source}
        if source is not None and (source.shape[-2] % 2 or source.shape[-1] % 2):
            multiple = 2 * pipeline.vae_scale_factor
            raise ValueError(f"sources must have sides that are multiples of {multiple} pixels: resize them")
        if pipeline.transformer.config.guidance_embeds:
            tensors["embedded_guidance"] = torch.full((num,), self.embedded_guidance)
        return tensors

    def forward(
        self, network: nn.Module, noisy: Tensor, time: Tensor, inputs: Mapping[str, Tensor]
    ) -> Tensor:
        height, width = noisy.shape[-2:]
        tokens, source = pack(noisy), inputs.get("source")
        ids = position_ids(0, height // 2, width // 2, noisy.device, noisy.dtype)
        if source is not None:
            tokens = torch.cat([tokens, pack(source)], dim=1)
            placed = position_ids(1, source.shape[-2] // 2, source.shape[-1] // 2, noisy.device, noisy.dtype)
            ids = torch.cat([ids, placed])
        prompt = inputs["prompt"]
        prediction = network(
            hidden_states=tokens,
            timestep=time.to(noisy.dtype) / 1000,
            guidance=inputs.get("embedded_guidance"),
            pooled_projections=inputs["pooled"],
            encoder_hidden_states=prompt,
            txt_ids=torch.zeros(prompt.shape[1], 3, device=prompt.device, dtype=prompt.dtype),
            img_ids=ids,
            return_dict=False,
        )[0]
        return unpack(prediction[:, : (height // 2) * (width // 2)], height, width)


def pack(latents: Tensor) -> Tensor:
    """2 x 2 patches as tokens.

    >>> pack(torch.zeros(1, 4, 6, 8)).shape
    torch.Size([1, 12, 16])
    """
    batch, channels, height, width = latents.shape
    patches = latents.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(batch, (height // 2) * (width // 2), channels * 4)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `pack`."""
    batch, _, channels = tokens.shape
    patches = tokens.reshape(batch, height // 2, width // 2, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(batch, channels // 4, height, width)


@lru_cache(maxsize=16)
def position_ids(image: int, rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(rows * columns, 3): which image (0 noisy, 1 source), row and column of every token."""
    ids = torch.zeros(rows, columns, 3)
    ids[..., 0] = image
    ids[..., 1] += torch.arange(rows)[:, None]
    ids[..., 2] += torch.arange(columns)[None]
    return ids.reshape(rows * columns, 3).to(device=device, dtype=dtype)
