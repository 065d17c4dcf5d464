"""GenEval's rules: which detections count, how two stand to each other, and whether a picture is correct.

Boxes are (left, top, right, bottom) in pixels; y runs down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

RELATIONS = ("left of", "right of", "above", "below")
SHRINK = 0.1
"""An offset loses this part of the two objects' summed sizes before it says anything."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Found:
    """One detection; `color` where the detector names it itself."""

    label: str
    box: Box
    score: float
    mask: Tensor | None = None  # (H, W) bool
    color: str | None = None


@dataclass(frozen=True)
class Clause:
    """So many of a thing, perhaps of a colour, perhaps placed against the things of an earlier clause."""

    thing: str
    count: int = 1
    color: str | None = None
    position: tuple[str, int] | None = None


@dataclass(frozen=True)
class Rules:
    """All of `include` must hold, and none of `exclude`."""

    include: tuple[Clause, ...]
    exclude: tuple[Clause, ...] = ()
    counting: bool = False

    def things(self) -> tuple[str, ...]:
        """The names that are looked for."""
        return tuple(dict.fromkeys(clause.thing for clause in (*self.include, *self.exclude)))


@dataclass(frozen=True)
class Verdict:
    """Whether every clause holds, the share of those that do, and what is wrong."""

    correct: bool
    fraction: float
    wrong: tuple[str, ...]


def read_rules(record: Mapping[str, Any]) -> Rules:
    """Rules of a line of GenEval's `evaluation_metadata.jsonl`; ValueError says what is wrong with it."""
    try:
        include = tuple(_clause(item) for item in record["include"])
        exclude = tuple(_clause(item) for item in record.get("exclude", ()))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"no GenEval rules: include and exclude are lists of {{class, count}} ({error!r})"
        ) from error
    for k, clause in enumerate(include):
        if clause.count < 1:
            raise ValueError(f"a count must be at least 1, got {clause.count} {clause.thing}")
        if clause.position is None:
            continue
        relation, target = clause.position
        if relation not in RELATIONS or not 0 <= target < k:
            raise ValueError(
                f"position must be one of {', '.join(RELATIONS)} and an earlier clause, got {clause.position}"
            )
    return Rules(include, exclude, str(record.get("tag", "")) == "counting")


def _clause(item: Mapping[str, Any]) -> Clause:
    position = item.get("position")
    placed = None if position is None else (str(position[0]), int(position[1]))
    return Clause(str(item["class"]), int(item.get("count", 1)), item.get("color"), placed)


def keep(
    found: Sequence[Found], *, threshold: float, max_objects: int = 16, max_overlap: float = 1.0
) -> dict[str, list[Found]]:
    """By label, the detections above `threshold`, surest first, at most `max_objects`.

    Below 1, `max_overlap` drops what overlaps a surer one of its label by that much or more.
    """
    limit = float(
        torch.tensor(threshold, dtype=torch.float32)
    )  # detectors score in float32, where 0.3 is a little more
    by_label: dict[str, list[Found]] = {}
    for one in sorted(found, key=lambda item: -item.score):
        if one.score > limit:
            by_label.setdefault(one.label, []).append(one)
    for label, objects in by_label.items():
        rest, kept = objects[:max_objects], []
        while rest:
            best = rest.pop(0)
            kept.append(best)
            rest = [one for one in rest if max_overlap >= 1 or overlap(best.box, one.box) < max_overlap]
        by_label[label] = kept
    return by_label


def overlap(a: Box, b: Box) -> float:
    """Intersection over union, borders counted as pixels.

    >>> overlap((0, 0, 9, 9), (0, 0, 9, 4))
    0.5
    """

    def area(box: Sequence[float]) -> float:
        return max(box[2] - box[0] + 1, 0) * max(box[3] - box[1] + 1, 0)

    shared = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = area(a) + area(b) - shared
    return shared / union if union else 0.0


def relations(a: Box, b: Box) -> frozenset[str]:
    """How `a` stands to `b`; two at once on a diagonal, none where they are as good as in one place.

    >>> sorted(relations((0, 0, 10, 10), (40, 2, 50, 12)))
    ['left of']
    """
    dx, dy = ((a[k] + a[k + 2] - b[k] - b[k + 2]) / 2 for k in (0, 1))
    shrunk = []
    for k, offset in enumerate((dx, dy)):
        sizes = abs(a[k + 2] - a[k]) + abs(b[k + 2] - b[k])
        shrunk.append(math.copysign(max(abs(offset) - SHRINK * sizes, 0.0), offset))
    if max(map(abs, shrunk)) < 1e-3:
        return frozenset()
    right, down = (offset / math.hypot(dx, dy) for offset in shrunk)
    holds = {"left of": right < -0.5, "right of": right > 0.5, "above": down < -0.5, "below": down > 0.5}
    return frozenset(name for name, true in holds.items() if true)


NameColors = Callable[[Sequence[Found], str], Sequence[str | None]]
"""The colours of detections of one thing."""


def judge(found: Mapping[str, Sequence[Found]], rules: Rules, name_colors: NameColors) -> Verdict:
    """Only the surest `count` of a thing are looked at for colour and place, as in GenEval."""
    matched: list[Sequence[Found] | None] = []
    wrong: list[str] = []
    for clause in rules.include:
        problem = _problem(clause, found, matched, name_colors)
        matched.append(found.get(clause.thing, ())[: clause.count] if problem is None else None)
        wrong.extend([problem] if problem is not None else [])
    for clause in rules.exclude:
        number = len(found.get(clause.thing, ()))
        if number >= clause.count:
            wrong.append(f"expected fewer than {clause.count} {clause.thing}, found {number}")
    total = len(rules.include) + len(rules.exclude)
    return Verdict(not wrong, 1 - len(wrong) / total if total else 1.0, tuple(wrong))


def _problem(
    clause: Clause, found: Mapping[str, Sequence[Found]], matched: Sequence[Sequence[Found] | None],
    name_colors: NameColors,
) -> str | None:  # fmt: skip
    """What is wrong with the things of a clause, or None."""
    objects = found.get(clause.thing, ())[: clause.count]
    if len(objects) < clause.count:
        return f"expected {clause.count} {clause.thing}, found {len(objects)}"
    if clause.color is not None:
        colors = name_colors(objects, clause.thing)
        if sum(color == clause.color for color in colors) < clause.count:
            return (
                f"expected {clause.count} {clause.color} {clause.thing}, found {', '.join(map(str, colors))}"
            )
    if clause.position is not None:
        relation, target = clause.position
        others = matched[target]
        if others is None:
            return f"nothing for {clause.thing} to be {relation}"
        for one in objects:
            for other in others:
                seen = relations(one.box, other.box)
                if relation not in seen:
                    return f"expected {clause.thing} {relation} {other.label}, found {' and '.join(seen) or 'neither'}"
    return None
