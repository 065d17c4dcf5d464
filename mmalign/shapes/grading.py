"""How well things meet a spec: exact for scenes, graded for what was detected in pixels.

The grade matches required with present things so that the credits sum highest, divides by the
larger of the two numbers (missing and extra things both cost), and weighs in the relation. It is
1 exactly when the demand is met.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from scipy.optimize import linear_sum_assignment

from mmalign.shapes.detection import Detected
from mmalign.shapes.scene import COLORS, SHAPES, Scene, Thing, relation_between
from mmalign.shapes.specs import PromptSpec, Requirement

WEIGHTS = {"shape": 0.4, "color": 0.4, "size": 0.2}
PRESENCE = 0.2
"""Credit for something in the right number, before its attributes are looked at."""
RELATION = 0.4
"""Part of the grade that a required relation decides."""


def meets(thing: Thing | Detected, need: Requirement) -> bool:
    """Whether the thing has every attribute that is asked for."""
    return (
        thing.shape == need.shape
        and (need.color is None or thing.color == need.color)
        and (need.size is None or thing.size == need.size)
        and thing.color is not None
    )


def satisfies(scene: Scene | Sequence[Thing | Detected], spec: PromptSpec) -> bool:
    """Whether the things are exactly the required ones, in the required relation."""
    things, slots = list(scene), spec.slots
    if len(things) != len(slots):
        return False
    for order in permutations(things):
        if all(meets(thing, need) for thing, need in zip(order, slots, strict=True)):
            if spec.relation is None:
                return True
            first, second = order
            return relation_between(first.x - second.x, first.y - second.y) == spec.relation
    return False


def grade(things: Sequence[Detected], spec: PromptSpec) -> float:
    """Instruction following in [0, 1]; 1 if and only if `satisfies`, 0 for an empty picture."""
    slots = spec.slots
    if not things:
        return 0.0
    if satisfies(things, spec):
        return 1.0
    credits = np.array([[credit(thing, need) for thing in things] for need in slots])
    rows, columns = linear_sum_assignment(-credits)
    total = float(credits[rows, columns].sum()) / max(len(slots), len(things))
    if spec.relation is not None:
        held = 0.0
        if len(rows) == 2:
            first, second = (things[int(j)] for j in columns)
            dx, dy = first.x - second.x, first.y - second.y
            along, across = (dx, dy) if spec.relation == "left of" else (dy, dx)
            held = float(np.clip(0.5 - (along + abs(across)) / 1.0, 0.0, 1.0))
            if relation_between(dx, dy) != spec.relation:
                held = min(held, 0.5)
        total *= 1 - RELATION + RELATION * held
    return min(total, 0.99)


def credit(thing: Detected, need: Requirement) -> float:
    """Partial credit of one thing for one requirement, 1 only when it is met."""
    if meets(thing, need):
        return 1.0
    likeness = max(0.0, 1.0 - min(thing.shape_error))
    parts = {"shape": _shape_credit(thing, need.shape)}
    if need.color is not None:
        parts["color"] = _color_credit(thing, need.color)
    if need.size is not None:
        parts["size"] = float(thing.size == need.size)
    weight = sum(WEIGHTS[name] for name in parts)
    share = sum(WEIGHTS[name] * value for name, value in parts.items()) / weight
    return likeness * (PRESENCE + (1 - PRESENCE) * share)


def _shape_credit(thing: Detected, shape: str) -> float:
    if thing.shape == shape:
        return 1.0
    return 0.5 * max(0.0, 1.0 - 2.0 * thing.shape_error[SHAPES.index(shape)])


def _color_credit(thing: Detected, color: str) -> float:
    if thing.color == color:
        return 1.0
    return 0.5 * max(0.0, 1.0 - 2.5 * thing.color_distance[COLORS.index(color)])
