"""How CLIP-like towers want a picture: resized, squared and normalised exactly as they were trained, with gradients.

Published scores come from Pillow's bicubic resize of 8-bit files. `square` gives exactly those pixels and lets the
gradient of the smooth resize pass straight through the rounding, so that the reward in a training loop is the reward
of the saved file.

Legend: T frames, C H W, S side of the square.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class SquareRule:
    """What happens to a picture before it enters a tower.

    `shape` crop: the shorter side becomes `size`, the middle is cut out; pad: the longer side becomes `size`, the rest
    is black. `centre` says where an odd remainder goes: `floor` as in transformers, `round` as in torchvision.
    `eight_bit` resizes as Pillow does; without it the resize keeps fractions and overshoots, as HPSv2's does.
    """

    size: int = 224
    shape: Literal["crop", "pad"] = "crop"
    centre: Literal["floor", "round"] = "floor"
    eight_bit: bool = True
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD


def square(frames: Tensor, rule: SquareRule) -> Tensor:
    """Frames (T, 3, H, W) in [0, 1] -> (T, 3, S, S), normalised; files hold 8 bits, so pixels are rounded first."""
    height, width = frames.shape[-2:]
    levels = _whole(frames * 255.0)
    if rule.shape == "crop":
        short = min(height, width)
        tall, wide = (rule.size * side // short for side in (height, width))
        levels = _cut(_resize(levels, tall, wide, rule), rule)
    else:
        longest = max(height, width)
        tall, wide = (max(1, round(side * rule.size / longest)) for side in (height, width))
        levels = _resize(levels, tall, wide, rule)
        left, top = (rule.size - wide) // 2, (rule.size - tall) // 2
        levels = F.pad(levels, (left, rule.size - wide - left, top, rule.size - tall - top))
    mean = torch.tensor(rule.mean, device=frames.device).view(-1, 1, 1)
    std = torch.tensor(rule.std, device=frames.device).view(-1, 1, 1)
    return (levels / 255.0 - mean) / std


def _cut(levels: Tensor, rule: SquareRule) -> Tensor:
    """The middle S x S."""
    starts = []
    for side in levels.shape[-2:]:
        spare = side - rule.size
        starts.append(spare // 2 if rule.centre == "floor" else round(spare / 2))
    top, left = starts
    return levels[..., top : top + rule.size, left : left + rule.size]


def _resize(levels: Tensor, tall: int, wide: int, rule: SquareRule) -> Tensor:
    """Bicubic with antialiasing; with `eight_bit` the values are Pillow's, the gradient that of the smooth resize."""
    if (tall, wide) == tuple(levels.shape[-2:]):
        return levels
    if not rule.eight_bit:
        return _bicubic(levels, tall, wide)
    exact = _pillow(levels.detach(), tall, wide)
    if not levels.requires_grad:
        return exact
    smooth = _bicubic(levels, tall, wide)
    return smooth + (exact - smooth.detach())


def _pillow(levels: Tensor, tall: int, wide: int) -> Tensor:
    """Whole levels (T, 3, H, W) resized by Pillow itself: its fixed-point weights round ties in their own way."""
    pixels = levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    made = [Image.fromarray(frame).resize((wide, tall), Image.Resampling.BICUBIC) for frame in pixels]
    resized = torch.from_numpy(np.stack([np.asarray(frame) for frame in made]))
    return resized.to(levels.device).permute(0, 3, 1, 2).to(levels.dtype)


def _bicubic(levels: Tensor, tall: int, wide: int) -> Tensor:
    return F.interpolate(levels, size=(tall, wide), mode="bicubic", antialias=True, align_corners=False)


def _whole(levels: Tensor) -> Tensor:
    """Rounded (half up) and clamped to 0..255; the gradient is that of the identity."""
    rounded = (levels.detach() + 0.5).floor_().clamp_(0.0, 255.0)
    return levels + (rounded - levels.detach()) if levels.requires_grad else rounded
