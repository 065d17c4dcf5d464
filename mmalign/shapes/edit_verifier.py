"""The judge of editing: instruction, source pixels and edited pixels in, verdict out.

The things seen in both pictures are matched; the instruction says what must have become of its
subject, and everything else must still be there, unchanged and in its place.

Legend: B edits, H W side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmalign.shapes.detection import Detected, detect
from mmalign.shapes.edits import DIRECTIONS, EditSpec, parse_edit
from mmalign.shapes.grading import credit, meets
from mmalign.shapes.scene import PALETTE, PIXEL, RADIUS_SPLIT, Thing
from mmalign.shapes.specs import Requirement
from mmalign.shapes.verifier import QUALITY_SHARE

STAY = 2.0 * PIXEL
"""Largest displacement of a thing that counts as still in its place."""
SEEN_MOVE = 3.0 * PIXEL
"""Least displacement that counts as moved."""
SAME_RADIUS = 1.25
"""Largest ratio of radii that counts as the same size."""
LARGEST_MATCH = 2.2
"""Two things that differ more than this are a lost and a new one."""

Things = Sequence[Thing | Detected]


@dataclass(frozen=True, eq=False)
class EditVerdict:
    """What the judge says of B edits; all scores in [0, 1], higher is better.

    `instruction_following` looks at the subject only, `preservation` at all the rest;
    `passed` needs the instruction followed exactly and every other thing kept.
    """

    passed: Tensor
    instruction_following: Tensor
    preservation: Tensor
    visual_quality: Tensor
    overall: Tensor
    kinds: list[str]


def verify_edit(source: Tensor, edited: Tensor, instructions: Sequence[str]) -> EditVerdict:
    """Judge edited (B, 3, H, W) against source (B, 3, H, W), both in [0, 1], by the instructions.

    Raises ValueError for an instruction that cannot be read or numbers that do not match.
    """
    if source.shape != edited.shape or len(source) != len(instructions):
        raise ValueError(
            f"source {tuple(source.shape)}, edited {tuple(edited.shape)} and {len(instructions)} "
            "instructions do not match: give one of each for every edit"
        )
    specs = [_parse(text) for text in instructions]
    before, after = detect(source), detect(edited)
    following, kept, touched = [], [], []
    for spec, old, new in zip(specs, before, after, strict=True):
        judged = judge(old.things, new.things, spec)
        following.append(judged.following if new.readable and old.readable else 0.0)
        kept.append(judged.kept)
        touched.append(judged.touched)
    follow, keep = torch.tensor(following), torch.tensor(kept)
    still = unchanged(source, edited, touched)
    quality = torch.tensor([sight.visual_quality for sight in after])
    overall = follow * keep * still * (1 - QUALITY_SHARE + QUALITY_SHARE * quality)
    passed = (follow == 1.0) & (keep == 1.0)
    return EditVerdict(passed, follow, keep * still, quality, overall, [s.kind for s in specs])


@dataclass(frozen=True)
class Judged:
    """One edit: how well the subject was treated, the part of the rest that was kept, what changed."""

    following: float
    kept: float
    touched: tuple[Thing | Detected, ...] = ()


def judge(before: Things, after: Things, spec: EditSpec) -> Judged:
    """Judge one edit by its things, detected or true; with several subjects the best reading counts."""
    partner, new = match(before, after)
    if spec.kind == "add":
        best = max(new, key=lambda j: _closeness(after[j], spec.subject), default=None)
        done = 0.0 if best is None else _closeness(after[best], spec.subject)
        added = () if best is None else (after[best],)
        extra = len(new) - len(added)
        return Judged(done, _kept(before, after, partner, extra), added)
    choices = [i for i, thing in enumerate(before) if meets(thing, spec.subject)]
    if not choices:
        return Judged(0.0, _kept(before, after, partner, len(new)))
    judged = []
    for i in choices:
        j = partner[i]
        rest = {k: v for k, v in partner.items() if k != i}
        done = _progress(before[i], None if j is None else after[j], spec)
        touched = (before[i],) if j is None else (before[i], after[j])
        judged.append(Judged(done, _kept(before, after, rest, len(new)), touched))
    return max(judged, key=lambda one: (one.following * one.kept, one.following))


def fulfils(before: Things, after: Things, spec: EditSpec) -> bool:
    """Whether the edit was done exactly and nothing else changed."""
    judged = judge(before, after, spec)
    return judged.following == 1.0 and judged.kept == 1.0


def match(before: Things, after: Things) -> tuple[dict[int, int | None], list[int]]:
    """For each thing before, its likeliest index after (None: gone); and the indices that are new."""
    partner: dict[int, int | None] = dict.fromkeys(range(len(before)))
    if before and after:
        cost = np.array([[_difference(a, b) for b in after] for a in before])
        rows, columns = linear_sum_assignment(np.minimum(cost, LARGEST_MATCH))
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
            if cost[i, j] < LARGEST_MATCH:
                partner[i] = j
    taken = set(partner.values())
    return partner, [j for j in range(len(after)) if j not in taken]


def _difference(a: Thing | Detected, b: Thing | Detected) -> float:
    distance = min(np.hypot(a.x - b.x, a.y - b.y) / (8 * PIXEL), 1.5)
    return float(distance + (a.color != b.color) + (a.shape != b.shape) + 0.5 * (a.size != b.size))


def _same(a: Thing | Detected, b: Thing | Detected) -> bool:
    """Whether two things look alike, wherever they are."""
    ratio = max(a.radius, b.radius) / max(min(a.radius, b.radius), 1e-6)
    return a.color == b.color and a.shape == b.shape and ratio < SAME_RADIUS


def _stays(a: Thing | Detected, b: Thing | Detected) -> bool:
    return max(abs(a.x - b.x), abs(a.y - b.y)) <= STAY


def _kept(before: Things, after: Things, partner: dict[int, int | None], extra: int) -> float:
    """Part of these things that is unchanged and in its place, extra things counted against it."""
    kept = sum(
        j is not None and _same(before[i], after[j]) and _stays(before[i], after[j])
        for i, j in partner.items()
    )
    number = len(partner) + extra
    return kept / number if number else 1.0


def _progress(old: Thing | Detected, new: Thing | Detected | None, spec: EditSpec) -> float:
    """How far the subject came from where it was to what is asked: 0 unchanged, 1 exactly done."""
    if spec.kind == "remove":
        return 1.0 if new is None else 0.0
    if new is None:
        return 0.0
    if spec.kind == "move":
        return _moved(old, new, str(spec.value))
    part, done = 0.0, False
    if spec.kind == "recolor":
        part = _color_progress(old, new, str(spec.value))
        done = new.color == spec.value and _same(_painted(old), _painted(new))
    elif spec.kind == "replace":
        part = 0.0 if new.shape == old.shape else 0.6 if new.shape == spec.value else 0.3
        done = new.shape == spec.value and new.color == old.color and new.size == old.size
    elif spec.kind == "resize":
        part = float(np.clip((new.radius - old.radius) / (RADIUS_SPLIT - old.radius), 0.0, 1.0))
        wanted = "large" if spec.value == "larger" else "small"
        right_way = (new.radius > old.radius) == (spec.value == "larger")
        part = part if right_way else 0.0
        alike = new.shape == old.shape and new.color == old.color
        done = new.size == wanted and old.size != wanted and alike
    return 1.0 if done and _stays(old, new) else min(part, 1.0) * 0.8


def _moved(old: Thing | Detected, new: Thing | Detected, way: str) -> float:
    ways_x, ways_y = DIRECTIONS[way]
    dx, dy = new.x - old.x, new.y - old.y
    along, across = (dx * ways_x, abs(dy)) if ways_x else (dy * ways_y, abs(dx))
    if along >= SEEN_MOVE and across <= STAY and _same(old, new):
        return 1.0
    part = np.clip(along / SEEN_MOVE, 0.0, 1.0) * np.exp(-max(0.0, across - STAY) / SEEN_MOVE)
    return 0.8 * float(part)


def _painted(thing: Thing | Detected) -> Thing:
    """The same thing in one fixed colour, to compare all but colour."""
    size = thing.size or ""
    return Thing("red", thing.shape or "", size, thing.x, thing.y, thing.radius)


def _color_progress(old: Thing | Detected, new: Thing | Detected, color: str) -> float:
    goal = np.array(PALETTE[color])
    start, now = (
        np.array(PALETTE.get(str(thing.color), thing.tint if isinstance(thing, Detected) else goal))
        for thing in (old, new)
    )
    whole = float(np.linalg.norm(start - goal))
    return float(np.clip(1 - np.linalg.norm(now - goal) / max(whole, 1e-6), 0.0, 1.0))


def _closeness(thing: Thing | Detected, need: Requirement) -> float:
    """Credit of an added thing; a true thing has all or nothing."""
    if isinstance(thing, Detected):
        return credit(thing, need)
    return float(meets(thing, need))


def unchanged(source: Tensor, edited: Tensor, touched: Sequence[Things]) -> Tensor:
    """How alike the pixels are away from the touched things, (B,): small noise is forgiven."""
    size = source.shape[-1]
    centre = (torch.arange(size) + 0.5) / size
    rest = torch.ones(len(source), size, size)
    for i, things in enumerate(touched):
        for thing in things:
            reach = thing.radius + 2 * PIXEL
            columns, rows = (centre - thing.x).abs() < reach, (centre - thing.y).abs() < reach
            rest[i] *= 1.0 - (rows[:, None] & columns[None, :]).float()
    change = (source.nan_to_num().clamp(0, 1) - edited.nan_to_num().clamp(0, 1)).abs().amax(1).cpu()
    excess = ((change - 0.1).clamp_min(0) * rest).sum((1, 2)) / rest.sum((1, 2)).clamp_min(1)
    return torch.exp(-excess / 0.03)


@lru_cache(maxsize=8192)
def _parse(instruction: str) -> EditSpec:
    return parse_edit(instruction)
