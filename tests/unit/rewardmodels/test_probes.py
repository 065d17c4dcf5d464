"""Probes against numbers computed by hand, and in the direction their names say."""

from __future__ import annotations

import colorsys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import rewardmodels
from mmalign.types import Sample


def score(name: str, frames: Tensor) -> float:
    return float(rewardmodels.load(name)(samples=[Sample("", frames)]).overall[0])


def test_one_white_pixel_on_black_has_this_laplacian_variance() -> None:
    image = torch.zeros(3, 5, 5)
    image[:, 2, 2] = 1.0  # inner 3 x 3: centre -4, four neighbours 1, corners 0; mean 0
    assert score("sharpness", image) == pytest.approx((16 + 4) / 9, rel=1e-5)


def test_blur_lowers_sharpness() -> None:
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    blurred = F.avg_pool2d(image, 3, stride=1, padding=1)
    assert score("sharpness", blurred) < 0.3 * score("sharpness", image)


def test_saturation_is_that_of_hsv() -> None:
    image = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(1))
    expected = sum(colorsys.rgb_to_hsv(*pixel)[1] for pixel in image.flatten(1).T.tolist()) / 36
    assert score("saturation", image) == pytest.approx(expected, rel=1e-5)
    assert score("saturation", torch.zeros(3, 4, 4)) == 0.0


def test_brightness_weighs_the_channels() -> None:
    green = torch.zeros(3, 4, 4)
    green[1] = 0.5
    assert score("brightness", green) == pytest.approx(0.587 / 2)


def test_motion_is_the_mean_frame_difference_and_needs_frames() -> None:
    frames = torch.tensor([0.0, 0.5, 0.25]).view(3, 1, 1, 1).expand(3, 3, 4, 4)
    assert score("motion", frames) == pytest.approx((0.5 + 0.25) / 2)
    assert score("motion", torch.rand(1, 3, 4, 4).repeat(5, 1, 1, 1)) == 0.0
    scores = rewardmodels.load("motion")(samples=[Sample("", torch.rand(3, 4, 4))])
    assert not bool(scores.valid[0]) and "video" in str(scores.reasons[0])


def test_a_picture_too_small_for_sharpness_is_refused_alone() -> None:
    scores = rewardmodels.load("sharpness")(
        samples=[Sample("", torch.rand(3, 2, 2)), Sample("", torch.rand(3, 8, 8))]
    )
    assert scores.valid.tolist() == [False, True] and "3 x 3" in str(scores.reasons[0])
