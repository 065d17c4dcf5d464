"""Ratings of single samples: read from comparisons, and turned into pairs of any two, also across prompts.

Labelling one item good or bad is cheaper and cleaner than comparing two (SoliReward, arXiv 2512.22170); a pair of
items with different labels has a winner, one with equal labels is a tie.

Legend: N samples, P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from mmalign.data.comparisons import samples
from mmalign.types import Comparison, PreferencePair, Sample
from rewardmodels.losses import RATINGS


def rated_samples(comparison: Comparison, root: Path, dimensions: Sequence[str]) -> list[Sample]:
    """The candidates of a comparison that were rated, each with its ratings by dimension (several are averaged)."""
    found = []
    for place, sample in enumerate(samples(comparison, root)):
        given: dict[str, list[float]] = {}
        for note in comparison.annotations:
            if note.kind == "rating" and note.dim in dimensions and note.data["scores"][place] is not None:
                given.setdefault(note.dim, []).append(float(note.data["scores"][place]))
        if given:
            means = {dim: sum(values) / len(values) for dim, values in given.items()}
            found.append(replace(sample, metadata={**sample.metadata, RATINGS: means}))
    return found


def cross_pairs(
    rated: Sequence[Sample], num: int, dimensions: Sequence[str], generator: torch.Generator
) -> list[PreferencePair]:
    """`num` random pairs of different samples: the better rated wins in each dimension, equal ratings tie."""
    if len(rated) < 2:
        raise ValueError(f"pairs across prompts need two or more rated samples, got {len(rated)}")
    first = torch.randint(len(rated), (num,), generator=generator)
    step = torch.randint(1, len(rated), (num,), generator=generator)
    made = []
    for i, j in zip(first.tolist(), ((first + step) % len(rated)).tolist(), strict=True):
        a, b = rated[i], rated[j]
        labels, ties = {}, {}
        for dim in dimensions:
            one, other = a.metadata[RATINGS].get(dim), b.metadata[RATINGS].get(dim)
            if one is None or other is None:
                continue
            labels[dim] = 0.5 * (1 + (one > other) - (one < other))
            ties[dim] = one == other
        if labels:
            made.append(PreferencePair(a.prompt, a, b, labels, ties, group=a.prompt))
    return made
