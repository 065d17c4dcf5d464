"""Ways to spoil a sample: its prompt, its pixels, its frames or its source. Each gives a new sample; none is drawn by
chance without the `rng` it is given.

Shape legend: `T` frames, `C H W` pixels in [0, 1]; an image is T = 1. `other` is a sample of another prompt.
"""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mmalign.media import from_pil, to_pil
from mmalign.types import Sample
from rewardmodels.probes import luma

Rng = np.random.Generator


def wrong_prompt(sample: Sample, other: Sample, rng: Rng) -> Sample:
    """The prompt of another sample."""
    return replace(sample, prompt=other.prompt)


def shuffled_prompt(sample: Sample, other: Sample, rng: Rng) -> Sample:
    """The same words in another order; a prompt whose words are all alike stays as it is."""
    words = sample.prompt.split()
    if len(set(words)) < 2:
        return sample
    order = list(words)
    while order == words:
        order = [words[int(k)] for k in rng.permutation(len(words))]
    return replace(sample, prompt=" ".join(order))


def blank(sample: Sample, other: Sample, rng: Rng) -> Sample:
    """Every pixel is the mean colour of the media."""
    frames = sample.frames()
    return replace(sample, media=frames.mean(dim=(0, 2, 3), keepdim=True).expand_as(frames).contiguous())


def noise(sample: Sample, other: Sample, rng: Rng) -> Sample:
    """Every value is uniform noise in [0, 1]."""
    shape = sample.frames().shape
    return replace(sample, media=torch.from_numpy(rng.random(tuple(shape), dtype=np.float32)))


def identity_edit(sample: Sample, other: Sample, rng: Rng) -> Sample:
    """The source, handed back as the edit; scaled to the edit's size where it has another."""
    return replace(sample, media=_fitted(_source(sample), sample.frames()))


def swapped_source(sample: Sample, other: Sample, rng: Rng) -> Sample:
    """The source of another edit, at the size of this one's."""
    return replace(sample, source=_fitted(_source(other), _source(sample)))


def jpeg(frames: Tensor, quality: int) -> Tensor:
    """(T, 3, H, W) after a round trip through JPEG."""
    made = []
    for frame in frames:
        buffer = io.BytesIO()
        to_pil(frame).save(buffer, format="JPEG", quality=quality)
        made.append(from_pil(Image.open(buffer)))
    return torch.cat(made)


def low_jpeg(sample: Sample, other: Sample, rng: Rng) -> Sample:
    """JPEG of quality 30."""
    return replace(sample, media=jpeg(sample.frames(), 30))


def blur(sample: Sample, other: Sample, rng: Rng) -> Sample:
    """Gaussian blur, standard deviation 1/50 of the shorter side and at least one pixel."""
    frames = sample.frames()
    sigma = max(1.0, min(frames.shape[-2:]) / 50)
    return replace(sample, media=gaussian(frames, sigma))


def gaussian(frames: Tensor, sigma: float) -> Tensor:
    """(T, C, H, W) blurred with edges repeated."""
    reach = max(1, round(3 * sigma))
    steps = torch.arange(-reach, reach + 1, dtype=frames.dtype)
    taps = torch.exp(-steps.square() / (2 * sigma * sigma))
    taps = (taps / taps.sum()).repeat(frames.shape[1], 1, 1, 1)
    channels = frames.shape[1]
    wide = F.conv2d(F.pad(frames, (reach, reach, 0, 0), mode="replicate"), taps, groups=channels)
    tall = taps.transpose(-1, -2)
    return F.conv2d(F.pad(wide, (0, 0, reach, reach), mode="replicate"), tall, groups=channels).clamp(0, 1)


def oversaturated(sample: Sample, other: Sample, rng: Rng) -> Sample:
    """Every colour 1.5 times as far from its grey."""
    frames = sample.frames()
    grey = luma(frames[None])[0][:, None]
    return replace(sample, media=(grey + 1.5 * (frames - grey)).clamp(0, 1))


def still_video(sample: Sample, other: Sample, rng: Rng) -> Sample:
    """The first frame for the whole length."""
    frames = sample.frames()
    return replace(sample, media=frames[:1].expand_as(frames).contiguous())


def reversed_frames(sample: Sample, other: Sample, rng: Rng) -> Sample:
    """Last frame first."""
    return replace(sample, media=sample.frames().flip(0))


def shuffled_frames(sample: Sample, other: Sample, rng: Rng) -> Sample:
    """The frames in another order, neither theirs nor backwards where there are three or more."""
    frames = sample.frames()
    num = len(frames)
    if num < 2:
        return sample
    there, back = list(range(num)), list(range(num))[::-1]
    order = there
    while order == there or (num > 2 and order == back):
        order = rng.permutation(num).tolist()
    return replace(sample, media=frames[order])


def resized(frames: Tensor, factor: float) -> Tensor:
    """(T, C, H, W) at `factor` times the size: area when smaller, bicubic when larger."""
    height, width = (max(1, round(side * factor)) for side in frames.shape[-2:])
    if factor < 1:
        return F.interpolate(frames, size=(height, width), mode="area")
    return F.interpolate(frames, size=(height, width), mode="bicubic", antialias=True).clamp(0, 1)


def _source(sample: Sample) -> Tensor:
    frames = sample.source_frames()
    assert frames is not None, "a probe of edits was given a sample without a source"
    return frames


def _fitted(frames: Tensor, like: Tensor) -> Tensor:
    """`frames` at the height, width and number of frames of `like`."""
    if frames.shape[0] != like.shape[0]:
        frames = frames[:1].expand(like.shape[0], -1, -1, -1)
    if frames.shape[-2:] == like.shape[-2:]:
        return frames.contiguous()
    size = (int(like.shape[-2]), int(like.shape[-1]))
    return F.interpolate(frames, size=size, mode="bicubic", antialias=True).clamp(0, 1)
