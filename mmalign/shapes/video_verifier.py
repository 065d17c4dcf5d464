"""The judge of video: prompt and frames in, verdict out.

Every frame is read like a picture; the things are followed from frame to frame; the first and the
last frame must show the two ends of what is asked, and all frames in between the right things on
an orderly way.

Legend: B clips, T frames, N things of one clip, H W side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmalign.shapes.detection import Detected, Sight, detect
from mmalign.shapes.edits import DIRECTIONS
from mmalign.shapes.grading import credit
from mmalign.shapes.scene import PALETTE, PIXEL
from mmalign.shapes.specs import Requirement
from mmalign.shapes.videos import VideoSpec, parse_video

SEEN_PATH = 5.0 * PIXEL
"""Least way of a thing that counts as moved."""
STAY = 2.5 * PIXEL
"""Largest displacement of a thing that counts as still."""
SEEN_GROWTH = 1.25
"""Least ratio of radii that counts as a change of size; smaller ones count as the same size."""
LEAST_TRACKED = 0.8
"""Part of the frames in which the right things must be seen; the first and the last always."""
DETOUR = 1.3
"""Largest ratio of the way gone to the way gained (with one pixel forgiven)."""
QUALITY_SHARE = 0.15
"""Part of the overall score that motion quality, and as much that visual quality, can take."""

Track = list[Detected | None]


@dataclass(frozen=True, eq=False)
class VideoVerdict:
    """What the judge says of B clips; all scores in [0, 1], higher is better.

    `passed` is true exactly where `instruction_following` is 1; `motion_quality` is even change
    without jumps or flicker, whatever was asked; `visual_quality` the mean over frames.
    """

    passed: Tensor
    instruction_following: Tensor
    motion_quality: Tensor
    visual_quality: Tensor
    overall: Tensor
    kinds: list[str]


def verify_video(videos: Tensor, prompts: Sequence[str]) -> VideoVerdict:
    """Judge videos (B, T, 3, H, W) in [0, 1], T at least 3, by their prompts.

    Raises ValueError for a prompt that cannot be read, or a tensor of another form.
    """
    if videos.ndim != 5 or videos.shape[1] < 3 or len(videos) != len(prompts):
        raise ValueError(
            f"expected (B, T, 3, H, W) with 3 or more frames and B prompts, got {tuple(videos.shape)} "
            f"and {len(prompts)} prompts"
        )
    specs = [_parse(prompt) for prompt in prompts]
    sights, frames = detect(videos.flatten(0, 1)), videos.shape[1]
    clips = [sights[i * frames : (i + 1) * frames] for i in range(len(specs))]
    judged = torch.tensor([judge_clip(clip, spec) for clip, spec in zip(clips, specs, strict=True)])
    following, motion, visual = judged.view(-1, 3).float().unbind(1)
    overall = following * (1 - QUALITY_SHARE * (2 - motion - visual))
    kinds = [spec.kind for spec in specs]
    return VideoVerdict(following == 1.0, following, motion, visual, overall, kinds)


def judge_clip(clip: Sequence[Sight], spec: VideoSpec) -> tuple[float, float, float]:
    """Instruction following, motion quality and visual quality of the frames of one clip."""
    tracks = follow(clip, spec)
    quality = float(np.mean([sight.visual_quality for sight in clip]))
    return _follows(clip, tracks, spec), _smoothness(tracks), quality


def follow(clip: Sequence[Sight], spec: VideoSpec) -> list[Track]:
    """The thing in each frame that plays the subject, and the one that plays the still thing."""
    needs = [Requirement(1, None if spec.kind == "recolor" else spec.subject.color, spec.subject.shape)]
    needs += [] if spec.still is None else [spec.still]
    tracks: list[Track] = [[] for _ in needs]
    for sight in clip:
        found: Track = [None] * len(needs)
        if sight.things and sight.readable:
            fit = np.array([[credit(thing, need) for thing in sight.things] for need in needs])
            for i, j in zip(*linear_sum_assignment(-fit), strict=True):
                found[int(i)] = sight.things[int(j)]
        for track, thing in zip(tracks, found, strict=True):
            track.append(thing)
    return tracks


def _follows(clip: Sequence[Sight], tracks: list[Track], spec: VideoSpec) -> float:
    """Instruction following of one clip: the right things in the frames, times what happened."""
    subject = tracks[0]
    right = np.mean([_frame_credit(sight, tracks, t, spec) for t, sight in enumerate(clip)])
    solid = np.array([_frame_right(sight, tracks, t, spec) for t, sight in enumerate(clip)])
    first, last = subject[0], subject[-1]
    if first is None or last is None:
        return 0.2 * float(right)
    change = _change(subject, first, last, spec)
    quiet = len(tracks) < 2 or _quiet(tracks[1])
    if change == 1.0 and quiet and solid[0] and solid[-1] and solid.mean() >= LEAST_TRACKED:
        return 1.0
    return min(0.99, float(right) * (0.3 + 0.7 * change) * (1.0 if quiet else 0.7))


def _frame_right(sight: Sight, tracks: list[Track], t: int, spec: VideoSpec) -> bool:
    """Whether a frame shows exactly the right things; a turning colour is judged at the ends only."""
    if len(sight.things) != len(tracks):
        return False
    subject = tracks[0][t]
    if subject is None or subject.shape != spec.subject.shape:
        return False
    if spec.still is not None:
        other = tracks[1][t]
        if other is None or (other.color, other.shape) != (spec.still.color, spec.still.shape):
            return False
    if spec.kind != "recolor":
        return subject.color == (spec.subject.color or _first_color(tracks[0])) and bool(subject.color)
    if t == 0:
        return subject.color == spec.subject.color or (
            spec.subject.color is None and subject.color not in (None, spec.value)
        )
    return t < len(tracks[0]) - 1 or subject.color == spec.value


def _first_color(track: Track) -> str | None:
    """The colour in which a thing is first seen."""
    return next((thing.color for thing in track if thing is not None and thing.color), None)


def _frame_credit(sight: Sight, tracks: list[Track], t: int, spec: VideoSpec) -> float:
    color = None if spec.kind == "recolor" else spec.subject.color
    needs = [Requirement(1, color, spec.subject.shape)] + ([spec.still] if spec.still else [])
    seen = [track[t] for track in tracks]
    total = sum(credit(thing, need) for thing, need in zip(seen, needs, strict=True) if thing)
    return total / max(len(needs), len(sight.things), 1)


def _change(subject: Track, first: Detected, last: Detected, spec: VideoSpec) -> float:
    """How much of what was asked happened between the ends: 0 nothing, 1 all of it and no more."""
    path = np.array([(t.x, t.y) for t in subject if t is not None])
    dx, dy = last.x - first.x, last.y - first.y
    growth = last.radius / max(first.radius, 1e-6)
    placed = max(abs(dx), abs(dy)) <= STAY
    sized = 1 / SEEN_GROWTH < growth < SEEN_GROWTH
    if spec.kind == "move":
        ways = np.array(DIRECTIONS[spec.value])
        along, across = float(dx * ways[0] + dy * ways[1]), float(abs(dx * ways[1]) + abs(dy * ways[0]))
        steps = np.abs(np.diff(path @ ways)).sum()
        direct = steps <= DETOUR * along + PIXEL
        part, rest = along / SEEN_PATH, across <= STAY and sized and direct
    elif spec.kind == "resize":
        ratio = growth if spec.value == "larger" else 1 / max(growth, 1e-6)
        radii = np.log([t.radius for t in subject if t is not None])
        direct = np.abs(np.diff(radii)).sum() <= DETOUR * np.log(ratio) + 0.15 if ratio > 1 else False
        part, rest = float(np.log(ratio) / np.log(SEEN_GROWTH)), placed and bool(direct)
    else:
        goal = np.array(PALETTE[spec.value])
        start = np.linalg.norm(np.array(first.tint) - goal)
        part = float(1 - np.linalg.norm(np.array(last.tint) - goal) / max(float(start), 0.2))
        part = 1.0 if last.color == spec.value and first.color not in (None, spec.value) else min(part, 0.9)
        rest = placed and sized
    part = float(np.clip(part, 0.0, 1.0))
    return part if rest else 0.7 * part


def _quiet(track: Track) -> bool:
    """Whether a thing stays in its place at its size."""
    seen = [thing for thing in track if thing is not None]
    if not seen:
        return False
    x, y, radius = (np.array(values) for values in zip(*((t.x, t.y, t.radius) for t in seen), strict=True))
    return bool(max(np.ptp(x), np.ptp(y)) <= STAY and radius.max() < SEEN_GROWTH * radius.min())


def _smoothness(tracks: list[Track]) -> float:
    """Part of the frames in which things are seen, times how even their changes are."""
    scores = []
    for track in tracks:
        seen = [thing for thing in track if thing is not None and thing.shape is not None]
        if len(seen) < 3:
            scores.append(0.0)
            continue
        states = np.array([(t.x, t.y, t.radius, *(0.25 * v for v in t.tint)) for t in seen]) / PIXEL
        jolts = np.linalg.norm(np.diff(states, n=2, axis=0), axis=1)
        scores.append(len(seen) / len(track) * float(np.exp(-max(0.0, jolts.mean() - 0.35) / 1.5)))
    return float(np.mean(scores))


@lru_cache(maxsize=8192)
def _parse(prompt: str) -> VideoSpec:
    return parse_video(prompt)
