"""A policy around a stock diffusers pipeline: everything the families share.

Shape legend: `B` samples, `S` steps, `T` frames, `C H W` channels and size (of pixels or of latents).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from mmalign.policies.autoencoder import decode_latents, encode_media
from mmalign.policies.base import Family, Generators, Size
from mmalign.policies.weights import Weights
from mmalign.process import Process, from_scheduler
from mmalign.types import Conditions, Modality


class PipelinePolicy:
    """A pipeline, the process of its scheduler, its network and the weights that are trained.

    `size` (height, width) and `num_frames` are what is generated unless a call says otherwise.
    """

    def __init__(
        self,
        pipeline: Any,
        family: Family,
        weights: Weights,
        *,
        size: Size | None = None,
        num_frames: int | None = None,
    ) -> None:
        self.pipeline, self.family, self.weights = pipeline, family, weights
        self.network: nn.Module = getattr(pipeline, family.component)
        self.process: Process = from_scheduler(pipeline.scheduler, uniform_sigmas=family.uniform_sigmas)
        self.modality: Modality = family.modality
        self.size = size or family.default_size(pipeline)
        self.num_frames = num_frames or family.num_frames
        self.dtype: torch.dtype = getattr(pipeline, family.component).dtype

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @torch.no_grad()
    def encode(
        self,
        prompts: Sequence[str],
        *,
        negative_prompts: Sequence[str] | None = None,
        sources: Tensor | None = None,
        size: Size | None = None,
        num_frames: int | None = None,
        guidance: float = 1.0,
    ) -> Conditions:
        """Each different pair of prompt and negative prompt goes through the text encoders once."""
        self._check_encode(prompts, negative_prompts, sources)
        guided = guidance > 1.0
        pairs = list(zip(prompts, negative_prompts or [""] * len(prompts), strict=True))
        unique = list(dict.fromkeys(pairs))
        negatives = None if negative_prompts is None else [negative for _, negative in unique]
        text = self.family.encode_text(
            self.pipeline, [prompt for prompt, _ in unique], negatives, guided=guided
        )
        encoded = Conditions(text[0], text[1] if guided else None)
        if len(unique) < len(pairs):
            encoded = encoded.select([unique.index(pair) for pair in pairs])
        source = None
        if sources is not None:
            source = self.encode_media(sources if sources.ndim == 5 else sources[:, None])
        context = self.family.context(self.pipeline, len(pairs), size or self.size, source)
        return Conditions({**encoded.tensors, **context}, encoded.negative).to(self.device, self.dtype)

    def _check_encode(
        self, prompts: Sequence[str], negative_prompts: Sequence[str] | None, sources: Tensor | None
    ) -> None:
        if isinstance(prompts, str) or not prompts:
            raise ValueError("prompts must be a list of at least one text")
        if negative_prompts is not None and len(negative_prompts) != len(prompts):
            raise ValueError(
                f"{len(negative_prompts)} negative prompts for {len(prompts)} prompts: give one each"
            )
        if sources is not None and self.modality != "edit":
            raise ValueError(f"{self.family.pipeline_class} takes no source media: leave sources out")
        if sources is not None and sources.shape[0] != len(prompts):
            raise ValueError(f"{sources.shape[0]} sources for {len(prompts)} prompts: give one each")

    def initial_latents(
        self, num: int, *, generators: Generators, size: Size | None = None, num_frames: int | None = None
    ) -> Tensor:
        shape = self.family.latent_shape(self.pipeline, size or self.size, num_frames or self.num_frames)
        dtype = self.family.noise_dtype or self.dtype
        given: Any = list(generators) if isinstance(generators, Sequence) else generators
        if isinstance(given, list) and len(given) != num:
            raise ValueError(f"{len(given)} generators for {num} samples: give one each, or a single one")
        return randn_tensor((num, *shape), generator=given, device=self.device, dtype=dtype).float()

    def predict(
        self,
        noisy: Tensor,
        level: Tensor,
        conditions: Conditions,
        *,
        guidance: float = 1.0,
        network: nn.Module | None = None,
    ) -> Tensor:
        called = self.network if network is None else network
        noisy = noisy.to(self.dtype)
        time = self.process.model_time(level).to(noisy.device).expand(noisy.shape[0])
        if guidance <= 1.0:
            return self.family.forward(called, noisy, time, conditions.tensors).float()
        if conditions.negative is None:
            raise ValueError(f"guidance {guidance} needs a negative side: encode(..., guidance={guidance})")
        negative = conditions.negative
        inputs = {
            key: torch.cat([negative.get(key, value), value]) for key, value in conditions.tensors.items()
        }
        both = self.family.forward(called, torch.cat([noisy, noisy]), torch.cat([time, time]), inputs)
        without, given = both.float().chunk(2)
        return without + guidance * (given - without)

    def decode(self, latents: Tensor, *, with_grad: bool = False) -> Tensor:
        with torch.set_grad_enabled(with_grad):
            return decode_latents(self.pipeline.vae, latents)

    @torch.no_grad()
    def encode_media(self, media: Tensor) -> Tensor:
        return encode_media(self.pipeline.vae, media, video=self.modality == "video").float()

    def schedule(self, num_steps: int, latents: Tensor) -> Tensor:
        num_tokens = self.family.num_tokens(self.pipeline, latents)
        return self.process.schedule(num_steps, image_seq_len=num_tokens).to(self.device)
