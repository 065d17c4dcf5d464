"""The judge of text-to-image: prompt and pixels in, verdict out; it never sees the scene.

Legend: B pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from mmalign.shapes.detection import Sight, detect
from mmalign.shapes.grading import grade
from mmalign.shapes.prompts import parse
from mmalign.shapes.specs import PromptSpec

QUALITY_SHARE = 0.25
"""Part of the overall score that visual quality can take away."""


@dataclass(frozen=True)
class Verdict:
    """What the judge says of B pictures; all scores in [0, 1], higher is better.

    `passed` is true exactly where `instruction_following` is 1; `sights` is what was detected.
    """

    passed: Tensor
    instruction_following: Tensor
    visual_quality: Tensor
    overall: Tensor
    categories: list[str]
    sights: list[Sight]


def verify(images: Tensor, prompts: Sequence[str]) -> Verdict:
    """Judge pictures (B, 3, H, W) in [0, 1] by their prompts; odd pixels fail, they never raise.

    Raises ValueError for a prompt that cannot be read or another number of pictures.

    >>> verify(torch.rand(1, 3, 32, 32), ["a red circle"]).passed.tolist()
    [False]
    """
    if len(images) != len(prompts):
        raise ValueError(f"{len(images)} pictures but {len(prompts)} prompts: give one for each")
    specs = [_parse(prompt) for prompt in prompts]
    sights = detect(images)
    following = torch.tensor(
        [
            grade(sight.things, spec) if sight.readable else 0.0
            for sight, spec in zip(sights, specs, strict=True)
        ]
    )
    quality = torch.tensor([sight.visual_quality for sight in sights])
    overall = following * (1 - QUALITY_SHARE + QUALITY_SHARE * quality)
    categories = [spec.category for spec in specs]
    return Verdict(following == 1.0, following, quality, overall, categories, sights)


@lru_cache(maxsize=8192)
def _parse(prompt: str) -> PromptSpec:
    return parse(prompt)
