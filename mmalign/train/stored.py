"""Offline data: stored preference pairs (`mmalign.pref/1`) and stored samples, served an iteration at a time.

Pairs file: comparisons whose annotations of dimension `overall` decide pairs; ties are left out and counted.
Samples file: JSONL with `prompt`, `media` and, for rwr, `reward`. Paths are relative to the file.

With `skips` a bad line, or an item whose media cannot be read, is left out and counted there; the others of its
micro-batch teach what they would without it. Without, it is a `ValueError` with its line. Media stand together in
batches, so `read_rows` also leaves out those of another size than most, by their headers, before training; rewards are
weighed among the rest.

Shape legend: `B` rows, `T` frames, `C H W` pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mmalign.config import Recipe
from mmalign.console import counted
from mmalign.data.comparisons import pairs
from mmalign.data.formats import in_words, parsed
from mmalign.data.prompts import Prompt
from mmalign.data.rows import Record
from mmalign.policies.base import Policy
from mmalign.seeds import generator
from mmalign.train.credit import without_ties
from mmalign.train.experience import Batch, encode
from mmalign.train.methods import METHODS
from mmalign.train.sizes import Size, odd_ones
from mmalign.train.skips import Skips, every_line
from mmalign.types import PreferencePair, as_frames

DIMENSION = "overall"


@dataclass(frozen=True)
class Row:
    """One stored item: chosen media with its worth, and the rejected media of a pair; `where` is its line.

    The `reward` that rwr weighs by is that of the file.
    """

    prompt: Prompt
    media: Path
    credit: float
    rejected: Path | None = None
    where: str = ""
    reward: float = 0.0


def read_rows(recipe: Recipe, fitted: Callable[[Size], Size] | None = None) -> tuple[list[Row], int, Skips]:
    """The usable rows of `data.pairs` or `data.samples`, how many ties were left out, and what else was.

    `fitted` says what the size of an edit's source becomes; without it sources are not compared. `ValueError` names
    files and lines where too many cannot be used.
    """
    if recipe.data.pairs is not None:
        path, skips = recipe.data.pairs, Skips()
        rows, ties = read_pairs(path, skips)
        return of_one_size(rows, skips, path, fitted), ties, skips
    assert recipe.data.samples is not None
    path, skips = recipe.data.samples, Skips(noun="sample")
    rows = of_one_size(_listed(path, recipe, skips), skips, path, fitted)
    return _weighed(rows, recipe, path), 0, skips


def describe_rows(recipe: Recipe, rows: Sequence[Row], ties: int, skips: Skips) -> str:
    """What there is to learn from, and what was left out of it so far."""
    told = counted(len(rows), "stored sample")
    if recipe.data.pairs is not None:
        told = f"{counted(len(rows), 'decided pair')}, {ties} ties and undecided ones left out"
    return f"{told}\n{skips.summary()}" if skips.bad else told


def of_one_size(
    rows: Sequence[Row], skips: Skips, name: str, fitted: Callable[[Size], Size] | None = None
) -> list[Row]:
    """The rows whose media have the size that most have; the others are counted, and too many are a `ValueError`."""
    require_one_kind(rows, name)
    bad = odd_ones(
        [[path for path in (row.media, row.rejected) if path is not None] for row in rows],
        "bring all to one size",
    )
    if fitted is not None:
        sources = [[] if row.prompt.source is None else [row.prompt.source] for row in rows]
        bad = odd_ones(sources, "bring all sources to one aspect ratio", fitted) | bad
    skips.bad_media((rows[k].where, why) for k, why in sorted(bad.items()))
    skips.settle()
    skips.require_few(name)
    if len(bad) == len(rows):
        raise ValueError(f"{name}: nothing to learn from: {bad[0]}")
    return [row for k, row in enumerate(rows) if k not in bad]


def require_one_kind(rows: Sequence[Row], name: str) -> None:
    """ValueError where edits and generation stand in one file."""
    edits = [row.where for row in rows if row.prompt.source is not None]
    others = [row.where for row in rows if row.prompt.source is None]
    if edits and others:
        raise ValueError(
            f"{name}: {len(edits)} of {counted(len(rows), 'row')} have a source ({edits[0]}) and the others none "
            f"({others[0]}): keep edits and generation apart"
        )


def read_pairs(path: str | Path, skips: Skips | None = None) -> tuple[list[Row], int]:
    """The decided pairs of a comparisons file, and how many ties were left out."""
    folder = Path(path).parent

    def said(record: Record) -> list[PreferencePair]:
        return pairs(parsed(record), folder, dimensions=(DIMENSION,))

    found = [(where, pair) for where, told in every_line(path, said, skips) for pair in told]
    rows = [_decided(pair, where) for where, pair in found if pair.labels[DIMENSION] != 0.5]
    ties = len(found) - len(rows)
    if not rows:
        raise ValueError(f"{path} has no decided pair of dimension '{DIMENSION}' ({ties} ties)")
    return rows, ties


def _decided(pair: PreferencePair, where: str) -> Row:
    """The better first."""
    chance = pair.labels[DIMENSION]
    better, worse = (pair.a, pair.b) if chance > 0.5 else (pair.b, pair.a)
    source = better.source if isinstance(better.source, Path) else None
    assert isinstance(better.media, Path)
    assert isinstance(worse.media, Path)
    return Row(Prompt(pair.prompt, source), better.media, max(chance, 1.0 - chance), worse.media, where)


def read_samples(path: str | Path, recipe: Recipe, skips: Skips | None = None) -> list[Row]:
    """Stored samples with the credit their rewards earn over the whole file (prompts are the groups)."""
    return _weighed(_listed(path, recipe, skips), recipe, path)


def _listed(path: str | Path, recipe: Recipe, skips: Skips | None) -> list[Row]:
    """Stored samples, all of one credit."""
    folder, weighed = Path(path).parent, recipe.method.name == "rwr"

    def said(record: Record) -> tuple[Prompt, Path, float]:
        return _sample(record, folder, weighed)

    return [
        Row(prompt, media, 1.0, where=where, reward=reward)
        for where, (prompt, media, reward) in every_line(path, said, skips)
    ]


def _weighed(rows: Sequence[Row], recipe: Recipe, path: str | Path) -> list[Row]:
    """With the credit that rwr gives to rewards among those of these rows; without those that teach nothing."""
    made = list(rows)
    if rows and recipe.method.name == "rwr":
        names = {name: number for number, name in enumerate(dict.fromkeys(row.prompt.text for row in rows))}
        groups = torch.tensor([names[row.prompt.text] for row in rows])
        credit = _weights(torch.tensor([row.reward for row in rows]), groups, recipe).tolist()
        made = [replace(row, credit=c) for row, c in zip(rows, credit, strict=True) if c == c]
    if not made:
        raise ValueError(f"{path} has no sample to learn from")
    return made


def _sample(record: Record, folder: Path, weighed: bool) -> tuple[Prompt, Path, float]:
    """Prompt, file and reward of a line; ValueError says what it lacks."""
    row = json.loads(record) if isinstance(record, bytes) else record
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        raise ValueError("it must be an object with a text 'prompt'")
    if not isinstance(row.get("media"), str):
        raise ValueError("it must name its 'media' file")
    reward, source = row.get("reward"), row.get("source")
    if weighed and not (isinstance(reward, (int, float)) and math.isfinite(reward)):
        raise ValueError("it must have a numeric 'reward': rwr weighs samples by it")
    prompt = Prompt(row["prompt"], folder / source if source else None)
    return prompt, folder / row["media"], float(reward) if weighed and reward is not None else 0.0


def _weights(rewards: Tensor, groups: Tensor, recipe: Recipe) -> Tensor:
    """The credit of rwr (N,); NaN where a sample teaches nothing."""
    assert recipe.method.name == "rwr"
    rewards = -rewards if recipe.method.negative else rewards
    made = METHODS["rwr"].credit(rewards, groups, recipe.method)
    return without_ties(made, rewards, groups) if recipe.method.weighting == "softmax" else made


@dataclass(frozen=True, eq=False)
class Stored:
    """Rows in epochs of seeded permutations, encoded when they are needed."""

    rows: list[Row]
    policy: Policy
    recipe: Recipe
    skips: Skips | None = None

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

    def batch(self, iteration: int, index: tuple[int, ...], num: int) -> Batch | None:
        """Of the samples numbered `index` of an iteration of `num` those that can be read; None without any."""
        order = self.order(iteration, num)
        read = [(i, self.rows[order[i]], self._read(self.rows[order[i]])) for i in index]
        kept = [(i, row, *found) for i, row, found in read if found is not None]  # index, row, source, media
        if not kept:
            return None
        conditions = encode(
            self.policy, [row.prompt for _, row, *_ in kept], self.recipe.model,
            guidance=self.recipe.method.encoded_guidance, sources=[source for _, _, source, _ in kept],
        )  # fmt: skip
        losers = [media[1] for *_, media in kept if len(media) > 1]
        return Batch(
            torch.tensor([i for i, *_ in kept]),
            self._latents([media[0] for *_, media in kept]),
            conditions,
            torch.tensor([row.credit for _, row, *_ in kept], device=self.policy.device),
            loser=self._latents(losers) if losers else None,
        )

    def _read(self, row: Row) -> tuple[Tensor | None, list[Tensor]] | None:
        """Frames of the source, and of the chosen and the rejected; None where one cannot be read, which is counted."""
        source = row.prompt.source
        try:
            decoded = None if source is None else as_frames(source)
            return decoded, [as_frames(path) for path in (row.media, row.rejected) if path is not None]
        except (ValueError, OSError) as problem:
            if self.skips is None:
                raise
            self.skips.bad_media([(row.where, in_words(problem))])
            return None

    def _latents(self, frames: Sequence[Tensor]) -> Tensor:
        shapes = {tuple(one.shape) for one in frames}
        if len(shapes) > 1:
            raise ValueError(
                f"stored media differ in size within a batch: {sorted(shapes)[:3]}; resize them first"
            )
        return self.policy.encode_media(torch.stack(list(frames)).to(self.policy.device))
