"""Resizing with a gradient: the kernels of the stock image processors on tensors.

Published scores mostly come from Pillow, which rounds to 8 bits after each of its two passes. With `eight_bit` the
same is done here, and the gradient passes straight through the rounding.

Legend: ... any leading axes, C H W, N new length, O old length.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = Literal["bicubic", "bilinear", "lanczos"]
PILLOW: dict[int, Kernel] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""The numbers that `resample` has in a `preprocessor_config.json`."""


def resize(
    frames: Tensor, size: tuple[int, int], *, kernel: Kernel = "bicubic", eight_bit: bool = False
) -> Tensor:
    """Frames (..., C, H, W) in [0, 1] -> (..., C, *size), antialiased, in [0, 1]."""
    lead, (height, width) = frames.shape[:-3], frames.shape[-2:]
    if size == (height, width):
        return frames
    flat = frames.reshape(-1, *frames.shape[-3:])
    if not eight_bit:
        flat = _step(flat, size, kernel).clamp(0, 1)
    else:
        if size[1] != width:
            flat = rounded(_step(flat, (height, size[1]), kernel))
        if size[0] != height:
            flat = rounded(_step(flat, size, kernel))
    return flat.reshape(*lead, *flat.shape[-3:])


def overshooting(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames (..., C, H, W) -> (..., C, *size), bicubic and antialiased; what goes below 0 or above 1 stays there, as
    where torchvision resizes floats.
    """
    if size == tuple(frames.shape[-2:]):
        return frames
    flat = _step(frames.reshape(-1, *frames.shape[-3:]), size, "bicubic")
    return flat.reshape(*frames.shape[:-3], *flat.shape[-3:])


def _step(frames: Tensor, size: tuple[int, int], kernel: Kernel) -> Tensor:
    if kernel != "lanczos":
        return F.interpolate(frames, size=size, mode=kernel, antialias=True, align_corners=False)
    height, width = frames.shape[-2:]
    if size[1] != width:
        frames = frames @ lanczos(width, size[1]).to(frames).T
    return frames if size[0] == height else lanczos(height, size[0]).to(frames) @ frames


@lru_cache(maxsize=64)
def lanczos(old: int, new: int) -> Tensor:
    """(N, O) weights of Pillow's three-lobed Lanczos filter; every row sums to 1.

    >>> lanczos(4, 2).sum(dim=1).tolist()
    [1.0, 1.0]
    """
    scale = old / new
    wide = max(scale, 1.0)
    centres = (torch.arange(new, dtype=torch.float64) + 0.5) * scale
    low = (centres - 3 * wide + 0.5).floor().clamp_min(0)
    high = (centres + 3 * wide + 0.5).floor().clamp_max(old)
    places = torch.arange(old, dtype=torch.float64)
    away = (places + 0.5 - centres[:, None]) / wide
    weights = torch.where(away.abs() < 3, torch.sinc(away) * torch.sinc(away / 3), 0.0)
    weights = weights * ((places >= low[:, None]) & (places < high[:, None]))
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def rounded(frames: Tensor) -> Tensor:
    """The nearest of 256 levels in [0, 1], half up as Pillow; the gradient is that of the identity."""
    with torch.no_grad():
        levels = (frames * 255.0 + 0.5).floor().clamp(0.0, 255.0) / 255.0
    return frames + (levels - frames).detach()


def normalised(frames: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Frames (..., C, H, W) minus the mean, over the standard deviation of every colour."""
    centre = torch.tensor(mean, device=frames.device).view(-1, 1, 1)
    return (frames - centre) / torch.tensor(std, device=frames.device).view(-1, 1, 1)


def tiles(frames: Tensor, side: int) -> Tensor:
    """(M, C, H, W) with sides that are multiples of `side` -> (M, tiles, C, side, side), row by row.

    >>> tiles(torch.arange(8.0).view(1, 1, 2, 4), 2)[0, :, 0, 0, 0].tolist()
    [0.0, 2.0]
    """
    num, channels, height, width = frames.shape
    rows, columns = height // side, width // side
    cut = frames.reshape(num, channels, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(num, rows * columns, channels, side, side)


def within(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the same shape that fits, as the LLaVA processors round it.

    >>> within(100, 50, (56, 56))
    (56, 28)
    """
    tall, wide = size
    if wide / width < tall / height:
        return min(math.ceil(height * wide / width), tall), wide
    return tall, min(math.ceil(width * tall / height), wide)
