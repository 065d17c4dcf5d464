"""How sure a mean is: bootstrap by cluster, paired bootstrap, Wilson's interval for a share.

Shape legend: `N` observations. Images of one prompt are not independent, so wherever several observations share a
prompt the prompts are resampled, not the images: pass the prompt (or its number) of each observation as `clusters`.
Where the share of each kind of prompt was fixed beforehand, pass the kinds as `strata`: prompts are then resampled
within their kind, and differences between kinds do not widen the interval.

>>> interval = mean([0.0, 1.0, 1.0, 1.0])
>>> interval.mean, interval.n
(0.75, 4)
>>> wilson(0, 10).low
0.0
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
LEVEL = 0.95
NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it; `n` counts the observations that entered."""

    mean: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, Any]:
        """`{"mean", "low", "high", "n"}`, with None where a number is not finite, ready for JSON."""
        return {k: v if k == "n" or np.isfinite(v) else None for k, v in asdict(self).items()}

    def overlaps(self, other: Interval) -> bool:
        """Whether the two intervals have a point in common."""
        return self.low <= other.high and other.low <= self.high

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}] (n={self.n})"


def mean(
    values: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    strata: Sequence[Hashable] | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean with a percentile bootstrap interval over clusters. NaN values are left out and not counted.

    One cluster alone says nothing of how clusters differ: the interval is then NaN, not of width zero. With `strata`
    (one a value, fixed by the design) clusters are resampled within their stratum, whose weight stays what it is
    (Cochran, Sampling Techniques, section 5.3). Raises ValueError where a cluster lies in two strata.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    members = cluster_index(array.size, clusters)
    known = np.isfinite(array)
    if not known.any():
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    array, members = array[known], np.unique(members[known], return_inverse=True)[1]
    sums, sizes = np.bincount(members, weights=array).astype(np.float64), np.bincount(members)
    if sums.size == 1:
        return Interval(float(array.mean()), float("nan"), float("nan"), int(array.size))
    kinds = np.zeros(sums.size, dtype=np.intp)
    if strata is not None:
        kinds = _strata_of_clusters(cluster_index(known.size, strata)[known], members)
    rng, draws = np.random.default_rng(seed), np.zeros(num_resamples)
    for kind in np.unique(kinds):
        inside = kinds == kind
        part = _resampled_means(sums[inside], sizes[inside], num_resamples, rng)
        draws += part * sizes[inside].sum() / sizes.sum()
    low, high = _percentiles(draws, level)
    return Interval(float(array.mean()), low, high, int(array.size))


def paired(
    before: ArrayLike,
    after: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    strata: Sequence[Hashable] | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean of `after - before`, observation by observation (same prompt, same seed), resampled by cluster."""
    first, second = np.asarray(before, dtype=np.float64).ravel(), np.asarray(after, dtype=np.float64).ravel()
    if first.shape != second.shape:
        raise ValueError(f"paired observations must match one to one, got {first.size} and {second.size}")
    return mean(second - first, clusters, strata=strata, level=level, num_resamples=num_resamples, seed=seed)


def statistic(
    measure: Callable[[NDArray[np.intp]], float],
    num: int,
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = LEVEL,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Bootstrap of any measure: `measure(rows)` is called with positions, all of them first, then resamples.

    Resamples on which the measure is NaN (say a correlation with a constant) are left out.
    """
    everything = np.arange(num)
    estimate = measure(everything)
    rng = np.random.default_rng(seed)
    pieces = None if clusters is None or num == 0 else _pieces(cluster_index(num, clusters))
    draws = []
    enough = (num if pieces is None else len(pieces)) > 1
    for _ in range(num_resamples if enough else 0):
        if pieces is None:
            rows = rng.integers(0, num, num)
        else:
            rows = np.concatenate([pieces[k] for k in rng.integers(0, len(pieces), len(pieces))])
        draws.append(measure(rows))
    low, high = _percentiles(np.asarray(draws, dtype=np.float64), level)
    return Interval(float(estimate), low, high, num)


def wilson(successes: float, n: int, *, level: float = LEVEL) -> Interval:
    """Wilson's interval for a share of independent trials; sound near 0 and 1, where the normal one is not."""
    if n < 0 or not 0 <= successes <= max(n, 0):
        raise ValueError(f"{successes} successes of {n} trials is not a share")
    if n == 0:
        return Interval(float("nan"), 0.0, 1.0, 0)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    low = 0.0 if successes == 0 else center - half
    high = 1.0 if successes == n else center + half
    return Interval(share, low, high, n)


def cluster_index(num: int, clusters: Sequence[Hashable] | None) -> NDArray[np.intp]:
    """One integer a row, equal where the clusters are equal; without clusters every row is its own."""
    if clusters is None:
        return np.arange(num)
    if len(clusters) != num:
        raise ValueError(f"{num} values need {num} clusters, got {len(clusters)}")
    numbers: dict[Hashable, int] = {}
    return np.asarray([numbers.setdefault(key, len(numbers)) for key in clusters], dtype=np.intp)


def folds_of(
    num: int, clusters: Sequence[Hashable] | None, *, num_folds: int = 5, seed: int = 0
) -> NDArray[np.intp]:
    """A fold a row, drawn by cluster; as many folds as clusters where there are fewer. ValueError for a single one."""
    members = cluster_index(num, clusters)
    num_clusters = int(members.max()) + 1 if members.size else 0
    folds = min(num_folds, num_clusters)
    if folds < 2:
        raise ValueError(f"cross-validation needs at least 2 groups, got {num_clusters}")
    return np.random.default_rng(seed).permutation(num_clusters)[members] % folds


def _pieces(members: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """The rows of every cluster."""
    order = np.argsort(members, kind="stable")
    return np.split(order, np.cumsum(np.bincount(members))[:-1])


def _strata_of_clusters(strata: NDArray[np.intp], members: NDArray[np.intp]) -> NDArray[np.intp]:
    """The stratum of every cluster; strata of one cluster, which cannot be resampled, are put together."""
    kinds = np.zeros(members.max() + 1, dtype=np.intp)
    kinds[members] = strata
    if (kinds[members] != strata).any():
        raise ValueError("a cluster lies in two strata: observations of one prompt must be of one kind")
    sizes = np.bincount(kinds)
    kinds[sizes[kinds] == 1] = -1
    return kinds if (kinds == -1).sum() != 1 else np.zeros_like(kinds)


def _resampled_means(
    sums: Floats, sizes: NDArray[Any], num_resamples: int, rng: np.random.Generator
) -> Floats:
    """Means of resampled clusters, in blocks so that memory stays small."""
    num = sums.size
    block = max(1, 4_000_000 // num)
    parts = []
    for start in range(0, num_resamples, block):
        chosen = rng.integers(0, num, (min(block, num_resamples - start), num))
        parts.append(sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1))
    return np.concatenate(parts)


def _percentiles(draws: Floats, level: float) -> tuple[float, float]:
    known = draws[np.isfinite(draws)]
    if known.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
