"""Families of edits: one source, instructions that are near twins, and edited pictures, judged under each of them.

Among the edited pictures are true edits, edits that change something else as well, and the source itself (nothing
was done), so that a judge must look at both pictures and at the words.

Legend: F families of a block, M instructions and K edited pictures of a family, H W side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mmalign.seeds import seed_of
from mmalign.shapes.changes import change
from mmalign.shapes.damage import damage
from mmalign.shapes.detection import Sight, detect
from mmalign.shapes.drawing import draw
from mmalign.shapes.edit_verifier import judge, unchanged
from mmalign.shapes.edits import (
    DIRECTIONS,
    EDIT_KINDS,
    LEAST_MOVE,
    EditSpec,
    edit_phrasings,
    edit_specs,
    sample_edit,
)
from mmalign.shapes.grading import meets
from mmalign.shapes.layout import place
from mmalign.shapes.pairs import CHANGE_SHARE, PASS_BONUS, TWIN_SHARE, Block
from mmalign.shapes.scene import COLORS, MARGIN, RADIUS_BANDS, Scene, Thing
from mmalign.shapes.verifier import QUALITY_SHARE

Rng = np.random.Generator
IDENTITY_SHARE = 0.15
"""Part of the edited pictures that are the source itself."""
KEPT_BONUS = 0.3
"""What keeping all the rest is worth to an annotator even where the instruction was not followed."""


def make_edit_block(
    split: str, seed: int, block: int, *, num_families: int = 16, num_prompts: int = 4, num_images: int = 4,
    damage_share: float = 0.5, categories: Sequence[str] = EDIT_KINDS, size: int = 32,
) -> Block:  # fmt: skip
    """Block number `block` of the endless stream of edits of this split and seed."""
    rng = np.random.default_rng(seed_of("shapes-edit-pairs", split, seed, block))
    specs: list[list[EditSpec]] = []
    sources: list[Scene] = []
    scenes: list[Scene] = []
    for index in range(num_families):
        kind = categories[(block * num_families + index) % len(categories)]
        source, members = edit_family(split, kind, num_prompts, rng)
        specs.append(members)
        sources.append(source)
        scenes += [_picture(source, members[k % num_prompts], rng) for k in range(num_images)]
    asked = tuple(tuple(_phrase(spec, rng) for spec in members) for members in specs)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    before, after = draw(sources, size), damage(draw(scenes, size), damage_share, generator)
    worth, aspects = _worth(before, after.unflatten(0, (num_families, num_images)), specs)
    kinds = tuple(members[0].kind for members in specs)
    return Block(asked, kinds, after.unflatten(0, (num_families, num_images)), worth, aspects, before)


def edit_family(split: str, kind: str, num: int, rng: Rng) -> tuple[Scene, list[EditSpec]]:
    """A source with `num` instructions that can be given for it, most of them of one kind."""
    pool = _pool(split, kind)
    task = sample_edit(pool[int(rng.integers(len(pool)))], rng)
    members = [task.spec]
    same = [spec for spec in pool if _possible(spec, task.source)]
    other = [spec for spec in edit_specs(split) if spec.kind != kind and _possible(spec, task.source)]
    while len(members) < num:
        choices = same if rng.random() < TWIN_SHARE or not other else other
        members.append(choices[int(rng.integers(len(choices)))])
    return task.source, members


def edited(source: Scene, spec: EditSpec, rng: Rng) -> Scene | None:
    """The source with one edit done and nothing else changed; None where there is no room."""
    if spec.kind == "add":
        radius = float(rng.uniform(*RADIUS_BANDS["small"]))
        try:
            ((x, y),) = place([radius], rng, source.things)
        except ValueError:
            return None  # no room in this scene: the caller takes another picture
        color = spec.subject.color or COLORS[int(rng.integers(len(COLORS)))]
        return Scene((*source.things, Thing(color, spec.subject.shape, "small", x, y, radius)))
    index = next(i for i, thing in enumerate(source) if _fits(spec, thing))
    thing = source.things[index]
    rest = source.things[:index], source.things[index + 1 :]
    if spec.kind == "remove":
        return Scene(rest[0] + rest[1])
    made = _changed(thing, spec, rng)
    scene = Scene((*rest[0], made, *rest[1])) if made is not None else None
    return scene if scene is not None and scene.valid() else None


def _changed(thing: Thing, spec: EditSpec, rng: Rng) -> Thing | None:
    value = str(spec.value)
    if spec.kind == "recolor":
        return replace(thing, color=value)
    if spec.kind == "replace":
        return replace(thing, shape=value)
    if spec.kind == "resize":
        size = "large" if value == "larger" else "small"
        return replace(thing, size=size, radius=float(rng.uniform(*RADIUS_BANDS[size])))
    ways_x, ways_y = DIRECTIONS[value]
    position = thing.x if ways_x else thing.y
    edge = MARGIN + thing.radius
    room = (1 - edge - position) if ways_x + ways_y > 0 else (position - edge)
    if room < LEAST_MOVE:
        return None
    step = LEAST_MOVE + (room - LEAST_MOVE) * float(rng.random())
    return replace(thing, x=thing.x + ways_x * step, y=thing.y + ways_y * step)


def _picture(source: Scene, spec: EditSpec, rng: Rng) -> Scene:
    """What an editor made of the source: the edit, perhaps with something more, or nothing at all."""
    if rng.random() < IDENTITY_SHARE:
        return source
    for _ in range(20):
        scene = edited(source, spec, rng)
        if scene is not None:
            break
    else:
        scene = source
    while len(scene) and rng.random() < CHANGE_SHARE:
        scene = change(scene, rng)
    return scene


def _possible(spec: EditSpec, source: Scene) -> bool:
    """Whether the instruction names something in the source that can be so changed, without ambiguity."""
    if spec.kind == "add":
        return len(source) < 4
    if sum(meets(thing, spec.subject) for thing in source) != 1:
        return False
    return any(_fits(spec, thing) for thing in source)


def _fits(spec: EditSpec, thing: Thing) -> bool:
    if not meets(thing, spec.subject):
        return False
    if spec.kind == "resize":
        return thing.size == ("small" if spec.value == "larger" else "large")
    return spec.value not in (thing.color, thing.shape)


def _worth(
    before: Tensor, after: Tensor, specs: Sequence[Sequence[EditSpec]]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The worth (F, K, M) of edited pictures (F, K, 3, H, W) under every instruction, and its aspects."""
    families, pictures = after.shape[:2]
    prompts = len(specs[0])
    old, new = detect(before), detect(after.flatten(0, 1))
    following, kept, touched = [], [], []
    for f, members in enumerate(specs):
        for k in range(pictures):
            sight = new[f * pictures + k]
            for spec in members:
                found = judge(old[f].things, sight.things, spec)
                following.append(found.following if _readable(old[f], sight) else 0.0)
                kept.append(found.kept)
                touched.append(found.touched)
    repeated = after.flatten(0, 1).repeat_interleave(prompts, 0)
    still = unchanged(before.repeat_interleave(pictures * prompts, 0), repeated, touched)
    follow, keep = torch.tensor(following), torch.tensor(kept)
    quality = torch.tensor([sight.visual_quality for sight in new]).repeat_interleave(prompts)
    overall = follow * keep * still * (1 - QUALITY_SHARE + QUALITY_SHARE * quality)
    worth = overall + KEPT_BONUS * keep * still + PASS_BONUS * ((follow == 1.0) & (keep == 1.0)).float()
    aspects = {"instruction_following": follow, "preservation": keep * still, "visual_quality": quality}
    shape = (families, pictures, prompts)
    return worth.view(shape), {name: value.view(shape) for name, value in aspects.items()}


def _readable(old: Sight, new: Sight) -> bool:
    return old.readable and new.readable


def _phrase(spec: EditSpec, rng: Rng) -> str:
    texts = edit_phrasings(spec)
    return texts[int(rng.integers(len(texts)))]


@lru_cache(maxsize=16)
def _pool(split: str, kind: str) -> tuple[EditSpec, ...]:
    pool = tuple(spec for spec in edit_specs(split) if spec.kind == kind)
    if not pool:
        raise ValueError(f"unknown kind of edit '{kind}': use one of {EDIT_KINDS}")
    return pool
