"""Where training pairs and ratings come from: the endless shapes streams, or files of comparisons; both in numbered
bundles.

A bundle is a list of pairs, or of rated samples, that are scored together; bundle n is the same whenever and wherever
it is asked for, so the position in the data is one number. Files are not held in memory (`mmalign.data.rows`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch

from mmalign.data.comparisons import pairs
from mmalign.data.formats import BROKEN, in_words, parsed
from mmalign.data.labels import critiques_of
from mmalign.data.rows import Rows, open_rows
from mmalign.seeds import generator, seed_of
from mmalign.shapes.annotators import Law
from mmalign.shapes.neutral import augmented_pairs
from mmalign.shapes.pairs import Block, preference_pairs, samples_of
from mmalign.shapes.ratings import TOPS, rate
from mmalign.shapes.worlds import WORLDS, World
from mmalign.train.skips import WHERE, Skips
from mmalign.types import Comparison, PreferencePair, Sample
from rewardmodels import twins
from rewardmodels.examination import Half, half_of_group
from rewardmodels.losses import RATINGS
from rewardmodels.ratings import cross_pairs, rated_samples
from rewardmodels.recipe import Data, PairData, Shapes

TRIES = 16
"""Comparisons that are looked at for another prompt."""

CRITIQUE = "critique"
"""The key of a sample's metadata that holds what is said of it."""


class PairSource(Protocol):
    """Numbered bundles; `progress` in [0, 1] is how far the run is, for sources that get harder."""

    def bundle(self, number: int, progress: float) -> list[PreferencePair]:
        """Pairs."""
        ...

    def rated(self, number: int, progress: float) -> list[Sample]:
        """Samples with ratings by dimension in `metadata["ratings"]`."""
        ...


@dataclass(frozen=True)
class ShapesSource:
    """Pairs drawn and labelled when they are asked for."""

    settings: Shapes
    seed: int
    split: str = "train"
    world: World = WORLDS["shapes"]
    dimensions: tuple[str, ...] = ("overall",)
    binary: bool = False

    @property
    def law(self) -> Law:
        """The annotator's law."""
        return law_of(self.settings)

    def block(self, number: int, progress: float) -> Block:
        """The pictures and prompts behind a bundle."""
        stage = next(stage for stage in self.settings.stages if progress <= stage.until)
        return self.world.make(
            self.split, self.seed, number, num_families=self.settings.families,
            num_prompts=self.settings.prompts, num_images=self.settings.images,
            damage_share=stage.damage, categories=stage.categories or self.world.kinds,
        )  # fmt: skip

    def bundle(self, number: int, progress: float) -> list[PreferencePair]:
        """Pairs of one block, labelled once and for all by its number."""
        if self.binary:
            samples = self._rate(number, progress, num_levels=2)
            draws = generator("shapes-cross", self.split, self.seed, number)
            return cross_pairs(samples, 3 * len(samples), self.dimensions, draws)
        block = self.block(number, progress)
        seed = seed_of("shapes-labels", self.split, self.seed, number)
        told = preference_pairs(
            block, self.law, seed=seed, num_cross=self.settings.cross, dimensions=self.dimensions
        )
        return told + self._augmented(number)

    def _augmented(self, number: int) -> list[PreferencePair]:
        """Pairs with one cause, one spurious factor or one prompt changed, where the settings ask for them."""
        asked = self.settings
        if not (asked.causal or asked.neutral or asked.contrast):
            return []
        if self.world is not WORLDS["shapes"]:
            raise ValueError("causal, neutral and contrast pairs are made of images: use pairs: shapes")
        return augmented_pairs(
            self.split, self.seed, number, causal=asked.causal, neutral=asked.neutral, contrast=asked.contrast,
            dimensions=self.dimensions,
        )  # fmt: skip

    def rated(self, number: int, progress: float) -> list[Sample]:
        """The samples of one block with the ratings of simulated raters: of two levels if they are good or bad."""
        return self._rate(number, progress, num_levels=2 if self.binary else self.settings.levels)

    def _rate(self, number: int, progress: float, *, num_levels: int) -> list[Sample]:
        block = self.block(number, progress)
        draws = generator("shapes-ratings", self.split, self.seed, number)
        columns = {
            dim: rate(
                block.worth(dim).flatten(), num_levels=num_levels, temperature=self.settings.temperature,
                generator=draws, raters=self.settings.raters, top=TOPS.get(dim, 1.0),
            ).tolist()
            for dim in self.dimensions
        }  # fmt: skip
        return [
            replace(sample, metadata={RATINGS: {dim: column[i] for dim, column in columns.items()}})
            for i, sample in enumerate(samples_of(block))
        ]


def law_of(settings: Shapes) -> Law:
    """The simulated annotator's law."""
    return Law(temperature=settings.temperature, theta=settings.theta, careless=settings.careless)


@dataclass(frozen=True)
class FileSource:
    """Comparisons of a JSONL or parquet file in seeded order, epoch after epoch.

    Without `skips` a comparison that cannot be read is a ValueError with its file and line; with it, it is left out
    and counted there. Every sample says in `metadata["where"]` on which line it stands, and in `metadata["critique"]`
    what is said of it there, if anything is. A bundle also holds up to `neutral` and `contrast` pairs of
    `rewardmodels.twins`.
    """

    path: Path
    comparisons_per_bundle: int
    seed: int
    dimensions: tuple[str, ...]
    binary: bool = False
    skips: Skips | None = None
    neutral: int = 0
    contrast: int = 0

    def __post_init__(self) -> None:
        if not len(self.rows):
            raise ValueError(f"{self.path} holds no comparison")

    @cached_property
    def rows(self) -> Rows:
        """The file."""
        return open_rows(self.path)

    def bundle(self, number: int, progress: float) -> list[PreferencePair]:
        """The pairs of the next comparisons; (a, b) are swapped at random, so that position tells nothing."""
        if self.binary:
            return self._crossed(number, progress)
        made = [pair for row, new in self._places(number) for pair in self._read(row, self._pairs, new=new)]
        told = _turned(made, generator(self.seed, "swap", number))
        return told + _turned(self._added(made, number), generator(self.seed, "swap-added", number))

    def _added(self, made: Sequence[PreferencePair], number: int) -> list[PreferencePair]:
        """Pairs that differ in one spurious factor or in the prompt, where they are asked for."""
        dims, neutral = self.dimensions, generator(self.seed, "neutral", number)
        contrast = generator(self.seed, "contrast", number)
        return [
            *twins.neutral_pairs(made, self.neutral, dims, neutral),
            *twins.contrast_pairs(made, self.contrast, dims, contrast, self._other_prompt),
        ]

    def _other_prompt(self, prompt: str, draws: torch.Generator) -> str | None:
        """The prompt of a random comparison, if another one than `prompt` is found in a few tries."""
        for row in torch.randint(len(self.rows), (TRIES,), generator=draws).tolist():
            try:
                found = parsed(self.rows.record(row)).prompt
            except BROKEN:
                continue  # it is told where its own turn comes
            if found.split() != prompt.split():
                return found
        return None

    def _crossed(self, number: int, progress: float) -> list[PreferencePair]:
        samples = self.rated(number, progress)
        from_lines = {sample.metadata[WHERE] for sample in samples}
        if len(samples) < 2 and len(from_lines) < self.comparisons_per_bundle:
            return []  # what would have made pairs was left out
        draws = generator(self.seed, "cross", number)
        return cross_pairs(samples, 3 * len(samples), self.dimensions, draws)

    def rated(self, number: int, progress: float) -> list[Sample]:
        """The rated candidates of the next comparisons."""
        made = [one for row, new in self._places(number) for one in self._read(row, self._rated, new=new)]
        if not made and not self._has_ratings:
            raise ValueError(
                f"{self.path} holds no ratings of {', '.join(self.dimensions)}: use a loss of pairs"
            )
        return made

    def heldout(self, num_groups: int | None = None, half: Half | None = None) -> list[PreferencePair]:
        """Pairs to measure on, in the order of the file: of all its groups (prompts), or of those of a half, at most so
        many. Which they are is drawn once and for all, so every evaluation has the same ones, and fewer are some of
        them. Every line is read, and told where it is bad; pairs of other groups are not kept.
        """
        taken: dict[str, list[tuple[int, PreferencePair]]] = {}
        latest: list[tuple[int, str]] = []  # a heap: of what is taken, the latest in the drawn order on top
        for row in range(len(self.rows)):
            for pair in self._read(row, self._pairs):
                group = pair.group or pair.prompt
                if group not in taken and half in (None, half_of_group(group)):
                    taken[group] = []
                    heapq.heappush(latest, (-seed_of("heldout-groups", group), group))
                    if num_groups is not None and len(latest) > num_groups:
                        del taken[heapq.heappop(latest)[1]]
                if group in taken:
                    taken[group].append((row, pair))
        found = [one for pairs_of_group in taken.values() for one in pairs_of_group]
        return [pair for _, pair in sorted(found, key=lambda one: one[0])]

    def _places(self, number: int) -> Iterator[tuple[int, bool]]:
        """The rows of a bundle, and whether they are read for the first time."""
        num, total = self.comparisons_per_bundle, len(self.rows)
        for place in range(number * num, (number + 1) * num):
            epoch, position = divmod(place, total)
            yield _order(total, self.seed, epoch)[position], epoch == 0

    def _pairs(self, comparison: Comparison, where: str) -> list[PreferencePair]:
        found = pairs(comparison, self.path.parent, dimensions=self.dimensions)
        said = critiques_of(comparison)
        known = {id(s): _placed(s, where, said) for pair in found for s in (pair.a, pair.b)}
        return [replace(pair, a=known[id(pair.a)], b=known[id(pair.b)]) for pair in found]

    def _rated(self, comparison: Comparison, where: str) -> list[Sample]:
        found, said = rated_samples(comparison, self.path.parent, self.dimensions), critiques_of(comparison)
        return [_placed(sample, where, said) for sample in found]

    def _read(
        self, row: int, derive: Callable[[Comparison, str], list[Any]], *, new: bool = True
    ) -> list[Any]:
        """What a comparison says; a bad one is told."""
        where = f"{self.path.name}:{self.rows.number(row)}"
        if self.skips is not None and new:
            self.skips.saw()
        try:
            return derive(parsed(self.rows.record(row)), where)
        except BROKEN as problem:
            if self.skips is None:
                raise ValueError(
                    f"{where}: {in_words(problem)}; find all bad lines with `mmalign data check`"
                ) from problem
            self.skips.bad_line(where, in_words(problem))
            return []

    @cached_property
    def _has_ratings(self) -> bool:
        """Whether some comparison is rated in the dimensions; True where none can be read at all."""
        readable = False
        for row in range(len(self.rows)):
            try:
                found = self._rated(parsed(self.rows.record(row)), "")
            except BROKEN:
                continue
            readable = True
            if found:
                return True
        return not readable


def source_of(
    data: PairData, seed: int, dimensions: tuple[str, ...], *, binary: bool = False, skips: Skips | None = None,
) -> PairSource:  # fmt: skip
    """Training pairs or ratings of a built-in world, or of a file, of which what cannot be read is counted in `skips`,
    or refused without.
    """
    if data.pairs in WORLDS:
        world = WORLDS[data.pairs]
        return ShapesSource(data.shapes, seed, world=world, dimensions=dimensions, binary=binary)
    num = data.comparisons_per_bundle
    source = FileSource(Path(data.pairs), num, seed, dimensions, binary=binary, skips=skips)
    return replace(source, neutral=data.neutral, contrast=data.contrast) if isinstance(data, Data) else source


def _turned(pairs: Sequence[PreferencePair], draws: torch.Generator) -> list[PreferencePair]:
    """Each pair one way or the other."""
    turn = torch.rand(len(pairs), generator=draws) < 0.5
    return [pair.swapped() if flip else pair for pair, flip in zip(pairs, turn.tolist(), strict=True)]


def _placed(sample: Sample, where: str, said: Mapping[str, str]) -> Sample:
    """With its line, and what is said of it (by the candidate's id, with which its own ends)."""
    text = said.get((sample.id or "").rpartition("/")[2])
    critique = {} if text is None else {CRITIQUE: text}
    return replace(sample, metadata={**sample.metadata, WHERE: where, **critique})


_orders: dict[tuple[int, int, int], list[int]] = {}


def _order(total: int, seed: int, epoch: int) -> list[int]:
    key = (total, seed, epoch)
    if key not in _orders:
        _orders.clear()
        _orders[key] = torch.randperm(total, generator=generator(seed, "comparisons", epoch)).tolist()
    return _orders[key]
