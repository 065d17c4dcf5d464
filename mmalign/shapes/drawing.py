"""Scenes to pixels: analytic distance functions, one-pixel soft edges, vectorised in torch.

Legend: B pictures, N things of all pictures together, H W picture side (`size`).
Pixel values are RGB in [0, 1], as everywhere in mmalign.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmalign.shapes.layout import sample_scene
from mmalign.shapes.prompts import parse
from mmalign.shapes.scene import (
    BACKGROUND,
    CROSS_HALF_WIDTH,
    PALETTE,
    SHAPES,
    SQUARE_HALF,
    TRIANGLE_HALF_HEIGHT,
    Scene,
)
from mmalign.shapes.specs import PromptSpec


def signed_distance(shape: str, dx: Tensor, dy: Tensor, radius: Tensor) -> Tensor:
    """Distance to the outline of `shape`, negative inside; the arguments broadcast, one unit."""
    ax, ay = dx.abs(), dy.abs()
    if shape == "circle":
        return torch.sqrt(dx.square() + dy.square()) - radius
    if shape == "square":
        return torch.maximum(ax, ay) - SQUARE_HALF * radius
    if shape == "triangle":
        half = TRIANGLE_HALF_HEIGHT
        steep = 1.0 / (1.0 + 4 * half * half) ** 0.5
        side = (2 * half * ax - dy - half * radius) * steep
        return torch.maximum(side, dy - half * radius)
    if shape == "cross":
        inner = torch.minimum(ax, ay) - CROSS_HALF_WIDTH * radius
        return torch.maximum(inner, torch.maximum(ax, ay) - radius)
    raise ValueError(f"unknown shape '{shape}': use one of {SHAPES}")


def coverage(shape: str, x: Tensor, y: Tensor, radius: Tensor, size: int) -> Tensor:
    """How much of each pixel the things cover: x, y, radius (N,) in unit lengths -> (N, H, W)."""
    centre = (torch.arange(size, dtype=x.dtype) + 0.5) / size
    dx = centre.view(1, 1, -1) - x.view(-1, 1, 1)
    dy = centre.view(1, -1, 1) - y.view(-1, 1, 1)
    return (0.5 - size * signed_distance(shape, dx, dy, radius.view(-1, 1, 1))).clamp(0.0, 1.0)


def draw(scenes: Sequence[Scene], size: int = 32) -> Tensor:
    """Pictures (B, 3, size, size) of the scenes, float32 in [0, 1]."""
    background = torch.tensor(BACKGROUND)
    canvas = background.view(1, 3, 1, 1).repeat(len(scenes), 1, size, size)
    for shape in SHAPES:
        found = [(i, t) for i, scene in enumerate(scenes) for t in scene.things if t.shape == shape]
        if not found:
            continue
        index = torch.tensor([i for i, _ in found])
        x, y, radius = torch.tensor([(t.x, t.y, t.radius) for _, t in found]).unbind(1)
        tint = torch.tensor([PALETTE[t.color] for _, t in found]) - background
        cover = coverage(shape, x, y, radius, size)
        canvas.index_add_(0, index, cover.unsqueeze(1) * tint.view(-1, 3, 1, 1))
    return canvas.clamp_(0.0, 1.0)


def render(asked: Sequence[str | PromptSpec], seed: int = 0, size: int = 32) -> Tensor:
    """One random true picture per prompt or spec: (B, 3, size, size) in [0, 1].

    >>> render(["a red circle", "two blue squares"]).shape
    torch.Size([2, 3, 32, 32])
    """
    rng = np.random.default_rng(seed)
    specs = [parse(item) if isinstance(item, str) else item for item in asked]
    return draw([sample_scene(spec, rng) for spec in specs], size)
