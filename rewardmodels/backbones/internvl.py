"""InternVL: square tiles in the grid whose shape is nearest to the picture's, then a thumbnail.

A video is numbered frames, each one tile.

Legend: B rows, M media of one shape, N tiles, T frames, C H W, S side of a tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from rewardmodels.backbones.base import Encoded, Piece, Span, Text, Token, values_of
from rewardmodels.clips import Clip, VideoRule
from rewardmodels.resizing import PILLOW, Kernel, normalised, resize, tiles

START, END, IMAGE = Token("<img>"), Token("</img>"), "<IMG_CONTEXT>"


@dataclass(frozen=True)
class CropRule:
    """How a picture becomes tiles: the fields of a GotOcr2 `preprocessor_config.json`, and tokens a tile."""

    side: int
    num_tokens: int
    crop: bool = False
    min_tiles: int = 1
    max_tiles: int = 12
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    kernel: Kernel = "bicubic"


@dataclass(frozen=True)
class Crops:
    """The number of tiles, thumbnail included, or of frames."""

    num: int
    video: bool = False


@lru_cache(maxsize=1024)
def grid_of(height: int, width: int, side: int, low: int, high: int) -> tuple[int, int]:
    """Columns and rows of the grid of `low` to `high` tiles with the shape nearest to the picture's.

    Of equals the later, larger one is taken while its tiles cover less than twice the picture.

    >>> grid_of(100, 200, 28, 1, 12)
    (4, 2)
    """
    candidates = [(w, h) for w in range(1, high + 1) for h in range(1, high + 1) if low <= w * h <= high]
    best, nearest = (1, 1), float("inf")
    for columns, rows in sorted(candidates, key=lambda grid: grid[0] * grid[1]):
        far = abs(width / height - columns / rows)
        if far < nearest:
            best, nearest = (columns, rows), far
        elif far == nearest and height * width > 0.5 * side * side * columns * rows:
            best = (columns, rows)
    return best


@dataclass(frozen=True)
class InternVL:
    """The family of `InternVLForConditionalGeneration`."""

    model_types: tuple[str, ...] = ("internvl",)
    mrope: bool = False
    image_token: str = IMAGE
    tokens: tuple[str, ...] = (START.name, END.name, IMAGE)
    processor: str = "GotOcr2ImageProcessor"

    def read_rule(self, record: Mapping[str, Any], config: Any) -> CropRule:
        """Sizes from the processor; the placeholders of a tile follow from the model."""
        side = record["size"]["height"]
        if record["size"]["width"] != side:
            raise ValueError(f"InternVL reads square tiles, the processor says {record['size']}")
        patch = config.vision_config.patch_size
        across = side // (patch[0] if isinstance(patch, list | tuple) else patch)
        return CropRule(
            side, int(across**2 * config.downsample_ratio**2), record.get("crop_to_patches", False),
            record.get("min_patches", 1), record.get("max_patches", 12),
            tuple(record["image_mean"]), tuple(record["image_std"]), PILLOW[record.get("resample", 3)],
        )  # fmt: skip

    def write_rule(self, rule: CropRule) -> dict[str, Any]:
        """The fields of GotOcr2ImageProcessor."""
        return {
            "size": {"height": rule.side, "width": rule.side}, "crop_to_patches": rule.crop,
            "min_patches": rule.min_tiles, "max_patches": rule.max_tiles,
            "image_mean": list(rule.mean), "image_std": list(rule.std),
            "resample": next(number for number, kernel in PILLOW.items() if kernel == rule.kernel),
        }  # fmt: skip

    def encode(
        self, clips: Sequence[Clip], rule: CropRule, video: VideoRule, *, alone: bool
    ) -> list[Encoded]:
        """Tiles (N, C, S, S) of each picture, the thumbnail last; the frames of each video."""
        frames = torch.stack([clip.frames for clip in clips]).float()
        whole = (rule.side, rule.side)
        if clips[0].is_video or not rule.crop or rule.max_tiles < 2:
            cut = resize(frames, whole, kernel=rule.kernel, eight_bit=True)
        else:
            columns, rows = grid_of(*frames.shape[-2:], rule.side, rule.min_tiles, rule.max_tiles)
            large = (rows * rule.side, columns * rule.side)
            cut = tiles(resize(frames[:, 0], large, kernel=rule.kernel, eight_bit=True), rule.side)
            if cut.shape[1] > 1:
                cut = torch.cat([cut, resize(frames, whole, kernel=rule.kernel, eight_bit=True)], 1)
        layout = Crops(cut.shape[1], clips[0].is_video)
        return [Encoded(one, layout) for one in normalised(cut, rule.mean, rule.std)]

    def pieces(self, layout: Crops, rule: CropRule) -> tuple[Piece, ...]:
        """All tiles of a picture in one span; a video as numbered frames, one a line."""
        if not layout.video:
            return START, Span(IMAGE, rule.num_tokens * layout.num), END
        found: list[Piece] = []
        for number in range(1, layout.num + 1):
            words = f"Frame{number}: " if number == 1 else f"\nFrame{number}: "
            found += [Text(words), START, Span(IMAGE, rule.num_tokens), END]
        return tuple(found)

    def collate(self, rows: Sequence[Sequence[Encoded]], rule: CropRule) -> dict[str, Tensor]:
        """All tiles, one after the other."""
        return {"pixel_values": torch.cat([item.values for item in values_of(rows)])}


INTERNVL = InternVL()
