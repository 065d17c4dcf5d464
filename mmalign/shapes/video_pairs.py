"""Families of videos: prompts that are near twins, and clips judged under each of them.

Among the clips are true ones, ones in which nothing happens, the same backwards or with its frames mixed up, and
clips of which every frame is damaged.

Legend: F families of a block, M prompts and K clips of a family, T frames, H W side.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mmalign.seeds import seed_of
from mmalign.shapes.damage import damage
from mmalign.shapes.detection import detect
from mmalign.shapes.pairs import PASS_BONUS, TWIN_SHARE, Block
from mmalign.shapes.video_verifier import QUALITY_SHARE, judge_clip
from mmalign.shapes.videos import (
    VIDEO_KINDS,
    VideoSpec,
    draw_clips,
    sample_clip,
    video_phrasings,
    video_specs,
)

Rng = np.random.Generator
NUM_FRAMES = 4
"""Frames of a clip: enough for the judge, and two temporal patches for a model."""
FAULTS: tuple[tuple[str, float], ...] = (
    ("none", 0.55),
    ("still", 0.15),
    ("backwards", 0.15),
    ("mixed", 0.15),
)
"""What goes wrong with a clip, and how often."""


def make_video_block(
    split: str, seed: int, block: int, *, num_families: int = 16, num_prompts: int = 4, num_images: int = 4,
    damage_share: float = 0.5, categories: Sequence[str] = VIDEO_KINDS, size: int = 32,
    num_frames: int = NUM_FRAMES,
) -> Block:  # fmt: skip
    """Block number `block` of the endless stream of videos of this split and seed."""
    rng = np.random.default_rng(seed_of("shapes-video-pairs", split, seed, block))
    specs: list[list[VideoSpec]] = []
    clips = []
    for index in range(num_families):
        kind = categories[(block * num_families + index) % len(categories)]
        members = video_family(split, kind, num_prompts, rng)
        specs.append(members)
        clips += [sample_clip(members[k % num_prompts], rng, num_frames) for k in range(num_images)]
    asked = tuple(tuple(_phrase(spec, rng) for spec in members) for members in specs)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    videos = torch.stack([faulty(video, rng) for video in draw_clips(clips, size)])
    struck = torch.rand(len(videos), generator=generator) < damage_share / 2
    if bool(struck.any()):
        frames = damage(videos[struck].flatten(0, 1), 1.0, generator)
        videos[struck] = frames.view(-1, *videos.shape[1:])
    videos = videos.unflatten(0, (num_families, num_images))
    worth, aspects = _worth(videos, specs)
    return Block(asked, tuple(members[0].kind for members in specs), videos, worth, aspects)


def video_family(split: str, kind: str, num: int, rng: Rng) -> list[VideoSpec]:
    """`num` specs of one kind, most of them near twins of the first."""
    pool = _pool(split, kind)
    members = [pool[int(rng.integers(len(pool)))]]
    twins = [spec for spec in pool if 0 < _differences(members[0], spec) <= 2]
    for _ in range(num - 1):
        choices = twins if twins and rng.random() < TWIN_SHARE else pool
        members.append(choices[int(rng.integers(len(choices)))])
    return members


def faulty(video: Tensor, rng: Rng) -> Tensor:
    """A clip (T, 3, H, W) as it is, or stopped, turned round or mixed up."""
    names, shares = zip(*FAULTS, strict=True)
    fault = names[int(rng.choice(len(names), p=shares))]
    if fault == "still":
        return video[:1].expand_as(video).clone()
    if fault == "backwards":
        return video.flip(0)
    if fault == "mixed":
        return video[torch.from_numpy(rng.permutation(len(video)))]
    return video


def _differences(a: VideoSpec, b: VideoSpec) -> int:
    """In how many causes two specs differ."""
    fields_a = (a.subject.color, a.subject.shape, a.value, a.still)
    fields_b = (b.subject.color, b.subject.shape, b.value, b.still)
    return sum(x != y for x, y in zip(fields_a, fields_b, strict=True))


def _worth(videos: Tensor, specs: Sequence[Sequence[VideoSpec]]) -> tuple[Tensor, dict[str, Tensor]]:
    """The worth (F, K, M) of clips (F, K, T, 3, H, W) under every prompt, and its aspects."""
    _, clips, frames = videos.shape[:3]
    sights = detect(videos.flatten(0, 2))
    rows = []
    for f, members in enumerate(specs):
        for k in range(clips):
            start = (f * clips + k) * frames
            rows.append([judge_clip(sights[start : start + frames], spec) for spec in members])
    found = torch.tensor(rows).view(len(specs), clips, -1, 3)
    following, motion, visual = found.unbind(-1)
    overall = following * (1 - QUALITY_SHARE * (2 - motion - visual))
    worth = overall + PASS_BONUS * (following == 1.0).float()
    aspects = {"instruction_following": following, "motion_quality": motion, "visual_quality": visual}
    return worth, aspects


def _phrase(spec: VideoSpec, rng: Rng) -> str:
    texts = video_phrasings(spec)
    return texts[int(rng.integers(len(texts)))]


@lru_cache(maxsize=8)
def _pool(split: str, kind: str) -> tuple[VideoSpec, ...]:
    pool = tuple(spec for spec in video_specs(split) if spec.kind == kind)
    if not pool:
        raise ValueError(f"unknown kind of video '{kind}': use one of {VIDEO_KINDS}")
    return pool
