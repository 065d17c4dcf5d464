"""Rewards and samples made for the tests of trust: what each probe, factor and curve must say of them is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from mmalign.types import Sample, Scores
from rewardmodels.trust import Ask

WORDS = ("red", "blue", "large", "small", "old", "new", "tall", "flat", "warm", "cold", "near", "far")


def ask_of(value: Callable[[Sample], float]) -> Ask:
    """A reward from one function of a sample; NaN is a refusal."""

    def ask(samples: Sequence[Sample]) -> Scores:
        found = torch.tensor([float(value(sample)) for sample in samples])
        valid = torch.isfinite(found)
        reasons = tuple(None if good else "it cannot say" for good in valid.tolist())
        return Scores(found.nan_to_num()[:, None], ("r",), found.nan_to_num(), valid, reasons)

    return ask


def photos(
    num_prompts: int = 12, num: int = 3, seed: int = 0, size: int = 16
) -> tuple[list[Sample], list[str]]:
    """Smooth coloured pictures of differing colour, each with its prompt, and the groups."""
    rng = torch.Generator().manual_seed(seed)
    samples, groups = [], []
    for p in range(num_prompts):
        prompt = f"a {WORDS[p % len(WORDS)]} thing number {p}"
        for k in range(num):
            coarse = torch.rand(1, 3, 4, 4, generator=rng) * 0.6 + 0.2
            image = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")[0].clamp(0, 1)
            samples.append(Sample(prompt, image, id=f"{p}-{k}", metadata={"group": prompt}))
            groups.append(prompt)
    return samples, groups


def clips(num_prompts: int = 10, num_frames: int = 6) -> tuple[list[Sample], list[str]]:
    """A bright block that wanders right over a dark ground, faster from prompt to prompt."""
    samples = []
    for p in range(num_prompts):
        frames = torch.full((num_frames, 3, 16, 16), 0.1)
        for t in range(num_frames):
            left = (t * (1 + p % 2) + p) % 12
            frames[t, :, 4:8, left : left + 4] = 0.3 + 0.1 * t
        samples.append(Sample(f"block {p} wanders right", frames, id=str(p)))
    return samples, [sample.prompt for sample in samples]


def edits(num_prompts: int = 10) -> tuple[list[Sample], list[str]]:
    """A picture with one corner painted white, and the picture it was made from."""
    sources, groups = photos(num_prompts, 1)
    made = []
    for sample in sources:
        image = sample.frames()[0].clone()
        image[:, :6, :6] = 1.0
        made.append(Sample(sample.prompt, image, sample.frames(), sample.id, sample.metadata))
    return made, groups
