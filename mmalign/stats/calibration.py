"""Whether a reward's sureness can be believed: P(a better) = sigmoid(difference / T) held against what people said.

Shape legend: `N` pairs, `M` bins. `difference` (N,) is score(a) - score(b); `chance` (N,) in [0, 1] is what people said
of "a is better": 1, 0, a half for a tie, or a share of votes (soft labels are better than majorities).

A prediction is folded to the winner it names: its confidence is max(p, 1 - p) and its credit the chance of that
winner; equal scores name nobody, have confidence 1/2 and credit 1/2. Then

- ECE = sum over bins of share of pairs * |mean credit - mean confidence| (Guo et al. 2017, arXiv 1706.04599), with
  15 bins of equal width on [1/2, 1] or of equal mass (equal confidences stay together);
- Brier = mean (p - chance)^2 and NLL = mean cross-entropy in nats, both proper;
- T is fitted by likelihood on pairs of other groups (prompts) than it is judged on.

ECE of a finite sample is above 0 even for a perfectly calibrated judge; `chance_ece` says how far.

>>> p = probabilities([2.0, -2.0], 2.0)
>>> [round(float(x), 3) for x in p]
[0.731, 0.269]
>>> confidence, credit = fold(p, [1.0, 1.0])
>>> credit.tolist()
[1.0, 0.0]
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import rankdata

from mmalign.stats import intervals
from mmalign.stats.intervals import Interval, cluster_index

Floats = NDArray[np.float64]
NUM_BINS = 15
SMALLEST = 1e-12
"""Probabilities are kept this far from 0 and 1 inside logarithms."""


@dataclass(frozen=True)
class Bin:
    """Pairs of like confidence: what was said and what came true."""

    low: float
    high: float
    confidence: float
    credit: float
    n: int


@dataclass(frozen=True)
class Calibration:
    """How N pairs came out against the probabilities given for them; `interval`s are by group."""

    n: int
    temperatures: tuple[float, ...]
    accuracy: Interval
    confidence: float
    ece: float
    ece_equal_mass: float
    ece_by_chance: float  # 95% of perfectly calibrated judges of these confidences have an ECE below
    brier: float
    nll: float
    bins: tuple[Bin, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"accuracy": self.accuracy.as_dict()}


def probabilities(difference: ArrayLike, temperature: float | ArrayLike) -> Floats:
    """P(a is better) = sigmoid(difference / T), (N,); T is above 0, one for all or one a pair."""
    scale = np.asarray(temperature, dtype=np.float64)
    if not bool((scale > 0).all()):
        raise ValueError(f"a temperature is above 0, got {scale.min():g}")
    return np.asarray(expit(np.asarray(difference, dtype=np.float64) / scale))


def fit_temperature(difference: ArrayLike, chance: ArrayLike) -> float:
    """The T above 0 of least cross-entropy. Pairs that are all ordered rightly have none: T goes to the lower bound,
    a thousandth of the usual difference. ValueError if every difference is 0.
    """
    delta, said = _pairs(difference, chance)
    size = np.abs(delta)
    if not bool((size > 0).any()):
        raise ValueError(
            "all scores are equal: there is no temperature that turns their differences into odds"
        )
    unit = float(np.median(size[size > 0]))

    def loss(log_temperature: float) -> float:
        logits = delta / (unit * np.exp(log_temperature))
        return float(np.mean(np.logaddexp(0.0, logits) - said * logits))

    found = minimize_scalar(
        loss, bounds=(np.log(1e-3), np.log(1e3)), method="bounded", options={"xatol": 1e-7}
    )
    return float(unit * np.exp(found.x))


def cross_fitted(
    difference: ArrayLike,
    chance: ArrayLike,
    groups: Sequence[Hashable],
    *,
    num_folds: int = 2,
    seed: int = 0,
) -> tuple[Floats, tuple[float, ...]]:
    """P(a is better) of every pair with the T of the other folds, and the T of each; a group is in one fold."""
    delta, said = _pairs(difference, chance)
    member = cluster_index(delta.size, groups)
    num_groups = int(member.max()) + 1 if member.size else 0
    if num_groups < 2:
        raise ValueError(f"a temperature from other prompts needs at least 2 prompts, got {num_groups}")
    num_folds = min(num_folds, num_groups)
    fold = (np.random.default_rng(seed).permutation(num_groups) % num_folds)[member]
    found = np.zeros_like(delta)
    temperatures = []
    for k in range(num_folds):
        temperatures.append(fit_temperature(delta[fold != k], said[fold != k]))
        found[fold == k] = probabilities(delta[fold == k], temperatures[-1])
    return found, tuple(temperatures)


def fold(probability: ArrayLike, chance: ArrayLike) -> tuple[Floats, Floats]:
    """Confidence in [1/2, 1] and credit in [0, 1] of the winner that each prediction names, (N,) each."""
    p, said = _pairs(probability, chance)
    credit = np.where(p > 0.5, said, np.where(p < 0.5, 1.0 - said, 0.5))
    return np.maximum(p, 1.0 - p), credit


def bins(
    confidence: ArrayLike,
    credit: ArrayLike,
    *,
    num_bins: int = NUM_BINS,
    kind: Literal["width", "mass"] = "width",
) -> tuple[Bin, ...]:
    """The bins that hold pairs, from low to high confidence; `width` cuts [1/2, 1] evenly, `mass` the pairs."""
    sure, right = _pairs(confidence, credit)
    if sure.size == 0:
        return ()
    if kind == "width":
        place = np.clip(((sure - 0.5) * 2 * num_bins).astype(np.int64), 0, num_bins - 1)
    else:  # equal confidences share the rank of the first of them, and so a bin
        first = rankdata(sure, method="min") - 1
        place = (first * num_bins // sure.size).astype(np.int64)
    made = []
    for number in np.unique(place):
        where = place == number
        edges = (0.5 + number / (2 * num_bins), 0.5 + (number + 1) / (2 * num_bins))
        low, high = edges if kind == "width" else (float(sure[where].min()), float(sure[where].max()))
        made.append(Bin(low, high, float(sure[where].mean()), float(right[where].mean()), int(where.sum())))
    return tuple(made)


def ece(found: Sequence[Bin]) -> float:
    """Expected calibration error of binned pairs; NaN of none."""
    total = sum(one.n for one in found)
    if total == 0:
        return float("nan")
    return sum(one.n * abs(one.credit - one.confidence) for one in found) / total


def brier(probability: ArrayLike, chance: ArrayLike) -> float:
    """Mean squared error of P(a is better)."""
    p, said = _pairs(probability, chance)
    return float(np.mean((p - said) ** 2))


def nll(probability: ArrayLike, chance: ArrayLike) -> float:
    """Mean cross-entropy of P(a is better) in nats."""
    p, said = _pairs(probability, chance)
    p = np.clip(p, SMALLEST, 1 - SMALLEST)
    return float(-np.mean(said * np.log(p) + (1 - said) * np.log(1 - p)))


def chance_ece(
    confidence: ArrayLike, *, num_bins: int = NUM_BINS, num_draws: int = 200, seed: int = 0
) -> float:
    """The 95th percentile of the ECE of a judge who is right exactly as often as it says, by simulation."""
    sure = np.asarray(confidence, dtype=np.float64).ravel()
    if sure.size == 0:
        return float("nan")
    rng = np.random.default_rng(seed)
    place = np.clip(((sure - 0.5) * 2 * num_bins).astype(np.int64), 0, num_bins - 1)
    excess = (rng.random((num_draws, sure.size)) < sure) - sure
    sums = np.stack([excess[:, place == number].sum(axis=1) for number in np.unique(place)], axis=1)
    return float(np.quantile(np.abs(sums).sum(axis=1) / sure.size, 0.95))


def measure(
    probability: ArrayLike,
    chance: ArrayLike,
    groups: Sequence[Hashable],
    *,
    temperatures: Sequence[float] = (),
    num_bins: int = NUM_BINS,
) -> Calibration:
    """Everything at once for N pairs with given P(a is better)."""
    p, said = _pairs(probability, chance)
    sure, right = fold(p, said)
    table = bins(sure, right, num_bins=num_bins)
    return Calibration(
        int(p.size),
        tuple(temperatures),
        intervals.mean(right, groups),
        float(sure.mean()) if sure.size else float("nan"),
        ece(table),
        ece(bins(sure, right, num_bins=num_bins, kind="mass")),
        chance_ece(sure, num_bins=num_bins),
        brier(p, said) if p.size else float("nan"),
        nll(p, said) if p.size else float("nan"),
        table,
    )


def selective(sureness: ArrayLike, credit: ArrayLike) -> tuple[tuple[float, float], ...]:
    """(coverage, accuracy) when only the surest pairs are judged, from few to all; equal sureness enters together.

    >>> selective([3.0, 2.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0])
    ((0.25, 1.0), (0.5, 1.0), (1.0, 0.75))
    """
    sure, right = _pairs(sureness, credit)
    order = np.argsort(-sure, kind="stable")
    mean = np.cumsum(right[order]) / np.arange(1, sure.size + 1)
    last = np.flatnonzero(np.append(np.diff(sure[order]) < 0, True)) if sure.size else np.array([], dtype=int)
    return tuple((float((k + 1) / sure.size), float(mean[k])) for k in last)


def auroc(sureness: ArrayLike, credit: ArrayLike) -> float:
    """P(a pair judged rightly has more sureness than one judged wrongly), ties half; credit 1/2 is left out.

    Mann and Whitney's statistic; NaN if there are only right or only wrong ones.
    """
    sure, right = _pairs(sureness, credit)
    sure, right = sure[right != 0.5], right[right != 0.5] > 0.5
    num_right, num_wrong = int(right.sum()), int((~right).sum())
    if num_right == 0 or num_wrong == 0:
        return float("nan")
    ranks = rankdata(sure)
    return float((ranks[right].sum() - num_right * (num_right + 1) / 2) / (num_right * num_wrong))


def _pairs(first: ArrayLike, chance: ArrayLike) -> tuple[Floats, Floats]:
    one, said = np.asarray(first, dtype=np.float64).ravel(), np.asarray(chance, dtype=np.float64).ravel()
    if one.shape != said.shape:
        raise ValueError(f"every pair needs a label, got {one.size} and {said.size}")
    if not bool(np.isfinite(one).all()):
        raise ValueError("scores must be finite: leave pairs without scores out, and count them")
    if not bool(((said >= 0) & (said <= 1)).all()):
        raise ValueError("labels must be the chance that a is better, from 0 to 1")
    return one, said
