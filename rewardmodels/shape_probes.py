"""Probes of a reward on shapes that need no annotator: does it see the words, and that nothing was done?

    wrong_prompt   a picture under a prompt it meets scores above the same picture under a near twin that it fails; a
                   judge of pairs is shown two pictures under one prompt, of which the other was drawn for the twin
    identity_edit  a true edit scores above the source handed back                                   (edits)
    still_video    a clip in which it happens scores above its first frame, repeated                 (videos)

Legend: F families, K media and M prompts of a family.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from mmalign.shapes.pairs import Block
from mmalign.shapes.worlds import World
from mmalign.stats import intervals
from mmalign.types import RewardModel, Sample

MET, FAILED_BY = 1.2, 0.4
"""From which worth on a prompt is met, and how much less a prompt is worth that is failed."""

Contrast = tuple[Sample, Sample, str]
"""What must score above what, and the prompt both belong to."""


def probe(model: RewardModel, world: World, *, num: int, seed: int = 0) -> dict[str, dict[str, object]]:
    """For each probe that fits the world the rate of `num` contrasts that were passed, with its interval. Those that
    could not be scored were not passed, and are counted as `unscored`.
    """
    compares = getattr(model, "needs_group", False)
    makers = {"wrong_prompt": wrong_pictures if compares else wrong_prompts}
    if world.modality == "edit":
        makers["identity_edit"] = identity_edits
    if world.modality == "video":
        makers["still_video"] = still_videos
    return {name: _rate(model, _first(make(world, seed), num)) for name, make in makers.items()}


def wrong_prompts(world: World, seed: int) -> Iterator[Contrast]:
    """One medium, a prompt it meets, and a prompt of the same family that it does not."""
    for f, block in _families(world, seed):
        for k in range(block.utility.shape[1]):
            worth = block.utility[f, k]
            good, bad = int(worth.argmax()), int(worth.argmin())
            if worth[good] >= MET and worth[bad] <= worth[good] - FAILED_BY:
                source = None if block.sources is None else block.sources[f]
                one, other = (Sample(block.prompts[f][m], block.images[f, k], source) for m in (good, bad))
                yield one, other, one.prompt


def wrong_pictures(world: World, seed: int) -> Iterator[Contrast]:
    """A medium that meets a prompt, and one of the same family that meets another instead."""
    for f, block in _families(world, seed):
        worth = block.utility[f]  # (K, M)
        gap = worth[:, None] - worth[None]  # (K, K, M)
        apart = (worth[:, None] >= MET) & (gap >= FAILED_BY) & (worth.amax(1) >= MET)[None, :, None]
        for good, bad, m in apart.nonzero().tolist()[:1]:
            source = None if block.sources is None else block.sources[f]
            one, other = (Sample(block.prompts[f][m], block.images[f, k], source) for k in (good, bad))
            yield one, other, one.prompt


def identity_edits(world: World, seed: int) -> Iterator[Contrast]:
    """A true edit and its source, given back as if it were the result."""
    for sample in _true_ones(world, seed):
        assert sample.source is not None
        yield sample, Sample(sample.prompt, sample.source, sample.source), sample.prompt


def still_videos(world: World, seed: int) -> Iterator[Contrast]:
    """A true clip and its first frame, repeated."""
    for sample in _true_ones(world, seed):
        assert isinstance(sample.media, Tensor)
        still = sample.media[:1].expand_as(sample.media).clone()
        yield sample, Sample(sample.prompt, still), sample.prompt


def _true_ones(world: World, seed: int) -> Iterator[Sample]:
    for f, block in _families(world, seed):
        for k, m in (block.utility[f] >= MET).nonzero().tolist():
            source = None if block.sources is None else block.sources[f]
            yield Sample(block.prompts[f][m], block.images[f, k], source)


def _families(world: World, seed: int) -> Iterator[tuple[int, Block]]:
    number = 0
    while True:
        block = world.make("heldout", seed + 1, number, num_families=2 * len(world.kinds), damage_share=0.0)
        number += 1
        for f in range(len(block.prompts)):
            yield f, block


def _first(contrasts: Iterator[Contrast], num: int) -> list[Contrast]:
    return [next(contrasts) for _ in range(num)]


def _rate(model: RewardModel, contrasts: list[Contrast]) -> dict[str, object]:
    shown = [replace(s, metadata={"group": n}) for n, one in enumerate(contrasts) for s in one[:2]]
    scores = model(samples=shown).overall.view(-1, 2)
    right = (scores[:, 0] > scores[:, 1]).double() + 0.5 * (scores[:, 0] == scores[:, 1]).double()
    unscored = int((~torch.isfinite(scores)).any(dim=1).sum())
    rate = intervals.mean(right.numpy(), [prompt for _, _, prompt in contrasts]).as_dict()
    return rate | ({"unscored": unscored} if unscored else {})
