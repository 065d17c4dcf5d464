"""Media to latents and back, for every autoencoder the families use.

Shape legend: media (B, T, C, H, W) in [0, 1]; image latents (B, C, H, W), video latents (B, C, T, H, W).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def encode_media(vae: Any, media: Tensor, *, video: bool) -> Tensor:
    """The mode of the posterior, scaled as the network expects it."""
    if media.ndim != 5 or (not video and media.shape[1] != 1):
        expected = "(B, T, C, H, W)" if video else "(B, 1, C, H, W)"
        raise ValueError(f"media to encode must be {expected}, got {tuple(media.shape)}")
    pixels = (2.0 * media - 1.0).to(device=vae.device, dtype=vae.dtype)
    pixels = pixels.transpose(1, 2) if video else pixels[:, 0]
    return _scale(vae, vae.encode(pixels).latent_dist.mode())


def decode_latents(vae: Any, latents: Tensor) -> Tensor:
    """Latents to media in [0, 1], float32."""
    latents = _unscale(vae, latents.to(device=vae.device, dtype=vae.dtype))
    pixels = vae.decode(latents, return_dict=False)[0]
    frames = pixels.transpose(1, 2) if pixels.ndim == 5 else pixels[:, None]
    return (frames * 0.5 + 0.5).clamp(0.0, 1.0).float()


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor] | None:
    """Per-channel mean and std of the latents, where the autoencoder states them."""
    mean, std = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if mean is None or std is None:
        return None
    shape = (1, -1, *([1] * (like.ndim - 2)))
    made = [
        torch.tensor(numbers, device=like.device, dtype=like.dtype).view(shape) for numbers in (mean, std)
    ]
    return made[0], made[1]


def _scale(vae: Any, raw: Tensor) -> Tensor:
    factor, statistics = vae.config.get("scaling_factor") or 1.0, _statistics(vae, raw)
    if statistics is not None:
        return (raw - statistics[0]) * factor / statistics[1]
    return (raw - (vae.config.get("shift_factor") or 0.0)) * factor


def _unscale(vae: Any, latents: Tensor) -> Tensor:
    factor, statistics = vae.config.get("scaling_factor") or 1.0, _statistics(vae, latents)
    if statistics is not None:
        return latents * statistics[1] / factor + statistics[0]
    return latents / factor + (vae.config.get("shift_factor") or 0.0)
