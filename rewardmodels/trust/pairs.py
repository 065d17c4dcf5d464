"""Preference pairs under a reward: score differences beside what people said, every sample decoded and scored once.

Shape legend: `N` pairs. A pair with a sample that has no score is left out and counted with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmalign.types import PreferencePair, Sample, Scores
from rewardmodels.trust import Ask
from rewardmodels.trust.survey import Decode, Survey, decode

Floats = NDArray[np.float64]
Score = tuple[float, float] | str
"""Score and log-variance (NaN: not given), or the reason why there is none."""


@dataclass(frozen=True)
class JudgedPairs:
    """N pairs: score(a) - score(b), the chance people give a, the prompt, and the spread of the difference."""

    difference: Floats
    chance: Floats
    groups: tuple[str, ...]
    deviation: Floats | None  # (N,) sqrt of the summed variances, for rewards that give one
    left_out: Counter[str]
    best: float | None = None  # the accuracy that nobody can beat, where the annotator's law is known


def judge_pairs(
    ask: Ask,
    pairs: Sequence[PreferencePair],
    *,
    dimension: str = "overall",
    read: Decode = decode,
    batch_size: int = 16,
) -> JudgedPairs:
    """Pairs of a file: their samples are decoded and scored in windows of `batch_size`."""
    samples = {id(sample): sample for pair in pairs for sample in (pair.a, pair.b)}
    keys = list(samples)
    scores: dict[int, Score] = {}
    for start in range(0, len(keys), batch_size):
        ready: dict[int, Sample] = {}
        for key in keys[start : start + batch_size]:
            try:
                ready[key] = read(samples[key])
            except (ValueError, OSError) as problem:
                scores[key] = " ".join(str(problem).split())
        if ready:
            scores.update(zip(ready, _scored(ask(list(ready.values())), dimension), strict=True))
    return _together(pairs, scores, dimension)


def surveyed_pairs(
    pairs: Sequence[PreferencePair], survey: Survey, *, best: float | None = None
) -> JudgedPairs:
    """Pairs of samples that a survey has scored already."""
    logs = np.full(survey.scores.size, np.nan) if survey.log_variance is None else survey.log_variance
    scores: dict[int, Score] = {
        id(sample): (float(value), float(log)) if np.isfinite(value) else "no score"
        for sample, value, log in zip(survey.samples, survey.scores, logs, strict=True)
    }
    return replace(_together(pairs, scores, "overall"), best=best)


def _scored(scores: Scores, dimension: str) -> list[Score]:
    """The reward's own dimension of that name, otherwise its overall."""
    column, logs = scores.of_dimension(dimension)
    unsure = [np.nan] * len(scores) if logs is None else logs.tolist()
    return [
        (value, log) if np.isfinite(value) else reason or "no score"
        for value, log, reason in zip(column.tolist(), unsure, scores.reasons, strict=True)
    ]


def _together(pairs: Sequence[PreferencePair], scores: dict[int, Score], dimension: str) -> JudgedPairs:
    left_out: Counter[str] = Counter()
    rows: list[tuple[float, float, float]] = []
    groups: list[str] = []
    for pair in pairs:
        first, second = scores[id(pair.a)], scores[id(pair.b)]
        if isinstance(first, str) or isinstance(second, str):
            left_out[first if isinstance(first, str) else str(second)] += 1
            continue
        spread = float(np.sqrt(np.exp(first[1]) + np.exp(second[1])))
        rows.append((first[0] - second[0], pair.labels[dimension], spread))
        groups.append(pair.group or pair.prompt)
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 3)
    certain = table[:, 2] if len(rows) and bool(np.isfinite(table[:, 2]).all()) else None
    return JudgedPairs(table[:, 0], table[:, 1], tuple(groups), certain, left_out)
