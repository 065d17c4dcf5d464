"""Where training pairs and ratings come from: the endless shapes streams, or files of comparisons; both in numbered
bundles.

A bundle is a list of pairs, or of rated samples, that are scored together; bundle n is the same whenever and wherever
it is asked for, so the position in the data is one number. Files are not held in memory, only where their lines begin.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from mmalign.data.comparisons import from_record, pairs
from mmalign.seeds import generator, seed_of
from mmalign.shapes.annotators import Law
from mmalign.shapes.neutral import augmented_pairs
from mmalign.shapes.pairs import Block, preference_pairs, samples_of
from mmalign.shapes.ratings import TOPS, rate
from mmalign.shapes.worlds import WORLDS, World
from mmalign.types import Comparison, PreferencePair, Sample
from rewardmodels.losses import RATINGS
from rewardmodels.ratings import cross_pairs, rated_samples
from rewardmodels.recipe import Shapes


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
    """Comparisons of a JSONL file in seeded order, epoch after epoch."""

    path: Path
    comparisons_per_bundle: int
    seed: int
    dimensions: tuple[str, ...]
    offsets: list[int] = field(default_factory=list)
    binary: bool = False

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise ValueError(f"no such file of comparisons: {self.path}")
        with self.path.open("rb") as lines:
            position = 0
            for line in lines:
                if line.strip():
                    self.offsets.append(position)
                position += len(line)
        if not self.offsets:
            raise ValueError(f"{self.path} holds no comparison")

    def bundle(self, number: int, progress: float) -> list[PreferencePair]:
        """The pairs of the next comparisons; (a, b) are swapped at random, so that position tells nothing."""
        if self.binary:
            samples = self.rated(number, progress)
            draws = generator(self.seed, "cross", number)
            return cross_pairs(samples, 3 * len(samples), self.dimensions, draws)
        made = [pair for line in self._lines(number) for pair in self._pairs(line)]
        turn = torch.rand(len(made), generator=generator(self.seed, "swap", number)) < 0.5
        return [pair.swapped() if flip else pair for pair, flip in zip(made, turn.tolist(), strict=True)]

    def rated(self, number: int, progress: float) -> list[Sample]:
        """The rated candidates of the next comparisons."""
        made = [sample for line in self._lines(number) for sample in self._rated(line)]
        if not made:
            raise ValueError(
                f"{self.path} holds no ratings of {', '.join(self.dimensions)}: use a loss of pairs"
            )
        return made

    def _lines(self, number: int) -> list[bytes]:
        """The lines of a bundle."""
        total, found = len(self.offsets), []
        with self.path.open("rb") as lines:
            for place in range(
                number * self.comparisons_per_bundle, (number + 1) * self.comparisons_per_bundle
            ):
                epoch, position = divmod(place, total)
                lines.seek(self.offsets[_order(total, self.seed, epoch)[position]])
                found.append(lines.readline())
        return found

    def all(self) -> list[PreferencePair]:
        """Every pair of the file in order, for evaluation."""
        with self.path.open("rb") as lines:
            return [pair for line in lines if line.strip() for pair in self._pairs(line)]

    def _pairs(self, line: bytes) -> list[PreferencePair]:
        return self._read(line, lambda record: pairs(record, self.path.parent, dimensions=self.dimensions))

    def _rated(self, line: bytes) -> list[Sample]:
        return self._read(line, lambda record: rated_samples(record, self.path.parent, self.dimensions))

    def _read(self, line: bytes, derive: Callable[[Comparison], list[Any]]) -> list[Any]:
        try:
            return derive(from_record(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path}: {error}; find all bad lines with `mmalign data check`") from error


_orders: dict[tuple[int, int, int], list[int]] = {}


def _order(total: int, seed: int, epoch: int) -> list[int]:
    key = (total, seed, epoch)
    if key not in _orders:
        _orders.clear()
        _orders[key] = torch.randperm(total, generator=generator(seed, "comparisons", epoch)).tolist()
    return _orders[key]
