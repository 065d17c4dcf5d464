"""Ways a picture goes wrong: soft, coarse, noisy, spotted, faded, half erased or half another picture.

They stand in for what generators do to a picture, so that a judge learns what quality is before it
meets its first generator. Every function takes pictures (B, 3, H, W) in [0, 1] and a strength (B,)
in [0, 1], and returns pictures in [0, 1]; strength 0 changes nothing.

Legend: B pictures, H W side.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.shapes.scene import BACKGROUND

Damage = Callable[[Tensor, Tensor, torch.Generator], Tensor]


def soften(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian blur with a standard deviation of up to 1.6 pixels (of 32)."""
    side = images.shape[-1]
    reach = max(1, round(3 * side / 32))
    steps = torch.arange(-reach, reach + 1, dtype=images.dtype)
    sigma = (1.6 * side / 32 * strength).clamp_min(1e-3)
    kernel = torch.exp(-steps.square() / (2 * sigma[:, None].square()))
    kernel = kernel / kernel.sum(1, keepdim=True)
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    num, channels = images.shape[:2]
    flat = padded.reshape(1, num * channels, *padded.shape[-2:])
    taps = kernel.repeat_interleave(channels, 0)
    flat = F.conv2d(flat, taps[:, None, :, None], groups=num * channels)
    flat = F.conv2d(flat, taps[:, None, None, :], groups=num * channels)
    return flat.reshape(images.shape)


def coarsen(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Mix with the picture as a decoder of 8x8 or 16x16 values would give it back."""
    side = images.shape[-1]
    grid = side // 4 if float(torch.rand((), generator=generator)) < 0.3 else side // 2
    small = F.interpolate(images, size=(grid, grid), mode="area")
    coarse = F.interpolate(small, size=(side, side), mode="bicubic").clamp(0, 1)
    return _mix(images, coarse, strength)


def speckle(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """White noise, standard deviation up to 0.15."""
    noise = torch.randn(images.shape, generator=generator)
    return (images + 0.15 * strength.view(-1, 1, 1, 1) * noise).clamp(0, 1)


def stain(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Smooth coloured clouds, the noise of a latent space seen through its decoder."""
    side = images.shape[-1]
    cells = torch.randn(images.shape[0], 3, side // 4, side // 4, generator=generator)
    clouds = F.interpolate(cells, size=(side, side), mode="bicubic")
    return (images + 0.22 * strength.view(-1, 1, 1, 1) * clouds).clamp(0, 1)


def fade(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Things lose up to two thirds of their colour: mix with the plain background."""
    plain = torch.tensor(BACKGROUND).view(1, 3, 1, 1).expand_as(images)
    return _mix(images, plain, 0.65 * strength)


def erase(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """A soft-edged disc of background eats into the picture: things are half formed."""
    side = images.shape[-1]
    num = images.shape[0]
    centre = torch.rand(num, 2, 1, 1, generator=generator) * 0.7 + 0.15
    axis = (torch.arange(side) + 0.5) / side
    away = torch.hypot(axis.view(1, 1, -1) - centre[:, 0], axis.view(1, -1, 1) - centre[:, 1])
    radius = (0.35 * strength).view(-1, 1, 1)
    cover = ((radius - away) * side / 2).clamp(0, 1)[:, None]
    return images + cover * (torch.tensor(BACKGROUND).view(1, 3, 1, 1) - images)


def blend(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Another picture of the batch shines through, up to 60 %."""
    other = images[torch.randperm(images.shape[0], generator=generator)]
    return _mix(images, other, 0.6 * strength)


def collage(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Another picture of the batch, in a soft-edged region of up to two thirds of the canvas."""
    side = images.shape[-1]
    other = images[torch.randperm(images.shape[0], generator=generator)]
    angle = 6.2832 * torch.rand(images.shape[0], 1, 1, generator=generator)
    axis = (torch.arange(side) + 0.5) / side - 0.5
    along = axis.view(1, 1, -1) * angle.cos() + axis.view(1, -1, 1) * angle.sin()
    edge = (0.72 - 0.85 * strength).view(-1, 1, 1)
    cover = ((along - edge) * 8).clamp(0, 1)[:, None]
    return images + cover * (other - images)


DAMAGES: dict[str, Damage] = {
    "soften": soften, "coarsen": coarsen, "speckle": speckle, "stain": stain,
    "fade": fade, "erase": erase, "blend": blend, "collage": collage,
}  # fmt: skip


def damage(images: Tensor, share: float, generator: torch.Generator, max_strength: float = 1.0) -> Tensor:
    """Each kind of damage strikes a picture with probability `share` / number of kinds, at a random strength."""
    num = images.shape[0]
    damaged = images.clone()
    for change in DAMAGES.values():
        struck = torch.rand(num, generator=generator) < share / len(DAMAGES)
        strength = torch.rand(num, generator=generator) * max_strength
        if bool(struck.any()):
            damaged[struck] = change(damaged[struck], strength[struck], generator)
    return damaged


def _mix(images: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return images + share.view(-1, 1, 1, 1) * (other - images)
