"""Pixels to patches, as the stock Qwen-VL image processors cut them, with the gradient kept.

Legend: B media of one size, N patches, T frames, C H W, P patch side, M merge side, tp temporal patch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rewardmodels.resizing import normalised, overshooting, resize


@dataclass(frozen=True)
class PixelRule:
    """How media become patches: the fields of a Qwen-VL `preprocessor_config.json`."""

    patch_size: int
    merge_size: int = 2
    temporal_patch_size: int = 2
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    min_pixels: int = 56 * 56
    max_pixels: int = 448 * 448
    tokens_per_second: float = 0.0
    """How many positions in time a second of video counts (Qwen2.5-VL)."""
    eight_bit: bool = False
    """Whether resizing rounds to 8 bits as Pillow does, which published models were trained with."""
    first_unit: int = 0
    """A checkpoint whose own reader first scaled frames to multiples of this, before the processor did to its own."""

    @property
    def unit(self) -> int:
        """Sides are multiples of it: what the model merges to one token."""
        return self.patch_size * self.merge_size

    def target_size(self, height: int, width: int, unit: int = 0) -> tuple[int, int]:
        """Height and width after resizing: multiples of patch * merge (or `unit`), area within the limits."""
        unit = unit or self.unit
        if max(height, width) / min(height, width) > 200:
            raise ValueError(
                f"media of {width} x {height} is too narrow: crop it to an aspect ratio below 200"
            )
        tall, wide = max(unit, round(height / unit) * unit), max(unit, round(width / unit) * unit)
        if tall * wide > self.max_pixels:
            shrink = math.sqrt(height * width / self.max_pixels)
            tall = max(unit, math.floor(height / shrink / unit) * unit)
            wide = max(unit, math.floor(width / shrink / unit) * unit)
        elif tall * wide < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            tall, wide = math.ceil(height * grow / unit) * unit, math.ceil(width * grow / unit) * unit
        return tall, wide


def patchify(frames: Tensor, rule: PixelRule) -> tuple[Tensor, tuple[int, int, int]]:
    """Media (B, T, C, H, W) in [0, 1] of one size -> patches (B, N/B, C*tp*P*P) and their grid (t, h, w).

    Patches come in the order of the stock processor: blocks of M x M that the model merges to one token. An
    image, and an odd last frame, is repeated to fill its temporal patch.
    """
    num, _, channels, height, width = frames.shape
    size = rule.target_size(height, width, rule.first_unit)
    frames = resize(frames, size, eight_bit=rule.eight_bit)
    if rule.first_unit:
        size = max(1, round(size[0] / rule.unit)) * rule.unit, max(1, round(size[1] / rule.unit)) * rule.unit
        frames = overshooting(frames, size)  # the processor has floats by then
    missing = -frames.shape[1] % rule.temporal_patch_size
    if missing:
        frames = torch.cat([frames, frames[:, -1:].expand(-1, missing, -1, -1, -1)], 1)
    side, merge, depth = rule.patch_size, rule.merge_size, rule.temporal_patch_size
    grid = frames.shape[1] // depth, size[0] // side, size[1] // side
    t, h, w = grid
    blocks = normalised(frames, rule.mean, rule.std).reshape(
        num, t, depth, channels, h // merge, merge, side, w // merge, merge, side
    )
    patches = blocks.permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9).reshape(
        num, t * h * w, channels * depth * side * side
    )
    return patches, grid
