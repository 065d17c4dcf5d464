"""Idefics3 and SmolVLM: a picture is scaled to whole square tiles, and a thumbnail follows them.

SmolVLM reads a video as dated frames, each one tile; Idefics3 was not made for videos and refuses them.

Legend: B rows, M media of one shape, N tiles, T frames, C H W, S side of a tile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from transformers.models.smolvlm.processing_smolvlm import (
    DEFAULT_MEDIA_OUTTRO,
    DEFAULT_VIDEO_INTRO,
    FRAME_TIMESTAMP_MESSAGE,
)

from rewardmodels.backbones.base import Encoded, Piece, Span, Text, Token
from rewardmodels.clips import Clip, VideoRule
from rewardmodels.resizing import PILLOW, Kernel, normalised, resize, tiles

FAKE, GLOBAL, IMAGE = Token("<fake_token_around_image>"), Token("<global-img>"), "<image>"
LARGEST = 4096
"""No side is scaled beyond this."""


@dataclass(frozen=True)
class TileRule:
    """How a picture becomes tiles: the fields of an Idefics3 `preprocessor_config.json`."""

    side: int
    longest: int
    num_tokens: int
    """Placeholders of a tile."""
    split: bool = True
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    kernel: Kernel = "lanczos"

    def canvas(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The first size, with the longer side `longest`, and the second, of whole tiles."""
        if not self.split:
            return self._scaled(height, width), (self.side, self.side)
        tall, wide = self._scaled(height, width)
        shape, side = wide / tall, self.side
        if wide >= tall:
            full = math.ceil(wide / side) * side
            return (tall, wide), (math.ceil(int(full / shape) / side) * side, full)
        full = math.ceil(tall / side) * side
        return (tall, wide), (full, math.ceil(int(full * shape) / side) * side)

    def _scaled(self, height: int, width: int) -> tuple[int, int]:
        """The longer side becomes `longest`, the other even; then neither is above `LARGEST`."""
        shape = width / height
        if width >= height:
            wide, tall = self.longest, int(self.longest / shape)
            tall += tall % 2
        else:
            tall, wide = self.longest, int(self.longest * shape)
            wide += wide % 2
        tall, wide = max(tall, 1), max(wide, 1)
        shape = wide / tall
        if wide >= tall and wide > LARGEST:
            tall, wide = int(LARGEST / shape), LARGEST
        elif tall > wide and tall > LARGEST:
            tall, wide = LARGEST, int(LARGEST * shape)
        return max(tall, 1), max(wide, 1)


@dataclass(frozen=True)
class Tiles:
    """Rows and columns of tiles, both 0 for a picture of one tile; of a video the times of its frames."""

    rows: int
    columns: int
    times: tuple[float, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Idefics:
    """One generation of the family."""

    model_types: tuple[str, ...]
    videos: bool
    processor: str
    mrope: bool = False
    image_token: str = IMAGE
    tokens: tuple[str, ...] = (FAKE.name, GLOBAL.name, IMAGE)

    def read_rule(self, record: Mapping[str, Any], config: Any) -> TileRule:
        """Sizes from the processor; the placeholders of a tile follow from the model."""
        vision = config.vision_config
        side = record["max_image_size"]["longest_edge"]
        per_side = vision.image_size // vision.patch_size
        return TileRule(
            side, record["size"]["longest_edge"], per_side**2 // config.scale_factor**2,
            record.get("do_image_splitting", True), tuple(record["image_mean"]), tuple(record["image_std"]),
            PILLOW[record.get("resample", 1)],
        )  # fmt: skip

    def write_rule(self, rule: TileRule) -> dict[str, Any]:
        """The fields of the stock image processor."""
        return {
            "size": {"longest_edge": rule.longest}, "max_image_size": {"longest_edge": rule.side},
            "do_image_splitting": rule.split, "do_pad": True,
            "image_mean": list(rule.mean), "image_std": list(rule.std),
            "resample": next(number for number, kernel in PILLOW.items() if kernel == rule.kernel),
        }  # fmt: skip

    def encode(
        self, clips: Sequence[Clip], rule: TileRule, video: VideoRule, *, alone: bool
    ) -> list[Encoded]:
        """Tiles (N, C, S, S) of each medium, the thumbnail last."""
        frames = torch.stack([clip.frames for clip in clips]).float()
        if clips[0].is_video:
            return self._encode_videos(clips, frames, rule)
        first, second = rule.canvas(*frames.shape[-2:])
        pictures = resize(frames[:, 0], first, kernel=rule.kernel, eight_bit=True)
        pictures = resize(pictures, second, kernel=rule.kernel, eight_bit=True)
        rows, columns = second[0] // rule.side, second[1] // rule.side
        cut = tiles(pictures, rule.side)
        if rows == columns == 1:
            layout = Tiles(0, 0)
        else:
            layout = Tiles(rows, columns)
            small = resize(pictures, (rule.side, rule.side), kernel=rule.kernel, eight_bit=True)
            cut = torch.cat([cut, small[:, None]], 1)
        return [Encoded(one, layout) for one in _seen(normalised(cut, rule.mean, rule.std))]

    def _encode_videos(self, clips: Sequence[Clip], frames: Tensor, rule: TileRule) -> list[Encoded]:
        if not self.videos:
            raise ValueError(
                f"{self.model_types[0]} reads no videos: choose a Qwen-VL, SmolVLM or InternVL model"
            )
        small = resize(frames, (rule.side, rule.side), kernel=rule.kernel, eight_bit=True)
        values = _seen(normalised(small, rule.mean, rule.std))
        return [
            Encoded(one, Tiles(0, 0, clip.times, clip.step * len(clip.times)))
            for one, clip in zip(values, clips, strict=True)
        ]

    def pieces(self, layout: Tiles, rule: TileRule) -> tuple[Piece, ...]:
        """Tiles row by row with their places, then the thumbnail; a video as dated frames."""
        span = Span(IMAGE, rule.num_tokens)
        small: tuple[Piece, ...] = (FAKE, GLOBAL, span, FAKE)
        if layout.times:
            return self._dated(layout, small)
        found: list[Piece] = []
        for row in range(layout.rows):
            for column in range(layout.columns):
                found += [FAKE, Token(f"<row_{row + 1}_col_{column + 1}>"), span]
            found.append(Text("\n"))
        return (*found, *((Text("\n"),) if found else ()), *small)

    @staticmethod
    def _dated(layout: Tiles, small: tuple[Piece, ...]) -> tuple[Piece, ...]:
        length = str(timedelta(seconds=int(layout.seconds)))
        intro = DEFAULT_VIDEO_INTRO.format(frame_count=spelled(len(layout.times)), video_duration=length)
        found: list[Piece] = [Text(intro)]
        for second in layout.times:
            stamp = f"{int(second // 60):02d}:{int(second % 60):02d}"
            found += [Text(FRAME_TIMESTAMP_MESSAGE.format(timestamp=stamp)), *small]
        return (*found, Text(DEFAULT_MEDIA_OUTTRO))

    def collate(self, rows: Sequence[Sequence[Encoded]], rule: TileRule) -> dict[str, Tensor]:
        """Tiles (B, most tiles, C, S, S); rows with fewer end in black ones, which the model leaves out."""
        lines = [torch.cat([item.values for item in row]) for row in rows]
        most = max(len(line) for line in lines)
        made = lines[0].new_zeros(len(lines), most, *lines[0].shape[1:])
        filled = [torch.cat([line, blank[len(line) :]]) for line, blank in zip(lines, made, strict=True)]
        return {"pixel_values": torch.stack(filled)}


def _seen(values: Tensor) -> Tensor:
    """The stock model drops tiles that are zero everywhere as padding: a plain grey one is moved off zero."""
    blank = (values == 0).flatten(-3).all(-1)[..., None, None, None]
    return torch.where(blank, values + 1e-6, values)


_ONES = (
    *(
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def spelled(number: int) -> str:
    """A number below 1000 in English.

    >>> spelled(8), spelled(32), spelled(120)
    ('eight', 'thirty-two', 'one hundred and twenty')
    """
    if number < 20:
        return _ONES[number]
    if number < 100:
        rest = number % 10
        return _TENS[number // 10 - 2] + (f"-{_ONES[rest]}" if rest else "")
    rest = number % 100
    return f"{_ONES[number // 100]} hundred" + (f" and {spelled(rest)}" if rest else "")


IDEFICS3 = Idefics(("idefics3",), videos=False, processor="Idefics3ImageProcessor")
SMOLVLM = Idefics(("smolvlm",), videos=True, processor="SmolVLMImageProcessor")
