"""Videos in time: which frames a reward model sees, and when each was shown.

The number of frames follows from the length and the `fps` of the rule, is a multiple of the model's temporal patch,
and the frames are spread evenly over the whole clip, as in the published video rewards.

Legend: T frames, C H W.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmalign.types import Sample, as_frames

__all__ = ["Clip", "VideoRule", "read_clip", "read_sample"]


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames in [0, 1], and the second at which each is shown; a picture has one frame and no times.

    `step` is the time of the whole clip divided by the number of frames chosen.
    """

    frames: Tensor  # (T, C, H, W)
    times: tuple[float, ...] = ()
    step: float = 0.0

    @property
    def is_video(self) -> bool:
        """Whether it goes to the model as a video."""
        return bool(self.times)


@dataclass(frozen=True)
class VideoRule:
    """How many frames of a video are read, and how large each may be."""

    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 768
    factor: int = 2
    min_pixels: int = 128 * 28 * 28
    max_pixels: int = 448 * 448
    total_pixels: int | None = None
    always: bool = False
    """Whether a single picture is read as a video too."""
    frame_rate: float | None = None
    """Frames a second of tensors whose metadata tell no fps, such as a generator's; None: they were chosen already."""
    from_files: bool = False
    """Whether what was learned from were files, whose frames this rule chose. Then it must be shown the file: of frames
    that were chosen by others there are more or fewer, and at other times."""

    def __post_init__(self) -> None:
        if not self.fps > 0 or not 1 <= self.min_frames <= self.max_frames or self.factor < 1:
            raise ValueError(f"a video rule needs fps > 0 and 1 <= min_frames <= max_frames, got {self}")

    def num_frames(self, total: int, fps: float | None) -> int:
        """How many of `total` frames at `fps` are read: an even number (a multiple of `factor`) if there are enough.

        >>> VideoRule().num_frames(150, 30.0), VideoRule().num_frames(3, 30.0), VideoRule().num_frames(40, 8.0)
        (10, 2, 10)
        """
        wanted = total if fps is None else total / fps * self.fps
        low = -(-self.min_frames // self.factor) * self.factor
        high = max(min(self.max_frames, total) // self.factor * self.factor, 1)
        chosen = round(min(max(wanted, low), high) / self.factor) * self.factor
        return min(max(chosen, 1), total)

    def pixels(self, num_frames: int) -> tuple[int, int]:
        """Least and most pixels of a frame of a clip of `num_frames`."""
        most = self.max_pixels
        if self.total_pixels is not None:
            most = min(most, self.total_pixels * self.factor // max(num_frames, 1))
        return min(self.min_pixels, most), most


def read_clip(media: Tensor | Path, rule: VideoRule | None, metadata: Mapping[str, Any]) -> Clip:
    """One medium as a model will see it: frames (T, C, H, W) in [0, 1] and their times.

    Without a rule all frames are read. A tensor holds frames at `metadata["fps"]`, or else at the rule's `frame_rate`;
    without either they are taken as chosen already, one every 1 / rule.fps seconds.
    """
    if rule is None:
        return Clip(as_frames(media))
    if not isinstance(media, Tensor) and _is_video(Path(media)):
        return _read_file(Path(media), rule)
    frames = as_frames(media)
    total = frames.shape[0]
    if not total:
        raise ValueError("the video has no frame")
    if total == 1:
        return Clip(frames, (0.0,), 1 / rule.fps) if rule.always else Clip(frames)
    given = metadata.get("fps", rule.frame_rate)
    if given is not None and not (isinstance(given, int | float) and given > 0):
        raise ValueError(f"metadata fps must be a number above 0, got {given!r}")
    kept = rule.num_frames(total, given) if given else min(total, rule.max_frames)
    where = torch.linspace(0, total - 1, kept).round().long()
    chosen = frames if kept == total else frames[where.to(frames.device)]
    fps = given or rule.fps
    return Clip(chosen, tuple(i / fps for i in where.tolist()), total / fps / kept)


def _is_video(path: Path) -> bool:
    from mmalign.media import is_video  # decoding libraries are loaded only when a file is read

    return is_video(path)


def read_sample(sample: Sample, rule: VideoRule | None) -> tuple[Clip, Clip | None]:
    """A sample's media and its source, if it has one, as a model will see them."""
    media = read_clip(sample.media, rule, sample.metadata)
    return media, None if sample.source is None else read_clip(sample.source, rule, sample.metadata)


def _read_file(path: Path, rule: VideoRule) -> Clip:
    """The frames of a video file; a file of one frame is a video of one frame."""
    from mmalign import media as reader

    info = reader.probe(path)
    fps = info.fps or rule.fps
    kept = rule.num_frames(info.num_frames, info.fps)
    frames = reader.read(path, max_frames=kept)
    where = torch.linspace(0, info.num_frames - 1, frames.shape[0]).round().tolist()
    return Clip(frames, tuple(i / fps for i in where), info.num_frames / fps / len(where))
