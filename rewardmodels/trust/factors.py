"""Things that should not decide a score, measured on each sample: size of file, colour, sharpness, length, motion.

Each is a number of one decoded sample; a video is measured on at most `NUM_FRAMES` of its frames, evenly. What a
factor cannot be measured on (motion of an image, source similarity of what has no source) is NaN.

Shape legend: `T` frames, `C H W` pixels in [0, 1].
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.media import to_pil
from mmalign.types import Sample
from rewardmodels import probes

NUM_FRAMES = 4
EDGE = 0.1
"""A pixel is on an edge where brightness changes by more than this a pixel."""
LEVELS = 8
"""Colour entropy counts colours in LEVELS**3 boxes."""
QUALITY = 95
NAN = float("nan")


@dataclass(frozen=True)
class Factor:
    """One measurement of a sample; `about` says of what."""

    name: str
    about: str
    measure: Callable[[Sample, Tensor], float]


def log_jpeg(sample: Sample, frames: Tensor) -> float:
    """Logarithm of kilobytes as JPEG, mean over frames."""
    sizes = []
    for frame in frames:
        buffer = io.BytesIO()
        to_pil(frame).save(buffer, format="JPEG", quality=QUALITY)
        sizes.append(math.log(buffer.tell() / 1000.0))
    return sum(sizes) / len(sizes)


def saturation(sample: Sample, frames: Tensor) -> float:
    """Mean S of HSV: (max - min) / max of the three channels, 0 for black."""
    return float(probes.mean_saturation(frames[None]))


def brightness(sample: Sample, frames: Tensor) -> float:
    """Mean luma."""
    return float(probes.mean_brightness(frames[None]))


def contrast(sample: Sample, frames: Tensor) -> float:
    """Logarithm of the variance of the Laplacian of luma: high for sharp detail, low for blur."""
    if min(frames.shape[-2:]) < 3:
        return NAN
    return math.log(float(probes.laplacian_variance(frames[None])) + 1e-8)


def colour_entropy(sample: Sample, frames: Tensor) -> float:
    """Entropy in bits of the colours, counted in 8 x 8 x 8 boxes."""
    place = (frames.clamp(0, 1) * LEVELS).long().clamp_max(LEVELS - 1)
    index = (place[:, 0] * LEVELS + place[:, 1]) * LEVELS + place[:, 2]
    share = torch.bincount(index.flatten(), minlength=LEVELS**3).double()
    share = share[share > 0] / share.sum()
    return float(-(share * share.log2()).sum()) + 0.0


def edge_density(sample: Sample, frames: Tensor) -> float:
    """Share of pixels where luma changes by more than 0.1 a pixel (Sobel)."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).view(1, 1, 3, 3) / 8
    grey = F.pad(probes.luma(frames[None])[0][:, None], (1, 1, 1, 1), mode="replicate")
    slope = torch.hypot(F.conv2d(grey, across), F.conv2d(grey, across.transpose(-1, -2)))
    return float((slope > EDGE).float().mean())


def resolution(sample: Sample, frames: Tensor) -> float:
    """Logarithm of the number of pixels."""
    return math.log(frames.shape[-2] * frames.shape[-1])


def aspect(sample: Sample, frames: Tensor) -> float:
    """Logarithm of width over height."""
    return math.log(frames.shape[-1] / frames.shape[-2])


def prompt_length(sample: Sample, frames: Tensor) -> float:
    """Words of the prompt."""
    return float(len(sample.prompt.split()))


def source_similarity(sample: Sample, frames: Tensor) -> float:
    """1 minus the mean difference from the source's pixels, both at 64 x 64 at most; 1 is a copy."""
    source = sample.source_frames()
    if source is None:
        return NAN
    size = (min(64, int(source.shape[-2])), min(64, int(source.shape[-1])))
    small = [F.interpolate(side[:1], size=size, mode="area") for side in (source, frames)]
    return 1.0 - float((small[0] - small[1]).abs().mean())


def motion(sample: Sample, frames: Tensor) -> float:
    """Mean difference of neighbouring frames, of all frames."""
    whole = sample.frames()
    return float(probes.mean_motion(whole[None])) if len(whole) > 1 else NAN


FACTORS: tuple[Factor, ...] = (
    Factor("JPEG size", "log kilobytes as JPEG", log_jpeg),
    Factor("saturation", "mean S of HSV", saturation),
    Factor("brightness", "mean luma", brightness),
    Factor("contrast", "log variance of the Laplacian", contrast),
    Factor("colour entropy", "bits of the colour histogram", colour_entropy),
    Factor("edge density", "share of pixels on an edge", edge_density),
    Factor("resolution", "log number of pixels", resolution),
    Factor("aspect", "log width over height", aspect),
    Factor("prompt length", "words of the prompt", prompt_length),
    Factor("source similarity", "1 minus mean difference from the source", source_similarity),
    Factor("motion", "mean difference of neighbouring frames", motion),
)


def measure(sample: Sample, factors: Sequence[Factor] = FACTORS) -> dict[str, float]:
    """Every factor of one decoded sample."""
    frames = sample.frames()
    chosen = torch.linspace(0, len(frames) - 1, min(NUM_FRAMES, len(frames))).round().long()
    seen = frames[chosen]
    return {factor.name: factor.measure(sample, seen) for factor in factors}
