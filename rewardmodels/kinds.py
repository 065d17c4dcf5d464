"""What files of comparisons hold (images, edits, videos, by the names of their media) and whether that is judged.

No medium is opened, and lines that cannot be read are passed by: they are told where they are learned from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mmalign.console import counted
from mmalign.data.comparisons import kinds
from mmalign.data.formats import BROKEN, parsed
from mmalign.data.rows import open_rows
from mmalign.train.skips import FREE, MOST
from mmalign.types import Modality
from rewardmodels.recipe import WORLDS, Data, PairData, places_of, require_judged


@dataclass(frozen=True)
class Held:
    """How many comparisons of a file hold media of some kinds, and the line or row of the first that does."""

    num: int
    line: int


def kinds_in(path: str | Path) -> Mapping[frozenset[Modality], Held]:
    """What the comparisons of a file hold; it is read again only when it has changed."""
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"no such file of comparisons: {file}")
    state = file.stat()
    return _kinds_in(file.resolve(), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _kinds_in(file: Path, changed: int, size: int) -> Mapping[frozenset[Modality], Held]:
    rows, found = open_rows(file), dict[frozenset[Modality], Held]()
    for place in range(len(rows)):
        try:
            held = kinds(parsed(rows.record(place)))
        except BROKEN:
            continue
        before = found.get(held, Held(0, rows.number(place)))
        found[held] = Held(before.num + 1, before.line)
    return found


def kinds_of(data: PairData) -> tuple[Modality, ...]:
    """What the training pairs hold, by name."""
    if data.pairs in WORLDS:
        return (WORLDS[data.pairs],)
    return tuple(sorted(frozenset[Modality]().union(*kinds_in(data.pairs)))) or ("image",)


def require_kinds(data: PairData, judged: Collection[str], mend: str, *, who: str = "the judge") -> None:
    """ValueError for data that `who` does not judge: a built-in world, or a file of which as much is of other kinds as
    no training and no measurement leaves out. `mend` is what to change.
    """
    require_judged(data, judged, mend, who=who)
    if isinstance(data, Data) and data.neutral:
        require_pictures(data.pairs)
    if isinstance(data, Data) and data.contrast:
        require_prompts(data.pairs)
    for key, name in places_of(data).items():
        if name in WORLDS:
            continue
        found = kinds_in(name)
        other = [
            (one.line, min(held.difference(judged)), one.num)
            for held, one in found.items()
            if held.difference(judged)
        ]
        lost, total = sum(num for _, _, num in other), sum(one.num for one in found.values())
        if lost and (lost == total or lost > FREE + MOST * total):
            line, kind, _ = min(other)
            raise ValueError(
                f"data.{key}={name} holds the kind '{kind}' (first in line {line}, {lost} of "
                f"{counted(total, 'comparison')}), and {who} judges {' and '.join(judged)}: change {mend}"
            )


def require_pictures(path: str) -> None:
    """ValueError for a file of pairs without pictures, of which no neutral twin can be made: of an edit more colour is
    a fault, and of a video it was not tried.
    """
    found = kinds_in(path)
    if found and not any("image" in held for held in found):
        held = " and ".join(f"{kind}s" for kind in sorted(frozenset[Modality]().union(*found)))
        raise ValueError(
            f"data.neutral makes twins of pictures, and data.pairs={path} holds {held}: set it to 0"
        )


def require_prompts(path: str) -> None:
    """ValueError for a file of pairs of one prompt, beside which no wrong one can be put."""
    rows, first = open_rows(Path(path)), ""
    for place in range(len(rows)):
        try:
            prompt = parsed(rows.record(place)).prompt
        except BROKEN:
            continue
        if first and prompt.split() != first.split():
            return
        first = first or prompt
    if first:
        raise ValueError(
            f"data.contrast needs another prompt, and data.pairs={path} has one alone: set it to 0"
        )
