"""Editing tasks of the shapes world: instructions, their words, and seeded before-and-after scenes.

>>> parse_edit("change the red circle to blue")
EditSpec(kind='recolor', subject=Requirement(count=1, color='red', shape='circle', size=None), value='blue')
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np

from mmalign.shapes.grading import meets
from mmalign.shapes.layout import place
from mmalign.shapes.prompts import read_noun_phrase
from mmalign.shapes.scene import COLORS, MARGIN, PIXEL, RADIUS_BANDS, SHAPES, SIZES, Scene, Thing
from mmalign.shapes.specs import Requirement, split_by_hash

EDIT_KINDS: tuple[str, ...] = ("recolor", "remove", "add", "move", "resize", "replace")
DIRECTIONS: dict[str, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
}
LEAST_MOVE = 5 * PIXEL
"""How far a thing is moved at least in a true edit."""

_FORMS: dict[str, tuple[str, ...]] = {
    "recolor": ("make {the} {value}", "change {the} to {value}", "color {the} {value}"),
    "remove": ("remove {the}", "delete {the}", "take away {the}"),
    "add": ("add {a}", "insert {a}", "put in {a}"),
    "move": ("move {the} {value}", "shift {the} {value}", "push {the} to the {value}"),
    "resize": ("make {the} {value}", "resize {the} to be {value}"),
    "replace": ("turn {the} into a {value}", "replace {the} with a {value}"),
}
_VALUES: dict[str, tuple[str | None, ...]] = {
    "recolor": COLORS,
    "remove": (None,),
    "add": (None,),
    "move": tuple(DIRECTIONS),
    "resize": ("larger", "smaller"),
    "replace": SHAPES,
}


@dataclass(frozen=True)
class EditSpec:
    """Do `kind` to `subject` (of a colour or of any), with the new colour, shape, way or size."""

    kind: str
    subject: Requirement
    value: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject} {self.value or ''}"


@dataclass(frozen=True)
class EditTask:
    """An instruction with a scene it can be given for and one way the scene looks when followed."""

    spec: EditSpec
    instruction: str
    source: Scene
    target: Scene


@lru_cache(maxsize=1)
def all_edit_specs() -> tuple[EditSpec, ...]:
    """Every edit that changes something, each once, in a fixed order."""
    subjects = [Requirement(1, color, shape) for shape in SHAPES for color in (None, *COLORS)]
    return tuple(
        EditSpec(kind, subject, value)
        for kind in EDIT_KINDS
        for subject, value in product(subjects, _VALUES[kind])
        if value is None or value not in (subject.color, subject.shape)
    )


@lru_cache(maxsize=2)
def edit_specs(split: str) -> tuple[EditSpec, ...]:
    """The edit specs of "train" (about 85 % of each kind) or "heldout"."""
    return split_by_hash(all_edit_specs(), EDIT_KINDS, lambda spec: spec.kind, split)


def edit_phrasings(spec: EditSpec) -> tuple[str, ...]:
    """Every instruction that says `spec`; all are read back by `parse_edit`."""
    noun = " ".join(word for word in (spec.subject.color, spec.subject.shape) if word)
    a = ("an " if noun[0] in "aeiou" else "a ") + noun
    return tuple(form.format(the=f"the {noun}", a=a, value=spec.value) for form in _FORMS[spec.kind])


def parse_edit(instruction: str) -> EditSpec:
    """The edit that `instruction` asks for; the exact inverse of every phrasing.

    Raises ValueError naming the word that cannot be read.
    """
    words = instruction.split()
    failure = f"cannot read '{words[0] if words else ''}' in '{instruction}'"
    for kind in EDIT_KINDS:
        for form in _FORMS[kind]:
            head, _, tail = form.replace("{a}", "{the}").partition("{the}")
            start, end = head.split(), tail.replace("{value}", "").split()
            if words[: len(start)] != start:
                continue
            rest = words[len(start) :]
            if kind != "add":
                if rest[:1] != ["the"]:
                    failure = f"expected 'the' after '{' '.join(start)}' in '{instruction}'"
                    continue
                rest = ["a", *rest[1:]]
            subject, rest = read_noun_phrase(rest, instruction)
            if subject.count != 1 or subject.size is not None:
                raise ValueError(f"'{instruction}' must name one thing by its shape, or colour and shape")
            value = rest[-1] if "{value}" in tail and rest else None
            if rest[: len(end)] == end and len(rest) == len(end) + (value is not None):
                if value in _VALUES[kind]:
                    return EditSpec(kind, subject, value)
                failure = f"cannot read '{value}' in '{instruction}': expected one of {_VALUES[kind]}"
            elif rest:
                failure = f"cannot read '{rest[0]}' in '{instruction}'"
    raise ValueError(f"{failure}; instructions begin like: {', '.join(f[0] for f in _FORMS.values())}")


def sample_edit(spec: EditSpec, rng: np.random.Generator) -> EditTask:
    """A scene of one to three things and the same scene after the edit; other things stay put."""
    texts = edit_phrasings(spec)
    for _ in range(200):
        pair = _attempt(spec, rng)
        if pair is not None and pair[0].valid() and pair[1].valid():
            return EditTask(spec, texts[int(rng.integers(len(texts)))], *pair)
    raise ValueError(f"no room to draw the edit '{spec}'")


def sample_edits(split: str, num: int, seed: int = 0, kinds: Sequence[str] = EDIT_KINDS) -> list[EditTask]:
    """`num` tasks of a split ("train" or "heldout") in random order, balanced over kinds."""
    rng = np.random.default_rng(seed)
    pools = [[spec for spec in edit_specs(split) if spec.kind == kind] for kind in kinds]
    order = np.resize(rng.permutation(len(pools)), num)
    rng.shuffle(order)
    return [sample_edit(pools[i][int(rng.integers(len(pools[i])))], rng) for i in order]


def _attempt(spec: EditSpec, rng: np.random.Generator) -> tuple[Scene, Scene] | None:
    """One random pair of scenes, perhaps with things too close; None where no room was found."""
    before, after = _subject_pair(spec, rng)
    others = [_random_thing(rng) for _ in range(int(rng.integers(spec.kind == "add", 3)))]
    if spec.kind != "add" and any(meets(thing, spec.subject) for thing in others):
        return None
    try:
        places = place([max(before.radius, after.radius), *(t.radius for t in others)], rng)
    except ValueError:
        return None
    x, y = places[0]
    kept = tuple(replace(t, x=a, y=b) for t, (a, b) in zip(others, places[1:], strict=True))
    before, after = replace(before, x=x, y=y), replace(after, x=x, y=y)
    if spec.kind == "move":
        ways_x, ways_y = DIRECTIONS[str(spec.value)]
        position = x if ways_x else y
        room = (
            (1 - MARGIN - after.radius - position)
            if ways_x + ways_y > 0
            else (position - MARGIN - after.radius)
        )
        if room < LEAST_MOVE:
            return None
        step = LEAST_MOVE + (room - LEAST_MOVE) * float(rng.random())
        after = replace(after, x=x + ways_x * step, y=y + ways_y * step)
    source = kept if spec.kind == "add" else (before, *kept)
    target = kept if spec.kind == "remove" else (after, *kept)
    return Scene(source), Scene(target)


def _subject_pair(spec: EditSpec, rng: np.random.Generator) -> tuple[Thing, Thing]:
    """The edited thing before and after, not yet placed."""
    free = [color for color in COLORS if spec.kind != "recolor" or color != spec.value]
    color = spec.subject.color or free[int(rng.integers(len(free)))]
    before = replace(_random_thing(rng), color=color, shape=spec.subject.shape)
    if spec.kind == "recolor":
        return before, replace(before, color=str(spec.value))
    if spec.kind == "replace":
        return before, replace(before, shape=str(spec.value))
    if spec.kind == "resize":
        small, large = (
            replace(before, size=size, radius=float(rng.uniform(*RADIUS_BANDS[size]))) for size in SIZES
        )
        return (small, large) if spec.value == "larger" else (large, small)
    return before, before


def _random_thing(rng: np.random.Generator) -> Thing:
    """A thing of random colour, shape and size in the middle; small ones are more frequent."""
    size = "large" if rng.random() < 0.35 else "small"
    radius = float(rng.uniform(*RADIUS_BANDS[size]))
    color, shape = COLORS[int(rng.integers(len(COLORS)))], SHAPES[int(rng.integers(len(SHAPES)))]
    return Thing(color, shape, size, 0.5, 0.5, radius)
