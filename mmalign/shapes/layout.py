"""Seeded scenes that do what a spec demands and leave everything else to chance."""

from __future__ import annotations

import numpy as np

from mmalign.shapes.scene import COLORS, GAP, MARGIN, PIXEL, RADIUS_BANDS, SIZES, Scene, Thing
from mmalign.shapes.specs import PromptSpec, Requirement

LEANING = 1.3
"""In a relation scene the offset along the axis is at least this times the other, plus two pixels."""


def sample_scene(spec: PromptSpec, rng: np.random.Generator) -> Scene:
    """A scene that satisfies `spec`; free colours, sizes and places are random."""
    slots = spec.slots
    sizes = _sizes(slots, rng)
    radii = [_uniform(rng, *RADIUS_BANDS[size]) for size in sizes]
    colors = [need.color or COLORS[int(rng.integers(len(COLORS)))] for need in slots]
    if spec.relation is None:
        places = place(radii, rng)
    else:
        places = _related(radii, spec.relation, rng)
    return Scene(
        tuple(
            Thing(color, need.shape, size, x, y, radius)
            for color, need, size, (x, y), radius in zip(colors, slots, sizes, places, radii, strict=True)
        )
    )


def _sizes(slots: tuple[Requirement, ...], rng: np.random.Generator) -> list[str]:
    """Free sizes are random, with at most one large thing among three or four (they must fit)."""
    sizes = [need.size or SIZES[int(rng.integers(len(SIZES)))] for need in slots]
    if len(sizes) > 2:
        keep = int(rng.integers(len(sizes)))
        sizes = [size if i == keep else slots[i].size or "small" for i, size in enumerate(sizes)]
    return sizes


def place(
    radii: list[float], rng: np.random.Generator, kept: tuple[Thing, ...] = ()
) -> list[tuple[float, float]]:
    """Centres for things of these radii, clear of the border, of each other and of `kept`.

    Raises ValueError when no room was found in many attempts.
    """
    fixed = [(thing.x, thing.y, thing.radius) for thing in kept]
    for _ in range(200):
        taken = list(fixed)
        for radius in sorted(radii, reverse=True):
            low = MARGIN + radius
            for x, y in (low + (1 - 2 * low) * rng.random((30, 2))).tolist():
                if all(max(abs(x - a), abs(y - b)) >= radius + r + GAP for a, b, r in taken):
                    taken.append((x, y, radius))
                    break
            else:
                break
        if len(taken) == len(fixed) + len(radii):
            order = np.argsort([-radius for radius in radii], kind="stable")
            places = {int(i): taken[len(fixed) + k][:2] for k, i in enumerate(order)}
            return [places[i] for i in range(len(radii))]
    raise ValueError(f"no room for things of radii {radii} beside {len(kept)} others")


def _related(radii: list[float], relation: str, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Two centres, the first left of or above the second, clearly apart along that axis."""
    first, second = radii
    slack = 1 - 2 * MARGIN - GAP - 2 * (first + second)
    cuts = sorted((slack * rng.random(2)).tolist())
    along_first = MARGIN + cuts[0] + first
    along_second = 1 - MARGIN - (slack - cuts[1]) - second
    reach = (along_second - along_first - 2 * PIXEL) / LEANING
    across_first = _uniform(rng, MARGIN + first, 1 - MARGIN - first)
    low = max(MARGIN + second, across_first - reach)
    high = min(1 - MARGIN - second, across_first + reach)
    across_second = _uniform(rng, low, high)
    pairs = [(along_first, across_first), (along_second, across_second)]
    return pairs if relation == "left of" else [(y, x) for x, y in pairs]


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())
