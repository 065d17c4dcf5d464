"""What a picture of the shapes world contains: coloured things on a plain background.

Everything is in unit coordinates: x runs right and y runs down, the canvas is [0, 1] x [0, 1],
and a length of 1/32 is one pixel of the default 32 x 32 picture.

A thing's `radius` is half the side of its bounding box; the four outlines inside that box are
given by `SQUARE_HALF`, `TRIANGLE_HALF_HEIGHT` and `CROSS_HALF_WIDTH` as fractions of the radius.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

PIXEL = 1.0 / 32.0
"""One pixel of the default picture, the unit in which the distances below were chosen."""

BACKGROUND: tuple[float, float, float] = (0.96, 0.96, 0.94)
PALETTE: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.14, 0.16),
    "green": (0.14, 0.62, 0.26),
    "blue": (0.14, 0.34, 0.88),
    "yellow": (0.97, 0.84, 0.10),
    "purple": (0.56, 0.18, 0.70),
    "orange": (0.97, 0.48, 0.06),
}
COLORS: tuple[str, ...] = tuple(PALETTE)
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "cross")
RADIUS_BANDS: dict[str, tuple[float, float]] = {
    "small": (3.2 * PIXEL, 4.0 * PIXEL),
    "large": (5.6 * PIXEL, 6.6 * PIXEL),
}
SIZES: tuple[str, ...] = tuple(RADIUS_BANDS)
RADIUS_SPLIT = 4.75 * PIXEL
"""A radius below this reads as small, above as large."""

SQUARE_HALF = 0.86
TRIANGLE_HALF_HEIGHT = 0.9
CROSS_HALF_WIDTH = 0.34
AREA_FACTOR: dict[str, float] = {
    "circle": math.pi,
    "square": 4 * SQUARE_HALF**2,
    "triangle": 2 * TRIANGLE_HALF_HEIGHT,
    "cross": 8 * CROSS_HALF_WIDTH - 4 * CROSS_HALF_WIDTH**2,
}
"""Area of each shape divided by radius squared."""

MARGIN = 1.0 * PIXEL
"""Least distance of a bounding box from the border."""
GAP = 2.0 * PIXEL
"""Least distance between two bounding boxes along the axis that separates them."""


@dataclass(frozen=True)
class Thing:
    """One coloured shape; `x`, `y` is the centre of its bounding box."""

    color: str
    shape: str
    size: str
    x: float
    y: float
    radius: float

    def inside(self) -> bool:
        """Whether the bounding box keeps the margin from every border."""
        reach = self.radius + MARGIN - 1e-9
        return reach <= self.x <= 1 - reach and reach <= self.y <= 1 - reach

    def clear_of(self, other: Thing, gap: float = GAP) -> bool:
        """Whether the two bounding boxes are at least `gap` apart on one axis."""
        reach = self.radius + other.radius + gap - 1e-9
        return abs(self.x - other.x) >= reach or abs(self.y - other.y) >= reach


@dataclass(frozen=True)
class Scene:
    """Up to four things that neither touch each other nor the border."""

    things: tuple[Thing, ...]

    def __iter__(self) -> Iterator[Thing]:
        return iter(self.things)

    def __len__(self) -> int:
        return len(self.things)

    def valid(self) -> bool:
        """Whether all things are inside the canvas and clear of each other."""
        if not all(thing.inside() for thing in self.things):
            return False
        pairs = ((a, b) for i, a in enumerate(self.things) for b in self.things[:i])
        return all(a.clear_of(b) for a, b in pairs)


def relation_between(dx: float, dy: float) -> str | None:
    """How something displaced by (dx, dy) from another stands to it: the dominant axis decides.

    >>> relation_between(-0.4, 0.1), relation_between(0.1, 0.3)
    ('left of', 'below')
    """
    if abs(dx) == abs(dy):
        return None
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"
