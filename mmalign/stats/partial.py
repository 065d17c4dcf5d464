"""Rank correlations of a reward with something that should not matter: overall, within prompts, and given the truth.

Shape legend: `N` samples, `F` further columns that are held fixed.

Overall, a prompt that makes both large pictures and high scores looks like a liking for large pictures. Within
prompts it does not: ranks over all samples are taken, the mean rank of the prompt is removed from both sides, and what
is left is correlated (Spearman's partial correlation given the prompt). `given` removes further columns linearly, for
instance a gold reward: what is left cannot be explained by better pictures having more of it.

>>> x, y = [1.0, 2.0, 8.0, 9.0], [2.0, 1.0, 9.0, 8.0]
>>> round(overall(x, y).mean, 3), round(within(x, y, ["p", "p", "q", "q"]).mean, 3)
(0.6, -1.0)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from mmalign.stats.intervals import LEVEL, Interval, cluster_index

Floats = NDArray[np.float64]
NUM_RESAMPLES = 400
FLAT = 1e-9
"""Residual ranks with less spread than this are constant."""


def overall(
    x: ArrayLike,
    y: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    given: Sequence[ArrayLike] = (),
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """(Partial) Spearman over all rows, given the F columns; rows with a NaN on a side are left out.

    The interval resamples groups; the rows keep the ranks that they have among all rows.
    """
    first, second, kept = _known(x, y, *given)
    if kept.size < 2:
        return Interval(float("nan"), float("nan"), float("nan"), int(kept.size))
    member = cluster_index(kept.size, None if groups is None else [groups[int(k)] for k in kept])
    further = [np.asarray(column, dtype=np.float64).ravel()[kept] for column in given]
    sides = [rankdata(side) - (kept.size + 1) / 2 for side in (first, second, *further)]
    a, b = (_without(side, sides[2:]) for side in sides[:2])
    columns = (np.ones(kept.size), a, b, a * b, a * a, b * b)
    sums = _sums(member, columns)

    def measure(total: Floats) -> float:
        num, one, other, product, first_square, second_square = total
        centred = (product - one * other / num, first_square - one**2 / num, second_square - other**2 / num)
        return _correlation(np.asarray(centred))

    return _interval(measure(sums.sum(axis=0)), sums, measure, int(kept.size), num_resamples, seed)


def within(
    x: ArrayLike,
    y: ArrayLike,
    groups: Sequence[Hashable],
    *,
    given: Sequence[ArrayLike] = (),
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Partial Spearman given the group and the F columns `given`; `n` counts rows of groups that hold several.

    The interval resamples groups of residuals (the regression is not repeated); NaN where nothing varies in a group.
    """
    first, second, kept = _known(x, y, *given)
    member = cluster_index(kept.size, [groups[int(k)] for k in kept])
    sizes = np.bincount(member) if kept.size else np.zeros(0, dtype=int)
    several = sizes[member] > 1 if kept.size else np.zeros(0, dtype=bool)
    if not bool(several.any()):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    further = [np.asarray(column, dtype=np.float64).ravel()[kept] for column in given]
    sides = [_residual(side, member) for side in (first, second, *further)]
    a, b = (_without(side, sides[2:])[several] for side in sides[:2])
    piece = np.unique(member[several], return_inverse=True)[1]
    sums = _sums(piece, (a * b, a * a, b * b))
    return _interval(
        _correlation(sums.sum(axis=0)), sums, _correlation, int(several.sum()), num_resamples, seed
    )


def _sums(member: NDArray[np.intp], columns: Sequence[Floats]) -> Floats:
    """The total of every column over the rows of each group, (groups, columns)."""
    return np.stack([np.bincount(member, values).astype(np.float64) for values in columns], axis=1)


def _interval(
    estimate: float,
    sums: Floats,
    measure: Callable[[Floats], float],
    num: int,
    num_resamples: int,
    seed: int,
) -> Interval:
    """Bootstrap over the rows of `sums` (one a group): `measure` turns a total of rows into the estimate."""
    if len(sums) < 2:
        return Interval(estimate, float("nan"), float("nan"), num)
    chosen = np.random.default_rng(seed).integers(0, len(sums), (num_resamples, len(sums)))
    draws = np.asarray([measure(total) for total in sums[chosen].sum(axis=1)])
    draws = draws[np.isfinite(draws)]
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if draws.size else (np.nan, np.nan)
    return Interval(estimate, float(low), float(high), num)


def _known(x: ArrayLike, y: ArrayLike, *others: ArrayLike) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Both columns where everything is finite, and the rows that are."""
    columns = [np.asarray(column, dtype=np.float64).ravel() for column in (x, y, *others)]
    if len({column.size for column in columns}) > 1:
        raise ValueError(f"columns must be of one length, got {[column.size for column in columns]}")
    kept = np.flatnonzero(np.all([np.isfinite(column) for column in columns], axis=0))
    return columns[0][kept], columns[1][kept], kept


def _residual(values: Floats, member: NDArray[np.intp]) -> Floats:
    """Ranks over all rows minus the mean rank of the row's group."""
    ranks = rankdata(values)
    means = np.bincount(member, ranks) / np.bincount(member)
    return np.asarray(ranks - means[member])


def _without(side: Floats, others: Sequence[Floats]) -> Floats:
    """What is left of a side when the others have explained what they can, linearly."""
    if not others:
        return side
    design = np.stack(others, axis=1)
    found, *_ = np.linalg.lstsq(design, side, rcond=None)
    rest = side - design @ found
    return np.where(np.abs(rest) < FLAT * max(1.0, float(np.abs(side).max())), 0.0, rest)


def _correlation(sums: Floats) -> float:
    product, first, second = sums
    if first <= FLAT or second <= FLAT:
        return float("nan")
    return float(np.clip(product / np.sqrt(first * second), -1.0, 1.0))
