"""Scenes with one cause changed: the near misses that a judge must tell from the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mmalign.shapes.layout import place
from mmalign.shapes.scene import COLORS, MARGIN, RADIUS_BANDS, SHAPES, SIZES, Scene

Rng = np.random.Generator


def change(scene: Scene, rng: Rng) -> Scene:
    """The scene with one cause changed: colour, shape, size, count, places or which has what."""
    for index in rng.permutation(len(CHANGES)):
        changed = CHANGES[int(index)](scene, rng)
        if changed is not None and changed != scene and changed.valid():
            return changed
    raise ValueError(f"no change fits the scene {scene}")


def recolor(scene: Scene, rng: Rng) -> Scene | None:
    """One thing gets another colour."""
    i = int(rng.integers(len(scene)))
    return _with(scene, i, color=_other(COLORS, scene.things[i].color, rng))


def reshape(scene: Scene, rng: Rng) -> Scene | None:
    """One thing gets another shape."""
    i = int(rng.integers(len(scene)))
    return _with(scene, i, shape=_other(SHAPES, scene.things[i].shape, rng))


def resize(scene: Scene, rng: Rng) -> Scene | None:
    """One thing gets the other size."""
    i = int(rng.integers(len(scene)))
    size = _other(SIZES, scene.things[i].size, rng)
    low, high = RADIUS_BANDS[size]
    radius = low + (high - low) * float(rng.random())
    thing = scene.things[i]
    low = MARGIN + radius
    x, y = min(max(thing.x, low), 1 - low), min(max(thing.y, low), 1 - low)
    return _with(scene, i, size=size, radius=radius, x=x, y=y)


def remove(scene: Scene, rng: Rng) -> Scene | None:
    """One thing is missing."""
    i = int(rng.integers(len(scene)))
    return Scene(scene.things[:i] + scene.things[i + 1 :]) if len(scene) > 1 else None


def add(scene: Scene, rng: Rng) -> Scene | None:
    """One thing too many, like one that is there or any other."""
    if len(scene) > 4:
        return None
    like = scene.things[int(rng.integers(len(scene)))]
    if rng.random() < 0.4:
        like = replace(like, color=_other(COLORS, like.color, rng), shape=_other(SHAPES, like.shape, rng))
    low, high = RADIUS_BANDS["small"]
    radius = low + (high - low) * float(rng.random())
    try:
        ((x, y),) = place([radius], rng, scene.things)
    except ValueError:
        return None  # no room: another change is tried
    return Scene((*scene.things, replace(like, size="small", radius=radius, x=x, y=y)))


def exchange(scene: Scene, rng: Rng) -> Scene | None:
    """Two things exchange their places: relations turn round."""
    if len(scene) < 2:
        return None
    i, j = (int(k) for k in rng.choice(len(scene), 2, replace=False))
    a, b = scene.things[i], scene.things[j]
    return _with(_with(scene, i, x=b.x, y=b.y), j, x=a.x, y=a.y)


def rebind(scene: Scene, rng: Rng) -> Scene | None:
    """Two things exchange their colours: all words are there, bound wrongly."""
    if len(scene) < 2:
        return None
    i, j = (int(k) for k in rng.choice(len(scene), 2, replace=False))
    a, b = scene.things[i], scene.things[j]
    return _with(_with(scene, i, color=b.color), j, color=a.color)


def turn(scene: Scene, rng: Rng) -> Scene | None:
    """The whole layout turns by a quarter: left of becomes above."""
    return Scene(tuple(replace(thing, x=1.0 - thing.y, y=thing.x) for thing in scene.things))


CHANGES: tuple[Callable[[Scene, Rng], Scene | None], ...] = (
    recolor, reshape, resize, remove, add, exchange, rebind, turn,
)  # fmt: skip


def _with(scene: Scene, index: int, **fields: object) -> Scene:
    changed = replace(scene.things[index], **fields)  # type: ignore[arg-type]
    return Scene((*scene.things[:index], changed, *scene.things[index + 1 :]))


def _other(choices: Sequence[str], taken: str, rng: Rng) -> str:
    rest = [choice for choice in choices if choice != taken]
    return rest[int(rng.integers(len(rest)))]
