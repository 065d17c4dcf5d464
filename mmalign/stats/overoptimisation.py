"""Over-optimisation: what happens to a gold reward when a proxy is pushed (Gao et al. 2022, arXiv 2210.10760).

Shape legend: `N` samples of one prompt, `P` prompts, `R` rewards of an ensemble, `K` numbers of samples n.

Best of n takes the sample of highest proxy among n; it is as far from the generator as

    KL = log n - (n - 1) / n        and the curve is drawn over d = sqrt(KL).

With N samples at hand, the gold reward that best of n expects has an unbiased estimate that uses all of them
(sorted by proxy, ascending, i = 1 .. N):

    sum over i >= n of C(i - 1, n - 1) / C(N, n) * gold_(i)

Equal proxies share their weights, as a random choice among them would. Fitted laws of the gain over n = 1:
d (a - b d) for best of n, d (a - b log d) for reinforcement learning.

>>> best_of_n([0.1, 0.2, 0.3], [5.0, 6.0, 10.0], 3)  # the sample of highest proxy
10.0
>>> round(kl_best_of_n(4), 4)
0.6363
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from mmalign.stats import intervals
from mmalign.stats.intervals import Interval

Floats = NDArray[np.float64]
Rule = Literal["mean", "min", "uwo"]


@dataclass(frozen=True)
class Fit:
    """gain = d (a - b d) (`best of n`) or d (a - b log d) (`rl`), by least squares; `rms` is what is left over."""

    law: str
    a: float
    b: float
    rms: float

    def __call__(self, d: float) -> float:
        """The gain at distance d."""
        if d <= 0:
            return 0.0
        return d * (self.a - self.b * (d if self.law == "best of n" else math.log(d)))

    @property
    def peak(self) -> float | None:
        """The d of highest gain; None if the law has no top."""
        if self.b <= 0:
            return None
        if self.law == "best of n":
            return self.a / (2 * self.b) if self.a > 0 else 0.0
        return math.exp(self.a / self.b - 1)


@dataclass(frozen=True)
class CurvePoint:
    """Best of n over all prompts: both rewards, and what gold gained over n = 1 (paired by prompt)."""

    n: int
    d: float
    proxy: Interval
    gold: Interval
    gain: Interval


@dataclass(frozen=True)
class Curve:
    """K points with n rising from 1, the fitted laws, and how gold at the end differs from gold at its top."""

    points: tuple[CurvePoint, ...]
    fits: tuple[Fit, ...]
    top: int  # the n of highest gold
    fall: Interval  # gold at the last n minus gold at the top, paired by prompt
    num_prompts: int
    num_samples: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        points = [
            {"n": p.n, "d": p.d, **{k: getattr(p, k).as_dict() for k in ("proxy", "gold", "gain")}}
            for p in self.points
        ]
        fits = [asdict(fit) | {"peak": fit.peak} for fit in self.fits]
        return asdict(self) | {"points": points, "fits": fits, "fall": self.fall.as_dict()}


def kl_best_of_n(n: int) -> float:
    """Kullback-Leibler divergence of best of n from its generator, in nats: log n - (n - 1) / n."""
    if n < 1:
        raise ValueError(f"best of n needs n of at least 1, got {n}")
    return math.log(n) - (n - 1) / n


def kl_of_path(means: ArrayLike, reference_means: ArrayLike, stds: ArrayLike) -> Floats:
    """KL of a stochastic rollout from the reference's, (B,): sum over steps of |mean - reference|^2 / (2 std^2).

    `means` and `reference_means` are (B, K, ...), `stds` (K,): the Gaussian transitions of the same states.
    """
    first, second = np.asarray(means, dtype=np.float64), np.asarray(reference_means, dtype=np.float64)
    spread = np.asarray(stds, dtype=np.float64)
    if first.shape != second.shape or first.ndim < 2 or spread.shape != first.shape[1:2]:
        raise ValueError(f"means {first.shape}, {second.shape} and stds {spread.shape} do not fit together")
    squares = ((first - second) ** 2).reshape(*first.shape[:2], -1).sum(-1)
    return np.asarray((squares / (2 * spread**2)).sum(axis=1))


def best_of_n(proxy: ArrayLike, value: ArrayLike, n: int) -> float:
    """Unbiased expectation of `value` (N,) of the highest-proxy sample among n drawn without replacement."""
    scores, values = np.asarray(proxy, dtype=np.float64).ravel(), np.asarray(value, dtype=np.float64).ravel()
    if scores.shape != values.shape or not 1 <= n <= scores.size:
        raise ValueError(f"best of {n} needs at least {n} samples with both rewards, got {scores.size}")
    if not bool(np.isfinite(scores).all() and np.isfinite(values).all()):
        raise ValueError("rewards must be finite: leave samples without scores out, and count them")
    order = np.argsort(scores, kind="stable")
    level = np.unique(scores, return_inverse=True)[1][order]  # equal proxies are one level
    weight = np.bincount(level, _weights(scores.size, n))
    mean = np.bincount(level, values[order]) / np.bincount(level)
    return float(weight @ mean)


def _weights(num: int, n: int) -> Floats:
    """C(i - 1, n - 1) / C(N, n) for i = 1 .. N: the chance that the i-th lowest is the best of n."""
    i = np.arange(1, num + 1)
    made = np.zeros(num)
    kept = i >= n
    below = i[kept] - 1
    logs = gammaln(below + 1) - gammaln(n) - gammaln(below - n + 2)
    made[kept] = np.exp(logs - (gammaln(num + 1) - gammaln(n + 1) - gammaln(num - n + 1)))
    return made


def ensemble(scores: ArrayLike, rule: Rule = "mean", *, weight: float = 1.0) -> Floats:
    """R proxies (R, N) as one (N,): their mean, their lowest (worst case), or uwo = mean - weight * variance.

    Rewards of different scales must be standardised first. Coste et al. 2023, arXiv 2310.02743.

    >>> ensemble([[1.0, 2.0], [3.0, 2.0]], "uwo", weight=0.5).tolist()
    [1.5, 2.0]
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or len(table) < 1:
        raise ValueError(f"an ensemble is a table of rewards by samples, got shape {table.shape}")
    if rule == "min":
        return np.asarray(table.min(axis=0))
    if rule == "mean":
        return np.asarray(table.mean(axis=0))
    if rule == "uwo":
        return np.asarray(table.mean(axis=0) - weight * table.var(axis=0))
    raise ValueError(f"an ensemble's rule is mean, min or uwo, got {rule!r}")


def curve(
    proxy: Sequence[ArrayLike],
    gold: Sequence[ArrayLike],
    numbers: Sequence[int] | None = None,
    *,
    seed: int = 0,
) -> Curve:
    """The curve over P prompts, each with its own samples; n runs over powers of two to the smallest N."""
    sizes = [np.asarray(one).size for one in proxy]
    if not sizes or len(sizes) != len(gold):
        raise ValueError(f"a curve needs both rewards prompt by prompt, got {len(sizes)} and {len(gold)}")
    most = min(sizes)
    chosen = sorted({1, *(numbers or [2**k for k in range(most.bit_length()) if 2**k <= most])})
    if chosen[-1] < 2 or chosen[-1] > most:
        raise ValueError(f"every prompt needs {max(chosen[-1], 2)} or more samples, the fewest are {most}")
    tables = [
        np.asarray([[best_of_n(p, v, n) for n in chosen] for p, v in zip(proxy, side, strict=True)])
        for side in (proxy, gold)
    ]  # (P, K) each
    mean_gold = tables[1].mean(axis=0)
    points = tuple(
        CurvePoint(
            n,
            math.sqrt(kl_best_of_n(n)),
            intervals.mean(tables[0][:, k], seed=seed),
            intervals.mean(tables[1][:, k], seed=seed),
            intervals.paired(tables[1][:, 0], tables[1][:, k], seed=seed),
        )
        for k, n in enumerate(chosen)
    )
    top = int(np.argmax(mean_gold))
    distances, gains = [p.d for p in points[1:]], mean_gold[1:] - mean_gold[0]
    fits = (fit(distances, gains, "best of n"), fit(distances, gains, "rl")) if len(points) > 2 else ()
    fall = intervals.paired(tables[1][:, top], tables[1][:, -1], seed=seed)
    return Curve(points, fits, chosen[top], fall, len(sizes), sum(sizes))


def fit(distance: ArrayLike, gain: ArrayLike, law: Literal["best of n", "rl"]) -> Fit:
    """a and b of the law by least squares on points with d above 0; needs two of them."""
    d, found = np.asarray(distance, dtype=np.float64).ravel(), np.asarray(gain, dtype=np.float64).ravel()
    if d.shape != found.shape or d.size < 2 or not bool((d > 0).all()):
        raise ValueError(f"a fit of two numbers needs two or more points with d above 0, got {d.size}")
    design = np.stack([d, -d * (d if law == "best of n" else np.log(d))], axis=1)
    (a, b), *_ = np.linalg.lstsq(design, found, rcond=None)
    rest = found - design @ np.array([a, b])
    return Fit(law, float(a), float(b), float(np.sqrt(np.mean(rest**2))))
