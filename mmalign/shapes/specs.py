"""What a prompt of the shapes world demands, as records; all demands, and their split.

A `PromptSpec` is canonical: two prompts that demand the same have equal specs ("a circle and a
square", "a square and a circle"; "a circle right of a square", "a square left of a circle"), so
the split into training and held-out specs never puts one meaning on both sides.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, permutations, product
from typing import TypeVar

from mmalign.shapes.scene import COLORS, SHAPES, SIZES

CATEGORIES: tuple[str, ...] = (
    "single_object",
    "colors",
    "size",
    "counting",
    "two_object",
    "position",
    "color_attr",
)
HELDOUT_FRACTION = 0.15
RELATIONS: tuple[str, ...] = ("left of", "above")
"""The canonical relations; "right of" and "below" are these with the two sides exchanged."""

Spec = TypeVar("Spec", bound=Hashable)


@dataclass(frozen=True)
class Requirement:
    """`count` things of one shape; a `None` leaves that attribute free."""

    count: int
    color: str | None
    shape: str
    size: str | None = None

    def __str__(self) -> str:
        return " ".join(str(v) for v in (self.count, self.size, self.color, self.shape) if v)


@dataclass(frozen=True)
class PromptSpec:
    """Exactly these things, and with a relation: required[0] `relation` required[1]."""

    category: str
    required: tuple[Requirement, ...]
    relation: str | None = None

    @property
    def slots(self) -> tuple[Requirement, ...]:
        """The requirements with each count spelled out: one entry per thing."""
        return tuple(need for need in self.required for _ in range(need.count))

    def __str__(self) -> str:
        return f"{self.category}: " + f" {self.relation or 'and'} ".join(map(str, self.required))


def canonical(required: tuple[Requirement, ...], relation: str | None = None) -> PromptSpec:
    """The one spec with this meaning; its category follows from its form.

    Raises ValueError for a demand outside the seven categories.
    """
    if relation in ("right of", "below"):
        relation = "left of" if relation == "right of" else "above"
        required = required[::-1]
    if relation is None:
        required = tuple(sorted(required, key=str))
    return PromptSpec(_category(required, relation), required, relation)


def _category(required: tuple[Requirement, ...], relation: str | None) -> str:
    if len(required) == 1:
        need = required[0]
        if need.count > 1 and need.size is None:
            return "counting"
        if need.count == 1:
            return "size" if need.size else "colors" if need.color else "single_object"
    if len(required) == 2 and all(n.count == 1 and n.size is None for n in required):
        first, second = required
        distinct_shapes = first.shape != second.shape
        if first.color is None and second.color is None and distinct_shapes:
            return "position" if relation else "two_object"
        if first.color and second.color and first.color != second.color:
            return "position" if relation else "color_attr"
    asked = f" {relation or 'and'} ".join(map(str, required))
    raise ValueError(
        f"no category asks for '{asked}': use one thing with a size or colour, two to four alike "
        "without a size, or two things that both have (different) colours or differ in shape"
    )


@lru_cache(maxsize=1)
def all_specs() -> tuple[PromptSpec, ...]:
    """Every spec of the world, each once, in a fixed order."""
    one = [Requirement(1, c, s) for s in SHAPES for c in (None, *COLORS)]
    demands: list[tuple[tuple[Requirement, ...], str | None]] = [((need,), None) for need in one]
    demands += [((Requirement(1, c, s, z),), None) for z, s, c in product(SIZES, SHAPES, (None, *COLORS))]
    demands += [((Requirement(n, c, s),), None) for n, s, c in product((2, 3, 4), SHAPES, (None, *COLORS))]
    demands += [(pair, None) for pair in combinations(one, 2) if _pairs_well(*pair)]
    demands += [
        (pair, relation) for relation in RELATIONS for pair in permutations(one, 2) if _pairs_well(*pair)
    ]
    return tuple(dict.fromkeys(canonical(required, relation) for required, relation in demands))


def _pairs_well(a: Requirement, b: Requirement) -> bool:
    if a.color is None or b.color is None:
        return a.color is None and b.color is None and a.shape != b.shape
    return a.color != b.color


def split_by_hash(
    specs: Sequence[Spec], groups: Sequence[str], group: Callable[[Spec], str], split: str
) -> tuple[Spec, ...]:
    """The specs of "train" or "heldout": of each group the same part is held out, at least one.

    Which ones depends on a hash of their text only. Raises ValueError for another split.
    """
    if split not in ("train", "heldout"):
        raise ValueError(f"unknown split '{split}': use 'train' or 'heldout'")
    held: set[Spec] = set()
    for name in groups:
        members = [spec for spec in specs if group(spec) == name]
        ranked = sorted(members, key=lambda spec: hashlib.sha256(str(spec).encode()).hexdigest())
        held.update(ranked[: max(1, math.floor(HELDOUT_FRACTION * len(ranked)))])
    return tuple(spec for spec in specs if (spec in held) == (split == "heldout"))


@lru_cache(maxsize=1)
def train_specs() -> tuple[PromptSpec, ...]:
    """The specs to train on: about 85 % of each category, the same on every machine."""
    return split_by_hash(all_specs(), CATEGORIES, lambda spec: spec.category, "train")


@lru_cache(maxsize=1)
def heldout_specs() -> tuple[PromptSpec, ...]:
    """The specs never trained on: about 15 % of each category and at least one."""
    return split_by_hash(all_specs(), CATEGORIES, lambda spec: spec.category, "heldout")
