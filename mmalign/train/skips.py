"""What training on a file leaves out and goes on: comparisons that cannot be read, and those with media that cannot.

Every training on a file counts in the same way: the source tells bad lines, the task finds what cannot be used
(`problems`), leaves it out (`Skips.leave_out`) and settles the counts after every update (`Skips.finish`).

One bad line among thousands costs nothing but itself; a file that is mostly bad is refused. The limit: training stops
when more than `FREE` comparisons and a fifth (`MOST`) of all that were read so far had something wrong, or half of them
when nothing new is left to read. After the last update what was learned is saved first (`conclude`). Every count is of
different comparisons, by the line they stand on: one counts once, however many epochs read it and on whatever process.

Counts depend on the bundles alone: they are brought together over the processes after every update and kept in
checkpoints.

>>> skips = Skips(read=100, lines=1)
>>> skips.require_few("pairs.jsonl")
>>> Skips(read=100, media=31).require_few("pairs.jsonl")  # doctest: +ELLIPSIS
Traceback (most recent call last):
ValueError: pairs.jsonl: 31 of 100 comparisons cannot be used...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from mmalign.console import counted
from mmalign.data.formats import BROKEN, in_words
from mmalign.data.rows import Record, open_rows
from mmalign.train.distributed import Processes
from mmalign.types import PreferencePair, Sample

MOST, FREE, SHOWN = 0.2, 10, 5
LINE, MEDIA = "line", "media"
WHERE = "where"
"""The key of a sample's metadata that names its file and line."""
Thing = PreferencePair | Sample
Item = TypeVar("Item", PreferencePair, Sample)
Tried = TypeVar("Tried", bound=Thing)
Found = TypeVar("Found")


def problems(things: Iterable[Tried], attempt: Callable[[Tried], object]) -> dict[int, str]:
    """Why things (by their id()) cannot be used: what `attempt` at each raises."""
    found: dict[int, str] = {}
    for thing in things:
        try:
            attempt(thing)
        except (ValueError, OSError) as problem:
            found[id(thing)] = in_words(problem)
    return found


def usable(
    items: Sequence[Item], things: Iterable[Tried], attempt: Callable[[Tried], object], skips: Skips | None
) -> list[Item]:
    """The items whose things can all be used; the others are counted in `skips`, or refused without."""
    if skips is not None:
        return skips.leave_out(items, problems(things, attempt))
    for thing in things:
        attempt(thing)
    return list(items)


def every_line(
    path: str | Path, said: Callable[[Record], Found], skips: Skips | None
) -> list[tuple[str, Found]]:
    """What every line says, with its place; a bad one is told. All of it is read here, on every process alike."""
    rows, found = open_rows(Path(path)), []
    for place in range(len(rows)):
        where = f"{Path(path).name}:{rows.number(place)}"
        if skips is not None:
            skips.saw()
        try:
            found.append((where, said(rows.record(place))))
        except BROKEN as problem:
            if skips is None:
                raise ValueError(f"{where}: {in_words(problem)}") from problem
            skips.bad_line(where, in_words(problem))
    if skips is not None:
        skips.settle()
        skips.require_few(str(path), last=True)
    return found


def samples_of(items: Sequence[Item]) -> list[Sample]:
    """The distinct samples of pairs, or the samples themselves."""
    found = [s for one in items for s in ((one.a, one.b) if isinstance(one, PreferencePair) else (one,))]
    return list({id(sample): sample for sample in found}.values())


@dataclass
class Skips:
    """`read` different comparisons so far; `lines` of them were none, `media` had some that cannot be used. The first
    reasons of each kind."""

    read: int = 0
    lines: int = 0
    media: int = 0
    reasons: list[str] = field(default_factory=list)
    noun: str = "comparison"
    """What the file holds, if it is something else."""
    _known: set[int] = field(default_factory=set)  # marks of the bad ones that are counted
    _seen: int = 0  # of this process, not yet added up, like those that are told: kind, place, reason
    _told: set[tuple[str, str, str]] = field(default_factory=set)

    @property
    def bad(self) -> int:
        """Comparisons with something wrong."""
        return self.lines + self.media

    def saw(self) -> None:
        """A comparison was read for the first time."""
        self._seen += 1

    def bad_line(self, where: str, reason: str) -> None:
        """It is none."""
        self._told.add((LINE, where, reason))

    def bad_media(self, found: Iterable[tuple[str, str]]) -> None:
        """(where, reason) of samples that cannot be used."""
        first = dict(reversed(list(found)))
        self._told |= {(MEDIA, where, reason) for where, reason in first.items()}

    def leave_out(self, items: Sequence[Item], bad: Mapping[int, str]) -> list[Item]:
        """The items that have nothing to do with what is `bad` (`problems`), which is counted."""
        told = [[(_place(one), bad[id(one)]) for one in _parts(item) if id(one) in bad] for item in items]
        self.bad_media(reason for reasons in told for reason in reasons)
        return [item for item, reasons in zip(items, told, strict=True) if not reasons]

    def settle(self, processes: Processes | None = None) -> None:
        """Add what happened since, over all processes (which must all come here)."""
        seen, told = float(self._seen), {"\x00".join(one) for one in self._told}
        if processes is not None:
            seen, anything = processes.sum([seen, float(len(told))])
            told = set(processes.union(told)) if anything else told
        self.read += int(seen)
        for kind, where, reason in sorted(one.split("\x00", 2) for one in told):
            self._count(kind, where, reason)
        self._seen, self._told = 0, set()

    def _count(self, kind: str, where: str, reason: str) -> None:
        """A bad comparison, unless it is counted already."""
        mark = int.from_bytes(blake2b(where.encode("utf-8", "replace"), digest_size=7).digest(), "big")
        if mark in self._known:
            return
        self._known.add(mark)
        self.lines += kind == LINE
        self.media += kind == MEDIA
        if (self.lines if kind == LINE else self.media) <= SHOWN:
            self.reasons.append(f"{where}: {reason}")

    def require_few(self, name: str, *, last: bool = False) -> None:
        """ValueError where too much is bad; `last` says that nothing new will be read."""
        mostly = last and 2 * self.bad >= self.read > 0
        if mostly or self.bad > FREE + MOST * self.read:
            raise ValueError(
                f"{name}: {self.bad} of {counted(self.read, self.noun)} cannot be used "
                f"({'; '.join(self.reasons[:2])}){self._mend}"
            )

    def finish(self, name: str, *, last: bool, num_updates: int, processes: Processes) -> dict[str, float]:
        """After an update: what was left out so far, as numbers to log; ValueError where it is too much.

        After the `last` of a training that has learned something it is left to `conclude`.
        """
        before = self.read
        self.settle(processes)
        if not (last and num_updates):
            self.require_few(name, last=last or self.read == before)  # nothing new: all of the file was read
        return {"skipped_lines": float(self.lines), "skipped_media": float(self.media)}

    def conclude(self, name: str, folder: Path) -> None:
        """At the end of a training, its result saved in `folder`: ValueError where too much of the file was bad."""
        try:
            self.require_few(name, last=True)
        except ValueError as problem:
            raise ValueError(f"{problem}; what the rest taught is saved in {folder}") from None

    def as_dict(self, file: str = "") -> dict[str, Any]:
        """For JSON; `file` is what was read."""
        said = {"file": file} if file else {}
        return said | {
            "read": self.read,
            "lines": self.lines,
            "media": self.media,
            "first": list(self.reasons),
        }

    def summary(self, file: str = "") -> str:
        """For the terminal; empty where nothing was left out. `file` is what was read."""
        if not self.bad:
            return ""
        shown = "".join(f"\n  {reason}" for reason in self.reasons)
        kinds = f"{counted(self.lines, 'bad line')}, {self.media} with media or texts that cannot be used"
        num = f"{self.bad} of {counted(self.read, self.noun)}"
        place = f" in {file}" if file else ""
        return f"left out {num}, each counted once ({kinds}){place}:{shown}"

    @property
    def _mend(self) -> str:
        return ": look it over with `mmalign data check`" if self.noun == "comparison" else ""

    def without(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What else than the counts `state` holds."""
        return {key: value for key, value in state.items() if key not in self.state()}

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        counts = torch.tensor([self.read, self.lines, self.media])
        text = "\x00".join(self.reasons).encode("utf-8", "replace")
        known = torch.tensor(sorted(self._known), dtype=torch.long)
        return {
            "skips": counts,
            "skip_reasons": torch.tensor(list(text), dtype=torch.uint8),
            "skip_marks": known,
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`; one without counts was made where none were kept."""
        if "skips" not in state:
            return
        self.read, self.lines, self.media = (int(n) for n in state["skips"])
        text = bytes(state["skip_reasons"].tolist()).decode()
        self.reasons = text.split("\x00") if text else []
        self._known = set(state["skip_marks"].tolist()) if "skip_marks" in state else set()


def _parts(item: Thing) -> tuple[Thing, ...]:
    """A pair and its two samples, or the sample."""
    return (item, item.a, item.b) if isinstance(item, PreferencePair) else (item,)


def _place(thing: Thing) -> str:
    """The line of a file, or the id."""
    sample = thing.a if isinstance(thing, PreferencePair) else thing
    return str(sample.metadata.get(WHERE, sample.id))
