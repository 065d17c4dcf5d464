"""Stable Diffusion 3 and 3.5: rectified flow, two CLIP encoders and an optional T5.

Shape legend: latents (B, C, H, W); prompt (B, L, D); pooled (B, D').
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mmalign.policies.base import Size, Tensors
from mmalign.types import Modality

CLIP_TOKENS = 77


@dataclass(frozen=True)
class StableDiffusion3:
    """`text_length` is the number of T5 tokens (`max_sequence_length` of the stock pipeline).

    Without a T5 the stock pipeline stands in as many zero tokens. None means its default of 256, and no zero
    tokens for a pipeline without T5 whose own tokenizer is shorter than CLIP's: it was never made for one.
    """

    text_length: int | None = None
    name: str = "sd3"
    pipeline_class: str = "StableDiffusion3Pipeline"
    component: str = "transformer"
    modality: Modality = "image"
    uniform_sigmas: bool = False
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
    )

    def check(self, pipeline: Any) -> None:
        pass

    def default_size(self, pipeline: Any) -> Size:
        pixels = pipeline.default_sample_size * pipeline.vae_scale_factor
        return pixels, pixels

    def latent_shape(self, pipeline: Any, size: Size, num_frames: int) -> tuple[int, ...]:
        factor = pipeline.vae_scale_factor
        return pipeline.transformer.config.in_channels, size[0] // factor, size[1] // factor

    def num_tokens(self, pipeline: Any, latents: Tensor) -> int:
        patch = pipeline.transformer.config.patch_size
        return (latents.shape[-2] // patch) * (latents.shape[-1] // patch)

    def tokens(self, pipeline: Any) -> int:
        """How many T5 tokens, or zero tokens in their place, follow the CLIP tokens."""
        if self.text_length is not None:
            return self.text_length
        made_for_t5 = pipeline.text_encoder_3 is not None or pipeline.tokenizer_max_length >= CLIP_TOKENS
        return 256 if made_for_t5 else 0

    def encode_text(
        self, pipeline: Any, prompts: list[str], negative_prompts: list[str] | None, *, guided: bool
    ) -> tuple[Tensors, Tensors]:
        prompt, negative, pooled, negative_pooled = pipeline.encode_prompt(
            prompts,
            None,
            None,
            do_classifier_free_guidance=guided,
            negative_prompt=negative_prompts,
            max_sequence_length=self.tokens(pipeline),
        )
        given = {"prompt": prompt, "pooled": pooled}
        return given, {"prompt": negative, "pooled": negative_pooled} if guided else {}

    def context(self, pipeline: Any, num: int, size: Size, source: Tensor | None) -> Tensors:
        return {}

    def forward(
        self, network: nn.Module, noisy: Tensor, time: Tensor, inputs: Mapping[str, Tensor]
    ) -> Tensor:
        prediction: Tensor = network(
            hidden_states=noisy,
            timestep=time,
            encoder_hidden_states=inputs["prompt"],
            pooled_projections=inputs["pooled"],
            return_dict=False,
        )[0]
        return prediction
