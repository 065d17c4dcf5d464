"""LLaVA-OneVision: a lone picture in tiles of the fitting resolution, several pictures squared, pooled video frames.

Legend: B rows, M media of one shape, N tiles, T frames, C H W, S side of a tile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.image_processing_utils import select_best_resolution

from rewardmodels.backbones.base import Encoded, Piece, Span, values_of
from rewardmodels.clips import Clip, VideoRule
from rewardmodels.resizing import PILLOW, Kernel, normalised, resize, tiles, within

IMAGE, VIDEO = "<image>", "<video>"


@dataclass(frozen=True)
class AnyRule:
    """Tile side, the resolutions to choose from, patches along a tile, and the most tiles' worth of features."""

    side: int
    resolutions: tuple[tuple[int, int], ...]
    across: int
    max_tiles: int = 9
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    kernel: Kernel = "bicubic"

    def num_features(self, height: int, width: int) -> int:
        """Placeholders of a lone picture: the small one, the tiles without their margins, a line end for each row."""
        tall, wide = select_best_resolution((height, width), [list(size) for size in self.resolutions])
        rows, columns = tall // self.side * self.across, wide // self.side * self.across
        if width / height > columns / rows:
            rows -= (rows - int(round(height * (columns / width), 7))) // 2 * 2
        else:
            columns -= (columns - int(round(width * (rows / height), 7))) // 2 * 2
        ratio = math.sqrt(rows * columns / (self.max_tiles * self.across**2))
        if ratio > 1.1:
            rows, columns = int(rows // ratio), int(columns // ratio)
        return self.across**2 + rows * columns + rows


@dataclass(frozen=True)
class Seen:
    """Placeholders of a medium, and the size that the model needs to know of a picture."""

    num: int
    height: int
    width: int
    video: bool = False


@dataclass(frozen=True)
class Llava:
    """The family of `LlavaOnevisionForConditionalGeneration`."""

    model_types: tuple[str, ...] = ("llava_onevision",)
    mrope: bool = False
    image_token: str = IMAGE
    tokens: tuple[str, ...] = (IMAGE,)
    processor: str = "LlavaOnevisionImageProcessor"

    def read_rule(self, record: Mapping[str, Any], config: Any) -> AnyRule:
        """Sizes from the processor; patches along a tile and the cap on features from the model."""
        size, vision = record["size"], config.vision_config
        return AnyRule(
            size.get("height") or size["shortest_edge"],
            tuple((h, w) for h, w in record["image_grid_pinpoints"]),
            vision.image_size // vision.patch_size,
            int(str(getattr(config, "vision_aspect_ratio", "anyres_max_9")).removeprefix("anyres_max_")),
            tuple(record["image_mean"]), tuple(record["image_std"]), PILLOW[record.get("resample", 3)],
        )  # fmt: skip

    def write_rule(self, rule: AnyRule) -> dict[str, Any]:
        """The fields of LlavaOnevisionImageProcessor."""
        return {
            "size": {"height": rule.side, "width": rule.side}, "do_pad": True,
            "image_grid_pinpoints": [list(size) for size in rule.resolutions],
            "image_mean": list(rule.mean), "image_std": list(rule.std),
            "resample": next(number for number, kernel in PILLOW.items() if kernel == rule.kernel),
        }  # fmt: skip

    def encode(self, clips: Sequence[Clip], rule: AnyRule, video: VideoRule, *, alone: bool) -> list[Encoded]:
        """Tiles (N, C, S, S) of each picture, the small whole first; the frames of each video."""
        frames = torch.stack([clip.frames for clip in clips]).float()
        height, width = frames.shape[-2:]
        whole = (rule.side, rule.side)
        if clips[0].is_video:
            cut = resize(frames, whole, kernel=rule.kernel, eight_bit=True)
            num = frames.shape[1] * math.ceil(rule.across / 2) ** 2 + 1
            layout = Seen(num, height, width, video=True)
        elif alone:
            cut = torch.cat(
                [resize(frames, whole, kernel=rule.kernel, eight_bit=True), _fitted(frames, rule)], 1
            )
            layout = Seen(rule.num_features(height, width), height, width)
        else:
            cut = resize(_squared(frames, rule.mean), whole, kernel=rule.kernel, eight_bit=True)
            layout = Seen(rule.across**2 + 1, height, width)
        return [Encoded(one, layout) for one in normalised(cut, rule.mean, rule.std)]

    def pieces(self, layout: Seen, rule: AnyRule) -> tuple[Piece, ...]:
        """A placeholder for every feature."""
        return (Span(VIDEO if layout.video else IMAGE, layout.num),)

    def collate(self, rows: Sequence[Sequence[Encoded]], rule: AnyRule) -> dict[str, Tensor]:
        """Tiles (pictures, most tiles, C, S, S) with sizes and pictures a row; videos (videos, T, C, S, S)."""
        pictures = [item for item in values_of(rows) if not item.layout.video]  # type: ignore[attr-defined]
        videos = [item for item in values_of(rows) if item.layout.video]  # type: ignore[attr-defined]
        found: dict[str, Tensor] = {}
        if pictures:
            sizes = [(item.layout.height, item.layout.width) for item in pictures]  # type: ignore[attr-defined]
            most = max(len(item.values) for item in pictures)
            padded = [F.pad(one.values, (0, 0, 0, 0, 0, 0, 0, most - len(one.values))) for one in pictures]
            found["pixel_values"] = torch.stack(padded)
            found["image_sizes"] = torch.tensor(sizes, device=padded[0].device)
            counts = [sum(not item.layout.video for item in row) for row in rows]  # type: ignore[attr-defined]
            if max(counts) > 1:
                found["batch_num_images"] = torch.tensor(counts, device=padded[0].device)
        if videos:
            if len({len(item.values) for item in videos}) > 1:
                raise ValueError("LLaVA-OneVision reads videos of one length together: set batch_size to 1")
            found["pixel_values_videos"] = torch.stack([item.values for item in videos])
        return found


def _fitted(frames: Tensor, rule: AnyRule) -> Tensor:
    """Pictures (M, 1, C, H, W) at the fitting resolution, black margins around, cut in tiles (M, N, C, S, S)."""
    height, width = frames.shape[-2:]
    size = select_best_resolution((height, width), [list(one) for one in rule.resolutions])
    tall, wide = within(height, width, size)
    large = resize(frames[:, 0], (tall, wide), kernel=rule.kernel, eight_bit=True)
    top, left = (size[0] - tall) // 2, (size[1] - wide) // 2
    return tiles(F.pad(large, (left, size[1] - wide - left, top, size[0] - tall - top)), rule.side)


def _squared(frames: Tensor, mean: tuple[float, ...]) -> Tensor:
    """Pictures (M, 1, C, H, W) in the middle of a square of the mean colour."""
    height, width = frames.shape[-2:]
    longest = max(height, width)
    top, left = (longest - height) // 2, (longest - width) // 2
    colour = torch.tensor([int(value * 255) / 255 for value in mean], device=frames.device).view(-1, 1, 1)
    margins = (left, longest - width - left, top, longest - height - top)
    inside = F.pad(torch.ones_like(frames[..., :1, :, :]), margins)
    return F.pad(frames, margins) + colour * (1 - inside)


LLAVA_ONEVISION = Llava()
