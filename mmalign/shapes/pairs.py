"""Preference pairs of the shapes world: families of near-twin prompts, pictures of them, and their true worth.

A family is M prompts that differ in one or two causes (colour, shape, size, count, relation, binding) and K
pictures, most of them true to one of the prompts, some with further changes, some damaged (`damage.py`). Every
picture is compared under every prompt, so "one attribute wrong" and "right picture, wrong prompt" are the rule
and not the exception. A block of families is a pure function of (split, seed, block): a stream can be resumed
anywhere, and two machines see the same pictures.

Legend: F families of a block, M prompts and K pictures of a family, H W side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmalign.seeds import seed_of
from mmalign.shapes.annotators import LABELS, Law, annotate
from mmalign.shapes.changes import change
from mmalign.shapes.damage import damage
from mmalign.shapes.detection import Sight, detect
from mmalign.shapes.drawing import draw
from mmalign.shapes.grading import grade
from mmalign.shapes.layout import sample_scene
from mmalign.shapes.prompts import phrase, split_specs
from mmalign.shapes.scene import Scene
from mmalign.shapes.specs import CATEGORIES, PromptSpec
from mmalign.shapes.verifier import QUALITY_SHARE
from mmalign.types import Annotation, Candidate, Comparison, PreferencePair, Sample

Rng = np.random.Generator
Compared = tuple[np.ndarray, np.ndarray]
PASS_BONUS = 0.5
"""What exactly meeting the prompt adds to the verifier's graded score in an annotator's eyes."""
TWIN_SHARE = 0.7
"""Part of a family's further prompts that differ from the first in one or two causes only."""
CHANGE_SHARE = 0.35
"""Chance that a picture gets a (further) change that none of its prompts asked for."""


@dataclass(frozen=True, eq=False)
class Block:
    """F families: M prompts and K pictures each, and the worth of every picture under every prompt.

    Edits have one source a family, videos T frames a picture; `aspects` are parts of the worth by name.
    """

    prompts: tuple[tuple[str, ...], ...]  # F of M
    categories: tuple[str, ...]  # F
    images: Tensor  # (F, K, 3, H, W), of videos (F, K, T, 3, H, W)
    utility: Tensor  # (F, K, M)
    aspects: Mapping[str, Tensor] = field(default_factory=dict)  # (F, K, M) each
    sources: Tensor | None = None  # (F, 3, H, W)

    def worth(self, dimension: str) -> Tensor:
        """The worth (F, K, M) in a dimension; `overall` is the whole."""
        if dimension == "overall":
            return self.utility
        if dimension not in self.aspects:
            raise ValueError(f"no dimension '{dimension}' here: use overall, {', '.join(self.aspects)}")
        return self.aspects[dimension]


def utility(sight: Sight, spec: PromptSpec) -> float:
    """What an ideal annotator values, in [0, 1.5]: the verifier's overall score, and more for a pass."""
    following = _follows(sight, spec)
    overall = following * (1 - QUALITY_SHARE + QUALITY_SHARE * sight.visual_quality)
    return overall + PASS_BONUS * (following == 1.0)


def _follows(sight: Sight, spec: PromptSpec) -> float:
    return grade(sight.things, spec) if sight.readable else 0.0


def make_block(
    split: str, seed: int, block: int, *, num_families: int = 16, num_prompts: int = 4, num_images: int = 4,
    damage_share: float = 0.5, categories: Sequence[str] = CATEGORIES, size: int = 32,
) -> Block:  # fmt: skip
    """Block number `block` of the endless stream of this split and seed."""
    rng = np.random.default_rng(seed_of("shapes-pairs", split, seed, block))
    specs: list[list[PromptSpec]] = []
    scenes: list[Scene] = []
    for index in range(num_families):
        category = categories[(block * num_families + index) % len(categories)]
        members = family(split, category, num_prompts, rng)
        specs.append(members)
        scenes += [_picture(members[k % num_prompts], rng) for k in range(num_images)]
    asked = tuple(tuple(phrase(spec, rng) for spec in members) for members in specs)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    images = damage(draw(scenes, size), damage_share, generator)
    sights = detect(images)
    seen = [sights[i * num_images : (i + 1) * num_images] for i in range(num_families)]
    worth = torch.tensor(
        [
            [[utility(s, spec) for spec in members] for s in row]
            for row, members in zip(seen, specs, strict=True)
        ]
    )
    aspects = {
        "instruction_following": torch.tensor(
            [
                [[_follows(s, p) for p in members] for s in row]
                for row, members in zip(seen, specs, strict=True)
            ]
        ),
        "visual_quality": torch.tensor([[[s.visual_quality] * num_prompts for s in row] for row in seen]),
    }
    kinds = tuple(members[0].category for members in specs)
    return Block(asked, kinds, images.view(num_families, num_images, 3, size, size), worth, aspects)


def _picture(spec: PromptSpec, rng: Rng) -> Scene:
    scene = sample_scene(spec, rng)
    while rng.random() < CHANGE_SHARE:
        scene = change(scene, rng)
    return scene


def family(split: str, category: str, num: int, rng: Rng) -> list[PromptSpec]:
    """`num` specs of one category and split, most of them near twins of the first."""
    pool = pool_of(split, category)
    first = int(rng.integers(len(pool)))
    twins = _twins(split, category, first)
    members = [pool[first]]
    for _ in range(num - 1):
        choices = twins if twins and rng.random() < TWIN_SHARE else pool
        members.append(choices[int(rng.integers(len(choices)))])
    return members


@lru_cache(maxsize=64)
def pool_of(split: str, category: str) -> tuple[PromptSpec, ...]:
    """The specs of a category in a split."""
    return tuple(spec for spec in split_specs(split) if spec.category == category)


@lru_cache(maxsize=8192)
def _twins(split: str, category: str, index: int) -> tuple[PromptSpec, ...]:
    pool = pool_of(split, category)
    return tuple(spec for spec in pool if 0 < num_differences(pool[index], spec) <= 2)


def num_differences(a: PromptSpec, b: PromptSpec) -> int:
    """In how many fields two specs with as many requirements differ, in the better of both orders."""
    if len(a.required) != len(b.required):
        return 99
    relation = int(a.relation != b.relation)
    fields_a = [(need.count, need.color, need.shape, need.size) for need in a.required]
    fields_b = [(need.count, need.color, need.shape, need.size) for need in b.required]
    orders = (fields_b, fields_b[::-1])
    return relation + min(
        sum(x != y for one, two in zip(fields_a, order, strict=True) for x, y in zip(one, two, strict=True))
        for order in orders
    )


def compared(num_families: int, num_images: int, num_prompts: int, num_cross: int, rng: Rng) -> Compared:
    """Which two of the F*K*M scores of a block are compared: same prompt, same picture, or anything at all."""
    index = np.arange(num_families * num_images * num_prompts).reshape(num_families, num_images, num_prompts)
    first, second = [], []
    for i, j in combinations(range(num_images), 2):
        first.append(index[:, i].ravel())
        second.append(index[:, j].ravel())
    for i, j in combinations(range(num_prompts), 2):
        first.append(index[:, :, i].ravel())
        second.append(index[:, :, j].ravel())
    if num_cross:
        first.append(rng.integers(0, index.size, num_cross))
        second.append(rng.integers(0, index.size, num_cross))
    return np.concatenate(first), np.concatenate(second)


def samples_of(block: Block, *, name: str = "") -> list[Sample]:
    """The F*K*M samples of a block, that of family f, picture k and prompt m at place (f * K + k) * M + m."""
    families, pictures, prompts = block.utility.shape
    images = list(block.images.flatten(0, 1))
    sources = list(block.sources) if block.sources is not None else [None] * families
    return [
        Sample(block.prompts[f][m], images[f * pictures + k], sources[f], id=f"{name}{f}/{k}/{m}")
        for f in range(families)
        for k in range(pictures)
        for m in range(prompts)
    ]


def preference_pairs(
    block: Block, law: Law, *, seed: int, num_cross: int = 0, name: str = "",
    dimensions: Sequence[str] = ("overall",),
) -> list[PreferencePair]:  # fmt: skip
    """The block as labelled pairs: under one prompt, of one picture under two prompts, and `num_cross` at random.

    Pairs share `Sample`s and samples share pictures, so that a trainer can score each once. A pair across
    prompts belongs to the group of its first prompt. Every dimension is judged apart, by the same law.
    """
    families, pictures, prompts = block.utility.shape
    rng = np.random.default_rng(seed)
    first, second = compared(families, pictures, prompts, num_cross, rng)
    keep = first != second
    first, second = first[keep], second[keep]
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    columns = []
    for dimension in dimensions:
        worth = block.worth(dimension).flatten()
        columns.append(annotate(worth[first], worth[second], law, generator).tolist())
    samples = samples_of(block, name=name)
    chance = (1.0, 0.0, 0.5)
    return [
        PreferencePair(
            samples[i].prompt, samples[i], samples[j],
            {dim: chance[label] for dim, label in zip(dimensions, labels, strict=True)},
            {dim: LABELS[label] == "tie" for dim, label in zip(dimensions, labels, strict=True)},
            group=samples[i].prompt,
        )
        for i, j, *labels in zip(first.tolist(), second.tolist(), *columns, strict=True)
    ]  # fmt: skip


def write_pairs(
    folder: Path, split: str, *, num_prompts: int, law: Law, seed: int = 0, num_images: int = 4
) -> Path:
    """Comparisons of the split as `mmalign.pref/1`: `<split>.jsonl` and PNG files in `folder`; gives the file."""
    from mmalign.data.formats import write_jsonl
    from mmalign.media import write

    block = make_block(split, seed, 0, num_families=num_prompts, num_prompts=1, num_images=num_images)
    generator = torch.Generator().manual_seed(seed_of("shapes-labels", split, seed))
    comparisons = []
    for f, (prompt,) in enumerate(block.prompts):
        uris = []
        for k in range(num_images):
            uris.append(f"{split}/{f:05d}-{k}.png")
            write(folder / uris[-1], block.images[f, k])
        pairs = torch.combinations(torch.arange(num_images))
        worth = block.utility[f, :, 0]
        labels = annotate(worth[pairs[:, 0]], worth[pairs[:, 1]], law, generator).tolist()
        notes = tuple(
            Annotation("overall", "pair", {"i": i, "j": j, "label": ("i", "j", "tie")[label]})
            for (i, j), label in zip(pairs.tolist(), labels, strict=True)
        )
        candidates = tuple(
            Candidate(str(k), uri, meta={"utility": round(float(worth[k]), 4)}) for k, uri in enumerate(uris)
        )
        comparisons.append(
            Comparison(
                f"shapes-{split}-{seed}-{f}", prompt, candidates, notes, split=split, source="mmalign shapes",
                license="Apache-2.0", annotator={"type": "rule", "name": "simulated", "n": 1},
                meta={"category": block.categories[f]},
            )
        )  # fmt: skip
    path = folder / f"{split}.jsonl"
    write_jsonl(path, comparisons)
    return path
