"""Votes as ideal points learn from them: whose they are, read from comparisons, and the features of what was compared.

Legend: V votes, F features.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mmalign.data import comparisons, formats
from mmalign.data.labels import annotator_of, views
from mmalign.data.rows import Record
from mmalign.train.skips import Skips, every_line
from mmalign.types import Sample
from rewardmodels.distribution import FeatureMap
from rewardmodels.plural import PluralVotes


@dataclass(frozen=True, eq=False)
class Vote:
    """One vote of a file: who (if named), on what, which two samples, p(first is better), and on which line."""

    annotator: str | None
    dimension: str
    pair: tuple[Sample, Sample]
    label: float
    where: str = ""


@dataclass(frozen=True, eq=False)
class Told:
    """V votes before they have features: who, which two samples, p(first is better), its chance where it is known.

    `where` is the line of each, if they come from a file.
    """

    annotator: list[str]
    pairs: list[tuple[Sample, Sample]]
    label: list[float]
    chance: list[float] | None = None
    where: tuple[str, ...] = ()


def named_votes(path: Path, dimension: str, skips: Skips | None) -> Told:
    """The votes of a file that name their annotators; its bad lines are counted in `skips`, or refused without."""
    votes = [one for one in _read(path, (dimension,), skips) if one.annotator is not None]
    if not votes:
        raise ValueError(f"{path} holds no vote on '{dimension}' that names its annotator")
    return _told(votes)


def votes_of_one(path: Path, dimension: str, annotator: str | None, skips: Skips) -> Told:
    """The votes of one person. A file that names annotators may hold several: then `annotator` says whose are taken.

    Where none is named all are the person's, who is called `annotator`, or like the file.
    """
    everything = _read(path, (), skips)
    votes = [one for one in everything if one.dimension == dimension]
    if not votes:
        others = ", ".join(f"'{name}'" for name in sorted({one.dimension for one in everything}))
        raise ValueError(
            f"{path} holds no preference pair on '{dimension}', which the reward was trained on"
            + (f"; it has pairs on {others}" if others else "")
        )
    named = list(dict.fromkeys(one.annotator for one in votes if one.annotator is not None))
    name = annotator or (named[0] if named else path.stem)
    if named:
        _require_one(path, named, annotator)
        votes = [one for one in votes if one.annotator == name]
    return _told(votes, name)


def _require_one(path: Path, named: Sequence[str], annotator: str | None) -> None:
    shown = ", ".join(named[:8]) + (", ..." if len(named) > 8 else "")
    if annotator is None and len(named) > 1:
        raise ValueError(
            f"{path} holds pairs of {len(named)} people ({shown}): say with annotator whose to take"
        )
    if annotator is not None and annotator not in named:
        raise ValueError(f"{path} holds no pair of annotator '{annotator}': it names {shown}")


def _read(path: Path, dimensions: Sequence[str], skips: Skips | None) -> list[Vote]:
    lines = every_line(path, partial(_votes, root=path.parent, dimensions=dimensions), skips)
    return [
        Vote(one.annotator, one.dimension, one.pair, one.label, where)
        for where, said in lines
        for one in said
    ]


def _votes(record: Record, *, root: Path, dimensions: Sequence[str]) -> list[Vote]:
    """The votes of a line."""
    comparison = formats.parsed(record)
    samples = comparisons.samples(comparison, root)
    return [
        Vote(annotator_of(comparison, one), one.dim, (samples[one.i], samples[one.j]), one.p)
        for one in views(comparison.annotations, dimensions=dimensions).pairs
        if one.p is not None
    ]


def _told(votes: Sequence[Vote], name: str = "") -> Told:
    return Told(
        [one.annotator or name for one in votes],
        [one.pair for one in votes],
        [one.label for one in votes],
        where=tuple(one.where for one in votes),
    )


def with_features(
    told: Told, features: FeatureMap, names: Sequence[str], skips: Skips | None = None
) -> tuple[PluralVotes, int]:
    """Every sample through the feature map once; votes on a sample without features are left out and counted.

    With `skips` it learns their lines, too.
    """
    samples = {_key(sample): sample for pair in told.pairs for sample in pair}
    place = {key: row for row, key in enumerate(samples)}
    found = features(list(samples.values()))
    rows = torch.tensor([[place[_key(a)], place[_key(b)]] for a, b in told.pairs])
    good = found.valid[rows].all(dim=1)
    if not bool(good.any()):
        raise ValueError(f"no vote has features: {next(why for why in found.reasons if why)}")
    if skips is not None:
        skips.bad_media(_reasons(told, rows, found.reasons))
        skips.settle()
    who = torch.tensor([names.index(name) for name in told.annotator])
    label = torch.tensor(told.label)
    values = found.values[rows[good]]
    chance = None if told.chance is None else torch.tensor(told.chance, dtype=torch.float64)[good]
    return PluralVotes(values[:, 0], values[:, 1], label[good], who[good], chance), int((~good).sum())


def _reasons(told: Told, rows: Tensor, reasons: Sequence[str | None]) -> list[tuple[str, str]]:
    """The lines whose samples (by their rows) have no features, each time with why."""
    pairs = zip(told.where, rows.tolist(), strict=True)
    return [(where, why) for where, two in pairs for row in two if (why := reasons[row]) is not None]


def _key(sample: Sample) -> Hashable:
    """What is the same sample: one file under one prompt, or one object."""
    return (sample.prompt, str(sample.media)) if isinstance(sample.media, Path) else id(sample)
