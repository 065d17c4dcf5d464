"""Pairs that say what counts and what does not: one cause changed, one spurious factor changed, one word changed.

- causal: a picture that meets its prompt against the same scene with one cause changed so that it does not. The first
  must win. Both sides carry random spurious factors, so none of them gives the answer away.
- neutral: the same scene twice, differing in one spurious factor alone: saturation, size of the file (JPEG), sharpness,
  or the position of everything together. They must tie.
- contrast: one picture under its prompt and under a near twin of it that it does not meet. The first must win, and no
  property of the picture alone can tell.

What must win or tie is checked on the final pixels by the exact judge: pairs whose outcome a factor changed are not
used. A set is a pure function of (split, seed, number), as blocks are (`pairs.py`). For augmentation of training, and
as probes with known answers: `factor_of` tells the factor of a pair.

Legend: B pictures, H W side, strengths (B,) in [-1, 1].
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mmalign.seeds import seed_of
from mmalign.shapes.changes import change
from mmalign.shapes.damage import soften
from mmalign.shapes.detection import detect
from mmalign.shapes.drawing import draw
from mmalign.shapes.grading import grade, satisfies
from mmalign.shapes.layout import sample_scene
from mmalign.shapes.pairs import family, pool_of
from mmalign.shapes.prompts import phrase
from mmalign.shapes.scene import MARGIN, Scene
from mmalign.shapes.specs import CATEGORIES, PromptSpec
from mmalign.types import PreferencePair, Sample

Rng = np.random.Generator
Factor = Callable[[Tensor, Tensor], Tensor]
SAID = ("overall", "instruction_following")
OVERDRAW = 2
"""Candidates drawn for each pair wanted; some are lost to the check on pixels."""


def saturate(images: Tensor, strength: Tensor) -> Tensor:
    """Colours away from (above 0) or towards (below 0) grey of the same luma, by up to a half."""
    luma = (images * images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return (luma + (1 + 0.5 * strength.view(-1, 1, 1, 1)) * (images - luma)).clamp(0, 1)


def sharpen(images: Tensor, strength: Tensor) -> Tensor:
    """Edges steeper (above 0) or softer (below 0), by a blur of up to half a pixel (of 32)."""
    blurred = soften(images, torch.full_like(strength, 0.32), torch.Generator())
    amount = strength.view(-1, 1, 1, 1)
    return (images + amount * (images - blurred)).clamp(0, 1)


def compress(images: Tensor, strength: Tensor) -> Tensor:
    """Through JPEG in full colour resolution, quality 95 (at 1) down to 40 (at -1): the size of the file."""
    from PIL import Image

    from mmalign.media import to_pil

    made = []
    for image, amount in zip(images, strength.tolist(), strict=True):
        buffer = io.BytesIO()
        quality = round(67.5 + 27.5 * amount)
        to_pil(image).save(buffer, format="JPEG", quality=quality, subsampling=0)
        pixels = np.asarray(Image.open(buffer).convert("RGB"), dtype=np.float32) / 255.0
        made.append(torch.from_numpy(pixels).permute(2, 0, 1))
    return torch.stack(made) if made else images


FACTORS: dict[str, Factor] = {"saturation": saturate, "sharpness": sharpen, "file_size": compress}
NEUTRAL: tuple[str, ...] = (*FACTORS, "position")


def shift(scene: Scene, rng: Rng) -> Scene:
    """All things moved together to where they still fit: relations and sizes stay."""
    moves = []
    for axis in ("x", "y"):
        low = min(getattr(thing, axis) - thing.radius for thing in scene) - MARGIN
        high = 1 - MARGIN - max(getattr(thing, axis) + thing.radius for thing in scene)
        moves.append(-low + (low + high) * float(rng.random()))
    return Scene(tuple(replace(thing, x=thing.x + moves[0], y=thing.y + moves[1]) for thing in scene))


def augmented_pairs(
    split: str, seed: int, number: int, *, causal: int = 0, neutral: int = 0, contrast: int = 0,
    categories: Sequence[str] = CATEGORIES, size: int = 32, dimensions: Sequence[str] = ("overall",),
) -> list[PreferencePair]:  # fmt: skip
    """So many pairs of each kind (at most: those the check on pixels leaves), the same for the same arguments.

    They say something of the dimensions overall and instruction_following; others of `dimensions` are left unlabelled.
    """
    made: list[PreferencePair] = []
    for kind, num in (("causal", causal), ("neutral", neutral), ("contrast", contrast)):
        rng = np.random.default_rng(seed_of("shapes-augmented", split, kind, seed, number))
        if num:
            made += MAKERS[kind](split, num, rng, categories, size)[:num]
    said = [name for name in dimensions if name in SAID]
    return [
        replace(
            pair,
            labels=dict.fromkeys(said, pair.labels["overall"]),
            ties=dict.fromkeys(said, pair.ties["overall"]),
        )
        for pair in made
    ]


def causal_pairs(
    split: str, num: int, rng: Rng, categories: Sequence[str] = CATEGORIES, size: int = 32
) -> list[PreferencePair]:
    """Up to `num` (see `augmented_pairs`) pairs in which one cause was changed; the better one on either side."""
    specs = _specs(split, OVERDRAW * num, rng, categories)
    right = [sample_scene(spec, rng) for spec in specs]
    wrong = [_broken(scene, spec, rng) for scene, spec in zip(right, specs, strict=True)]
    first, second = (_disguise(draw(scenes, size), rng) for scenes in (right, wrong))
    met, missed = _following(first, specs), _following(second, specs)
    prompts = [phrase(spec, rng) for spec in specs]
    kept = [k for k in range(len(specs)) if met[k] == 1.0 and missed[k] < 1.0]
    return [
        _turned(_pair("causal", prompts[k], first[k], prompts[k], second[k], 1.0), rng) for k in kept[:num]
    ]


def neutral_pairs(
    split: str, num: int, rng: Rng, categories: Sequence[str] = CATEGORIES, size: int = 32
) -> list[PreferencePair]:
    """Up to `num` pairs that differ in one spurious factor, each factor in turn; half show a false picture."""
    specs = _specs(split, OVERDRAW * num, rng, categories)
    scenes = [sample_scene(spec, rng) for spec in specs]
    scenes = [change(scene, rng) if rng.random() < 0.5 else scene for scene in scenes]
    names = [NEUTRAL[k % len(NEUTRAL)] for k in range(len(specs))]
    moved = [
        shift(scene, rng) if name == "position" else scene for scene, name in zip(scenes, names, strict=True)
    ]
    first, second = draw(scenes, size), draw(moved, size)
    sign = np.where(rng.random(len(specs)) < 0.5, -1.0, 1.0)
    for name, factor in FACTORS.items():
        rows = torch.tensor([k for k, one in enumerate(names) if one == name], dtype=torch.long)
        if len(rows):
            strength = torch.from_numpy(sign[rows.numpy()] * rng.uniform(0.4, 1.0, len(rows))).float()
            first[rows], second[rows] = factor(first[rows], strength), factor(second[rows], -strength)
    before, after = _following(first, specs), _following(second, specs)
    prompts = [phrase(spec, rng) for spec in specs]
    return [
        _pair(f"neutral/{names[k]}", prompts[k], first[k], prompts[k], second[k], 0.5)
        for k in range(len(specs))
        if before[k] == after[k]
    ]


def contrast_pairs(
    split: str, num: int, rng: Rng, categories: Sequence[str] = CATEGORIES, size: int = 32
) -> list[PreferencePair]:
    """Up to `num` pairs of one picture under two near-twin prompts, the one that it meets on either side."""
    wanted = OVERDRAW * num
    chosen = [family(split, categories[int(rng.integers(len(categories)))], 2, rng) for _ in range(wanted)]
    scenes = [sample_scene(members[0], rng) for members in chosen]
    images = _disguise(draw(scenes, size), rng)
    met = _following(images, [members[0] for members in chosen])
    missed = _following(images, [members[1] for members in chosen])
    texts = [tuple(phrase(spec, rng) for spec in members) for members in chosen]
    kept = [k for k in range(wanted) if met[k] == 1.0 and missed[k] < 1.0]
    return [
        _turned(_pair("contrast", texts[k][0], images[k], texts[k][1], images[k], 1.0), rng)
        for k in kept[:num]
    ]


MAKERS = {"causal": causal_pairs, "neutral": neutral_pairs, "contrast": contrast_pairs}


def factor_of(pair: PreferencePair) -> str:
    """What a pair of this module changes: causal, contrast, or neutral/<factor>."""
    return str(pair.a.metadata.get("change", ""))


def _specs(split: str, num: int, rng: Rng, categories: Sequence[str]) -> list[PromptSpec]:
    pools = [pool_of(split, categories[k % len(categories)]) for k in range(num)]
    return [pool[int(rng.integers(len(pool)))] for pool in pools]


def _broken(scene: Scene, spec: PromptSpec, rng: Rng) -> Scene:
    """The scene with one cause changed so that the demand is not met; unchanged where no try did that."""
    for _ in range(12):
        changed = change(scene, rng)
        if not satisfies(changed, spec):
            return changed
    return scene


def _disguise(images: Tensor, rng: Rng) -> Tensor:
    """Random spurious factors, each on half of the pictures."""
    made = images.clone()
    for factor in FACTORS.values():
        rows = torch.from_numpy(np.flatnonzero(rng.random(len(images)) < 0.5))
        if len(rows):
            made[rows] = factor(made[rows], torch.from_numpy(rng.uniform(-1, 1, len(rows))).float())
    return made


def _following(images: Tensor, specs: Sequence[PromptSpec]) -> list[float]:
    """What the exact judge says of each picture's instruction following."""
    return [
        grade(sight.things, spec) if sight.readable else 0.0
        for sight, spec in zip(detect(images), specs, strict=True)
    ]


def _pair(kind: str, prompt: str, image: Tensor, other: str, second: Tensor, p: float) -> PreferencePair:
    about = {"change": kind}
    a, b = Sample(prompt, image, metadata=about), Sample(other, second, metadata=about)
    return PreferencePair(prompt, a, b, {"overall": p}, {"overall": p == 0.5}, group=prompt)


def _turned(pair: PreferencePair, rng: Rng) -> PreferencePair:
    return pair.swapped() if rng.random() < 0.5 else pair
