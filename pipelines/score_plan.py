"""What `score` has left to judge, and which files must be decoded together.

Most rewards see each item alone. One that compares samples (`needs_group`) is given a whole group at a time: the items
of one `group`, or else of one prompt and source (`Item.group`). Its scores hold for that company only, so the mark of
a record names it: when a member is lacking, changed, added or taken away, the group is judged again as a whole. What a
rule or a set takes over a batch or call (`gdpo`, `log_tame`, `over: call`) is the group here: no score depends on
`batch_size`, or on what an earlier run had done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mmalign import media
from pipelines.judges import Judge
from pipelines.manifest import Item
from pipelines.shards import Shards

VIDEO_WEIGHT = 4
"""A video counts as so many pictures when a window of decoded files is filled."""
MANY_PIXELS = 2**21
"""So many pixels more (25 MB as float32) and a picture counts as one more."""


@dataclass(frozen=True)
class Unit:
    """Items that are decoded together: one, or the group that the rewards `whole` must see."""

    items: tuple[Item, ...]
    alone: Mapping[str, Sequence[Judge]]
    """By the id of an item the rewards that it lacks."""
    whole: Sequence[Judge] = ()


@dataclass(frozen=True)
class Plan:
    """All items by group; an item that cannot be read as such is in none."""

    items: Sequence[Item]
    groups: Mapping[str, tuple[Item, ...]] = field(default_factory=dict)
    company: Mapping[str, str] = field(default_factory=dict)
    """By group a digest of its members as they are."""

    @classmethod
    def of(cls, items: Sequence[Item], loaded: Sequence[Judge]) -> Plan:
        """The plan of a run; nobody is grouped where no reward compares."""
        if not any(judge.needs_group for judge in loaded):
            return cls(items)
        groups: dict[str, list[Item]] = {}
        for item in items:
            if item.problem is None:
                groups.setdefault(item.group, []).append(item)
        company = {name: _digest(members) for name, members in groups.items()}
        return cls(items, {name: tuple(members) for name, members in groups.items()}, company)

    def mark(self, judge: Judge, item: Item) -> str:
        """What makes a score of this reward that of this very item, in this company."""
        if judge.needs_group and item.problem is None:
            return f"{item.fingerprint}|{self.company[item.group]}"
        return item.fingerprint

    def units(self, loaded: Sequence[Judge], shards: Shards) -> list[Unit]:
        """Everything that lacks a score, in the order of the items; a group stands where its first item does."""
        lacking: dict[str, list[Judge]] = {}
        for item in self.items:
            lacking[item.id] = [
                j for j in loaded if not shards.has_score(j.label, item.id, self.mark(j, item))
            ]
        missed = {name: _missed(members, lacking) for name, members in self.groups.items()}
        made: list[Unit] = []
        for item in self.items:
            whole = missed.get(item.group) if item.problem is None else None
            members = self.groups.get(item.group, ())
            if whole and item is members[0]:
                made.append(Unit(members, {m.id: _alone(lacking[m.id]) for m in members}, whole))
            elif not whole and lacking[item.id]:
                made.append(Unit((item,), {item.id: lacking[item.id]}))
        return made


def _missed(members: Sequence[Item], lacking: Mapping[str, Sequence[Judge]]) -> list[Judge]:
    """The rewards that must see a group, because a member lacks their score."""
    judges = {judge.label: judge for member in members for judge in lacking[member.id]}
    return [judge for judge in judges.values() if judge.needs_group]


def _alone(judges: Sequence[Judge]) -> list[Judge]:
    return [judge for judge in judges if not judge.needs_group]


def _digest(members: Sequence[Item]) -> str:
    text = json.dumps([[item.id, item.fingerprint] for item in members])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def windows(units: Sequence[Unit], batch_size: int) -> Iterator[list[Unit]]:
    """Units in order, as many at a time as may be decoded together; a large picture counts as several, and a group is
    never cut."""
    window: list[Unit] = []
    weight = 0
    for unit in units:
        cost = sum(map(_cost, unit.items))
        if window and weight + cost > batch_size:
            yield window
            window, weight = [], 0
        window.append(unit)
        weight += cost
    if window:
        yield window


def _cost(item: Item) -> int:
    if item.file is None or item.problem is not None:
        return 1
    if media.is_video(item.file):
        return VIDEO_WEIGHT
    return 1 + media.num_pixels(item.file) // MANY_PIXELS
