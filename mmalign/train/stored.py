"""Offline data: stored preference pairs (`mmalign.pref/1`) and stored samples, served an iteration at a time.

Pairs file: comparisons whose annotations of dimension `overall` decide pairs; ties are left out and counted.
Samples file: JSONL with `prompt`, `media` and, for rwr, `reward`. Paths are relative to the file.

Shape legend: `B` rows, `T` frames, `C H W` pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmalign.config import Recipe
from mmalign.data.comparisons import pairs
from mmalign.data.formats import read
from mmalign.data.prompts import Prompt
from mmalign.lines import numbered_lines
from mmalign.policies.base import Policy
from mmalign.seeds import generator
from mmalign.train.credit import without_ties
from mmalign.train.experience import Batch, encode
from mmalign.train.methods import METHODS
from mmalign.types import as_frames

DIMENSION = "overall"


@dataclass(frozen=True)
class Row:
    """One stored item: chosen media with its worth, and the rejected media of a pair."""

    prompt: Prompt
    media: Path
    credit: float
    rejected: Path | None = None


def read_rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file with their line numbers."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    for number, line in numbered_lines(path):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number} is not valid JSON: {error}") from error
        if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
            raise ValueError(f"{path}:{number} must be an object with a text 'prompt'")
        yield number, row


def read_pairs(path: str | Path) -> tuple[list[Row], int]:
    """The decided pairs of a comparisons file, and how many ties were left out."""
    rows, ties = [], 0
    for comparison in read(path):
        for pair in pairs(comparison, Path(path).parent, dimensions=(DIMENSION,)):
            chance = pair.labels[DIMENSION]
            if chance == 0.5:
                ties += 1
                continue
            better, worse = (pair.a, pair.b) if chance > 0.5 else (pair.b, pair.a)
            source = better.source if isinstance(better.source, Path) else None
            assert isinstance(better.media, Path)
            assert isinstance(worse.media, Path)
            rows.append(
                Row(Prompt(pair.prompt, source), better.media, max(chance, 1.0 - chance), worse.media)
            )
    if not rows:
        raise ValueError(f"{path} has no decided pair of dimension '{DIMENSION}' ({ties} ties)")
    return rows, ties


def read_samples(path: str | Path, recipe: Recipe) -> list[Row]:
    """Stored samples with the credit their rewards earn over the whole file (prompts are the groups)."""
    folder = Path(path).parent
    found: list[tuple[Prompt, Path, float]] = []
    for number, row in read_rows(path):
        if not isinstance(row.get("media"), str):
            raise ValueError(f"{path}:{number} must name its 'media' file")
        if recipe.method.name == "rwr" and not isinstance(row.get("reward"), (int, float)):
            raise ValueError(f"{path}:{number} must have a numeric 'reward': rwr weighs samples by it")
        source = row.get("source")
        prompt = Prompt(row["prompt"], folder / source if source else None)
        found.append((prompt, folder / row["media"], float(row.get("reward", 0.0))))
    credit = [1.0] * len(found)
    if recipe.method.name == "rwr":
        names = {name: number for number, name in enumerate(dict.fromkeys(p.text for p, _, _ in found))}
        groups = torch.tensor([names[prompt.text] for prompt, _, _ in found])
        rewards = torch.tensor([reward for _, _, reward in found])
        rewards = -rewards if recipe.method.negative else rewards
        made = METHODS["rwr"].credit(rewards, groups, recipe.method)
        if recipe.method.name == "rwr" and recipe.method.weighting == "softmax":
            made = without_ties(made, rewards, groups)
        credit = made.tolist()
    rows = [Row(prompt, media, c) for (prompt, media, _), c in zip(found, credit, strict=True) if c == c]
    if not rows:
        raise ValueError(f"{path} has no sample to learn from")
    return rows


@dataclass(frozen=True, eq=False)
class Stored:
    """Rows in epochs of seeded permutations, encoded when they are needed."""

    rows: list[Row]
    policy: Policy
    recipe: Recipe

    def order(self, iteration: int, num: int) -> list[int]:
        """The rows of an iteration: the endless sequence of permutations, cut in pieces of `num`."""
        total, seed = len(self.rows), self.recipe.seed
        start = iteration * num
        chosen: list[int] = []
        while len(chosen) < num:
            epoch, position = divmod(start + len(chosen), total)
            permuted = torch.randperm(total, generator=generator(seed, "rows", epoch)).tolist()
            chosen.extend(permuted[position : position + num - len(chosen)])
        return chosen

    def batch(self, iteration: int, index: tuple[int, ...], num: int) -> Batch:
        """The micro-batch of the samples numbered `index` of an iteration of `num`."""
        order = self.order(iteration, num)
        rows = [self.rows[order[i]] for i in index]
        method = self.recipe.method
        conditions = encode(
            self.policy, [row.prompt for row in rows], self.recipe.model, guidance=method.encoded_guidance
        )
        losers = [row.rejected for row in rows if row.rejected is not None]
        return Batch(
            torch.tensor(index),
            self._latents([row.media for row in rows]),
            conditions,
            torch.tensor([row.credit for row in rows], device=self.policy.device),
            loser=self._latents(losers) if losers else None,
        )

    def _latents(self, paths: list[Path]) -> torch.Tensor:
        frames = [as_frames(path) for path in paths]
        shapes = {tuple(f.shape) for f in frames}
        if len(shapes) > 1:
            raise ValueError(
                f"stored media differ in size within a batch: {sorted(shapes)[:3]}; resize them first"
            )
        return self.policy.encode_media(torch.stack(frames).to(self.policy.device))
