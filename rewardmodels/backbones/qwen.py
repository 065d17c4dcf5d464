"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: patches of any size, three positions a token.

All three cut media alike (`rewardmodels.pixels`). They differ in how time is told: Qwen2-VL counts temporal patches,
Qwen2.5-VL counts seconds in the positions, Qwen3-VL writes the time of every temporal patch as text before it.

Legend: B rows, M media of one shape, T frames, C H W, tp temporal patch, P patch side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from rewardmodels.backbones.base import Encoded, Piece, Span, Text, Token, values_of
from rewardmodels.clips import Clip, VideoRule
from rewardmodels.pixels import PixelRule, patchify

START, END = Token("<|vision_start|>"), Token("<|vision_end|>")
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"


@dataclass(frozen=True)
class Grid:
    """Patches of a medium in time, height and width; of a video, when each temporal patch is and how long it lasts."""

    t: int
    h: int
    w: int
    times: tuple[float, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Qwen:
    """One generation of the family."""

    model_types: tuple[str, ...]
    time: Literal["patches", "seconds", "text"]
    mrope: bool = True
    image_token: str = IMAGE
    tokens: tuple[str, ...] = (START.name, END.name, IMAGE)
    processor: str = "Qwen2VLImageProcessor"

    def read_rule(self, record: Mapping[str, Any], config: Any) -> PixelRule:
        """`min_pixels` and `max_pixels` are written as shortest and longest edge in current folders."""
        size = record.get("size") or {}
        seconds = getattr(config.vision_config, "tokens_per_second", None)
        return PixelRule(
            record["patch_size"], record["merge_size"], record["temporal_patch_size"],
            tuple(record["image_mean"]), tuple(record["image_std"]),
            record.get("min_pixels") or size.get("shortest_edge", 56 * 56),
            record.get("max_pixels") or size.get("longest_edge", 448 * 448),
            tokens_per_second=float(seconds or 0.0) if self.time == "seconds" else 0.0,
            eight_bit=record.get("eight_bit", False),
        )  # fmt: skip

    def write_rule(self, rule: PixelRule) -> dict[str, Any]:
        """The fields of Qwen2VLImageProcessor."""
        return {
            "patch_size": rule.patch_size, "merge_size": rule.merge_size,
            "temporal_patch_size": rule.temporal_patch_size,
            "image_mean": list(rule.mean), "image_std": list(rule.std), "eight_bit": rule.eight_bit,
            "size": {"shortest_edge": rule.min_pixels, "longest_edge": rule.max_pixels},
        }  # fmt: skip

    def encode(
        self, clips: Sequence[Clip], rule: PixelRule, video: VideoRule, *, alone: bool
    ) -> list[Encoded]:
        """Patches (t*h*w, C*tp*P*P) of each medium."""
        frames = torch.stack([clip.frames for clip in clips]).float()
        if clips[0].is_video:
            low, high = video.pixels(frames.shape[1])
            rule = replace(rule, min_pixels=low, max_pixels=high)
        patches, (t, h, w) = patchify(frames, rule)
        depth = rule.temporal_patch_size
        return [
            Encoded(rows, Grid(t, h, w, middles(clip.times, depth), depth * clip.step))
            for rows, clip in zip(patches, clips, strict=True)
        ]

    def pieces(self, layout: Grid, rule: PixelRule) -> tuple[Piece, ...]:
        """Start, a placeholder for every merged patch, end; in Qwen3-VL so for each temporal patch of a video."""
        h, w = layout.h // rule.merge_size, layout.w // rule.merge_size
        if not layout.times:
            return START, Span(IMAGE, layout.t * h * w, (layout.t, h, w)), END
        if self.time == "text":
            found: list[Piece] = []
            for second in layout.times:
                found += [Text(f"<{second:.1f} seconds>"), START, Span(VIDEO, h * w, (1, h, w)), END]
            return tuple(found)
        interval = layout.seconds * rule.tokens_per_second if self.time == "seconds" else 1.0
        return START, Span(VIDEO, layout.t * h * w, (layout.t, h, w), interval), END

    def collate(self, rows: Sequence[Sequence[Encoded]], rule: PixelRule) -> dict[str, Tensor]:
        """Pixels and grids of pictures and of videos apart."""
        found: dict[str, Tensor] = {}
        for video, pixels, grids in (
            (False, "pixel_values", "image_grid_thw"),
            (True, "pixel_values_videos", "video_grid_thw"),
        ):
            chosen = [item for item in values_of(rows) if bool(item.layout.times) is video]  # type: ignore[attr-defined]
            if chosen:
                found[pixels] = torch.cat([item.values for item in chosen])
                table = [(item.layout.t, item.layout.h, item.layout.w) for item in chosen]  # type: ignore[attr-defined]
                found[grids] = torch.tensor(table, device=found[pixels].device)
        return found


def middles(times: tuple[float, ...], depth: int) -> tuple[float, ...]:
    """The second of each temporal patch: halfway between its first and its last frame; an odd last frame counts twice.

    >>> middles((0.0, 0.5, 1.0), 2)
    (0.25, 1.0)
    """
    full = times + times[-1:] * (-len(times) % depth)
    return tuple((full[i] + full[i + depth - 1]) / 2 for i in range(0, len(full), depth))


QWEN2 = Qwen(("qwen2_vl",), "patches")
QWEN25 = Qwen(("qwen2_5_vl",), "seconds")
QWEN3 = Qwen(("qwen3_vl", "qwen3_vl_moe"), "text")
