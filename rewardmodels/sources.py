"""Where training pairs come from: the endless shapes stream, or files of comparisons; both in numbered bundles.

A bundle is a list of pairs that are scored together; bundle n is the same whenever and wherever it is asked for,
so the position in the data is one number. Files are not held in memory, only where their lines begin.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from mmalign.data.comparisons import from_record, pairs
from mmalign.seeds import generator, seed_of
from mmalign.shapes.annotators import Law
from mmalign.shapes.pairs import Block, make_block, preference_pairs
from mmalign.shapes.specs import CATEGORIES
from mmalign.types import PreferencePair
from rewardmodels.recipe import Shapes


class PairSource(Protocol):
    """Numbered bundles of pairs; `progress` in [0, 1] is how far the run is, for sources that get harder."""

    def bundle(self, number: int, progress: float) -> list[PreferencePair]: ...


@dataclass(frozen=True)
class ShapesSource:
    """Pairs drawn and labelled when they are asked for."""

    settings: Shapes
    seed: int
    split: str = "train"

    @property
    def law(self) -> Law:
        """The annotator's law."""
        return Law(temperature=self.settings.temperature)

    def block(self, number: int, progress: float) -> Block:
        """The pictures and prompts behind a bundle."""
        stage = next(stage for stage in self.settings.stages if progress <= stage.until)
        return make_block(
            self.split, self.seed, number, num_families=self.settings.families,
            num_prompts=self.settings.prompts, num_images=self.settings.images,
            damage_share=stage.damage, categories=stage.categories or CATEGORIES,
        )  # fmt: skip

    def bundle(self, number: int, progress: float) -> list[PreferencePair]:
        """Pairs of one block, labelled once and for all by its number."""
        block = self.block(number, progress)
        seed = seed_of("shapes-labels", self.split, self.seed, number)
        return preference_pairs(block, self.law, seed=seed, num_cross=self.settings.cross)


@dataclass(frozen=True)
class FileSource:
    """Comparisons of a JSONL file in seeded order, epoch after epoch."""

    path: Path
    comparisons_per_bundle: int
    seed: int
    dimensions: tuple[str, ...]
    offsets: list[int] = field(default_factory=list)

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
        made: list[PreferencePair] = []
        total = len(self.offsets)
        with self.path.open("rb") as lines:
            for place in range(
                number * self.comparisons_per_bundle, (number + 1) * self.comparisons_per_bundle
            ):
                epoch, position = divmod(place, total)
                lines.seek(self.offsets[_order(total, self.seed, epoch)[position]])
                made += self._pairs(lines.readline())
        turn = torch.rand(len(made), generator=generator(self.seed, "swap", number)) < 0.5
        return [pair.swapped() if flip else pair for pair, flip in zip(made, turn.tolist(), strict=True)]

    def all(self) -> list[PreferencePair]:
        """Every pair of the file in order, for evaluation."""
        with self.path.open("rb") as lines:
            return [pair for line in lines if line.strip() for pair in self._pairs(line)]

    def _pairs(self, line: bytes) -> list[PreferencePair]:
        try:
            return pairs(from_record(json.loads(line)), self.path.parent, dimensions=self.dimensions)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path}: {error}; find all bad lines with `mmalign data check`") from error


_orders: dict[tuple[int, int, int], list[int]] = {}


def _order(total: int, seed: int, epoch: int) -> list[int]:
    key = (total, seed, epoch)
    if key not in _orders:
        _orders.clear()
        _orders[key] = torch.randperm(total, generator=generator(seed, "comparisons", epoch)).tolist()
    return _orders[key]
