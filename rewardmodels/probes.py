"""Plain measures of pixels as rewards: sharpness, saturation, brightness, motion.

They judge nothing by themselves. Scored beside a learned reward they show what it is being hacked with: a generator
whose reward rises together with its saturation has probably learned saturation.

Legend: B samples, T frames, C H W.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.types import Modality, Sample, Scores
from rewardmodels.batching import Prepared, score

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, what Pillow and OpenCV call grey."""
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))

Measure = Callable[[Tensor], Tensor]
"""Frames (B, T, 3, H, W) in [0, 1] -> a number for each sample (B,)."""


def luma(frames: Tensor) -> Tensor:
    """(B, T, 3, H, W) -> (B, T, H, W).

    >>> round(float(luma(torch.ones(1, 1, 3, 1, 1))), 6)
    1.0
    """
    weights = torch.tensor(LUMA, device=frames.device, dtype=frames.dtype)
    return (frames * weights.view(3, 1, 1)).sum(-3)


def laplacian_variance(frames: Tensor) -> Tensor:
    """Variance over the inner pixels of the Laplacian of the luma, mean over frames; (B,).

    Raises ValueError for pictures below 3 x 3 pixels, which have no inner pixels.
    """
    if min(frames.shape[-2:]) < 3:
        raise ValueError(f"sharpness needs at least 3 x 3 pixels, got {tuple(frames.shape[-2:])}")
    grey = luma(frames).flatten(0, 1)[:, None]
    kernel = torch.tensor(LAPLACIAN, device=grey.device, dtype=grey.dtype)[None, None]
    edges = F.conv2d(grey, kernel).flatten(1)
    return edges.var(1, correction=0).view(frames.shape[:2]).mean(1)


def mean_saturation(frames: Tensor) -> Tensor:
    """Mean of (max - min) / max over the channels, 0 where a pixel is black; (B,)."""
    high, low = frames.amax(-3), frames.amin(-3)
    return ((high - low) / high.clamp_min(1e-6)).flatten(1).mean(1)


def mean_brightness(frames: Tensor) -> Tensor:
    """Mean luma; (B,)."""
    return luma(frames).flatten(1).mean(1)


def mean_motion(frames: Tensor) -> Tensor:
    """Mean absolute difference between neighbouring frames; (B,). ValueError for a single frame."""
    if frames.shape[1] < 2:
        raise ValueError("motion needs at least two frames")
    return (frames[:, 1:] - frames[:, :-1]).abs().flatten(1).mean(1)


@dataclass(frozen=True)
class Probe:
    """A measure as a reward; the prompt does not matter, and neither does the source of an edit."""

    name: str
    measure: Measure
    modalities: frozenset[Modality]
    batch_size: int = 64
    differentiable: bool = True

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The one dimension, the probe's name."""
        return (self.name,)

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """One number a sample."""
        return score(
            samples,
            self._judge,
            names=self.dimensions,
            modalities=self.modalities,
            batch_size=self.batch_size,
        )

    def _judge(self, batch: Sequence[Prepared]) -> Tensor:
        return self.measure(torch.stack([one.frames for one in batch]))[:, None]


_EVERYTHING: frozenset[Modality] = frozenset({"image", "edit", "video"})


def sharpness(*, batch_size: int = 64) -> Probe:
    """Variance of the Laplacian, the usual measure of blur (Pech-Pacheco et al. 2000)."""
    return Probe("sharpness", laplacian_variance, _EVERYTHING, batch_size)


def saturation(*, batch_size: int = 64) -> Probe:
    """Mean saturation of HSV."""
    return Probe("saturation", mean_saturation, _EVERYTHING, batch_size)


def brightness(*, batch_size: int = 64) -> Probe:
    """Mean luma."""
    return Probe("brightness", mean_brightness, _EVERYTHING, batch_size)


def motion(*, batch_size: int = 8) -> Probe:
    """Mean frame difference of videos: what a reward that likes stills drives to 0."""
    return Probe("motion", mean_motion, frozenset({"video"}), batch_size)
