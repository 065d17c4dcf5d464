"""Pictures reach the towers exactly as Pillow and torchvision would have prepared them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode

from mmalign.media import to_pil
from rewardmodels.clip.similarity import HPS_RULE
from rewardmodels.clip.squares import CLIP_MEAN, CLIP_STD, SquareRule, square

SIZES = [(64, 64), (90, 61), (57, 133), (31, 20), (32, 32), (20, 91)]


def picture(height: int, width: int) -> Tensor:
    coarse = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(height * width))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    return (smooth * 255).round() / 255


def normalised(levels: np.ndarray) -> Tensor:
    pixels = torch.from_numpy(levels.astype(np.float32) / 255).permute(2, 0, 1)
    return TF.normalize(pixels, CLIP_MEAN, CLIP_STD)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("centre", ["floor", "round"])
def test_a_crop_is_pillows_resize_and_the_middle(size: tuple[int, int], centre: str) -> None:
    image = picture(*size)
    height, width = size
    short = min(size)
    resized = to_pil(image).resize((32 * width // short, 32 * height // short), Image.Resampling.BICUBIC)
    levels = np.asarray(resized)
    spare = [side - 32 for side in levels.shape[:2]]
    top, left = (s // 2 if centre == "floor" else round(s / 2.0) for s in spare)
    expected = normalised(levels[top : top + 32, left : left + 32])
    got = square(image[None], SquareRule(size=32, centre=centre))[0]  # type: ignore[arg-type]
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_hps_pads_what_torchvision_resized_without_rounding(size: tuple[int, int]) -> None:
    image = picture(*size)
    scale = 224 / max(size)
    tall, wide = (round(side * scale) for side in size)
    pixels = TF.resize(TF.to_tensor(to_pil(image)), [tall, wide], InterpolationMode.BICUBIC, antialias=True)
    left, top = (224 - wide) // 2, (224 - tall) // 2
    padded = TF.pad(pixels, [left, top, 224 - wide - left, 224 - tall - top])
    expected = TF.normalize(padded, CLIP_MEAN, CLIP_STD)
    torch.testing.assert_close(square(image[None], HPS_RULE)[0], expected, atol=1e-4, rtol=0)


def test_the_gradient_passes_through_the_rounding() -> None:
    image = picture(50, 40).requires_grad_()
    square(image[None], SquareRule(size=32)).sum().backward()
    assert image.grad is not None
    total = sum(32 * 32 / std for std in CLIP_STD)  # a bicubic resize of ones is ones: only the scale remains
    assert float(image.grad.sum()) == pytest.approx(total, rel=0.02)
