"""Agreement of scores with people: pair accuracy with and without ties, rank correlations, their mean.

Shape legend: `N` pairs or items. For pairs, `difference` is score(a) - score(b) and `label` is +1 where people
prefer a, -1 where they prefer b, 0 for a tie.

Protocols, named in every result because the numbers differ:

- `strict`: ties among the labels are dropped; equal scores count as wrong (or half with `equal_scores="half"`).
- `ties`: a tie is predicted where |difference| <= epsilon, and right where people saw one (Deutsch et al. 2023,
  arXiv 2305.14324). `best_epsilon` fits epsilon on the pairs it is measured on, as published numbers do, which
  flatters; `cross_validated` fits it on other groups.
- `whole_orders`: three or more candidates together, right only if every pair of them is (EditReward-Bench, arXiv
  2509.26346: one in 24 by chance for four).

>>> strict([2.0, -1.0, 0.5], [1, 1, 0]).accuracy
0.5
>>> with_ties([2.0, -1.0, 0.5], [1, 1, 0], epsilon=0.5).accuracy
0.6666666666666666
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mmalign.stats.intervals import cluster_index, folds_of

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Accuracy:
    """A pair accuracy and how it came about."""

    protocol: str
    accuracy: float
    correct: float
    n: int
    epsilon: float | None = None
    ties_labelled: int = 0
    ties_predicted: int = 0
    ties_matched: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an accuracy of nothing is None."""
        return {k: None if v != v else v for k, v in asdict(self).items()}


def strict(
    difference: ArrayLike, label: ArrayLike, *, equal_scores: Literal["wrong", "half"] = "wrong"
) -> Accuracy:
    """The share of untied pairs ordered as people order them."""
    delta, truth = _pairs(difference, label)
    kept = truth != 0
    credit = (np.sign(delta) == truth)[kept].astype(np.float64)
    if equal_scores == "half":
        credit[delta[kept] == 0] = 0.5
    num, correct = int(kept.sum()), float(credit.sum())
    return Accuracy(
        f"strict, equal scores {equal_scores}",
        correct / num if num else float("nan"),
        correct,
        num,
        ties_labelled=int((~kept).sum()),
    )


def with_ties(difference: ArrayLike, label: ArrayLike, *, epsilon: float) -> Accuracy:
    """Three-way accuracy: a tie is predicted where |difference| <= epsilon (a negative epsilon predicts none)."""
    delta, truth = _pairs(difference, label)
    predicted = np.where(np.abs(delta) <= epsilon, 0, np.sign(delta)).astype(np.int64)
    if epsilon < 0:
        predicted = np.where(delta == 0, 2, predicted)  # equal scores decide nothing and so are wrong
    right = predicted == truth
    return Accuracy(
        "ties, epsilon given",
        float(right.mean()) if truth.size else float("nan"),
        float(right.sum()),
        int(truth.size),
        epsilon,
        int((truth == 0).sum()),
        int((predicted == 0).sum()),
        int((right & (truth == 0)).sum()),
    )


def best_epsilon(difference: ArrayLike, label: ArrayLike) -> float:
    """The epsilon of highest three-way accuracy among -1 and every |difference|; the smallest of equals.

    One sorted sweep: all pairs of one |difference| turn into ties together.
    """
    delta, truth = _pairs(difference, label)
    size = np.abs(delta)
    order = np.argsort(size, kind="stable")
    gain = (truth == 0).astype(np.int64) - ((np.sign(delta) == truth) & (truth != 0) & (delta != 0))
    start = int(((np.sign(delta) == truth) & (delta != 0)).sum())
    totals = start + np.cumsum(gain[order])
    last = np.flatnonzero(np.append(np.diff(size[order]) > 0, True)) if size.size else np.array([], dtype=int)
    best, epsilon = start, -1.0
    for place in last:
        if totals[place] > best:
            best, epsilon = int(totals[place]), float(size[order][place])
    return epsilon


def published(difference: ArrayLike, label: ArrayLike) -> Accuracy:
    """Three-way accuracy at the epsilon that is best on these very pairs."""
    result = with_ties(difference, label, epsilon=best_epsilon(difference, label))
    return Accuracy(
        **{**asdict(result), "protocol": "ties, epsilon fitted on these pairs (published, optimistic)"}
    )


def cross_validated(
    difference: ArrayLike, label: ArrayLike, groups: Sequence[Hashable], *, num_folds: int = 5, seed: int = 0
) -> Accuracy:
    """Three-way accuracy with epsilon fitted on the other folds; the pairs of one group (prompt) stay together."""
    delta, truth = _pairs(difference, label)
    fold = folds_of(truth.size, groups, num_folds=num_folds, seed=seed)
    folds, parts = int(fold.max()) + 1, []
    for k in range(folds):
        epsilon = best_epsilon(delta[fold != k], truth[fold != k])
        parts.append(with_ties(delta[fold == k], truth[fold == k], epsilon=epsilon))
    correct, num = sum(p.correct for p in parts), sum(p.n for p in parts)
    return Accuracy(
        f"ties, epsilon by {folds}-fold cross-validation",
        correct / num,
        correct,
        num,
        float(np.mean([p.epsilon for p in parts])),
        sum(p.ties_labelled for p in parts),
        sum(p.ties_predicted for p in parts),
        sum(p.ties_matched for p in parts),
    )


def whole_orders(difference: ArrayLike, label: ArrayLike, owners: Sequence[Hashable]) -> Accuracy:
    """The share of comparisons (`owners` of the pairs) of which all pairs are ordered as people have them; a tie of
    theirs is met by equal scores only.

    >>> whole_orders([1, 2, 1, 1, 2, -1], [1, 1, 1, 1, 1, 1], "aaabbb").accuracy
    0.5
    """
    delta, truth = _pairs(difference, label)
    member = cluster_index(truth.size, owners)
    num = int(member.max()) + 1 if member.size else 0
    wrong = np.bincount(member, weights=np.sign(delta) != truth, minlength=num)
    correct = int((wrong == 0).sum())
    ties = int((truth == 0).sum())
    accuracy = correct / num if num else float("nan")
    return Accuracy("whole orders, ties by equal scores", accuracy, float(correct), num, ties_labelled=ties)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation (average ranks for ties); NaN where one side is constant."""
    first, second = _columns(x, y)
    return pearson(stats.rankdata(first), stats.rankdata(second))


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson's correlation; NaN where one side is constant."""
    first, second = _columns(x, y)
    if _constant(first, second):
        return float("nan")
    a, b = first - first.mean(), second - second.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def kendall(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall's tau-b, which corrects for ties; NaN where one side is constant. Ratings of few levels go fast."""
    first, second = _columns(x, y)
    if _constant(first, second):
        return float("nan")
    rows, columns = (np.unique(side, return_inverse=True)[1] for side in (first, second))
    if (rows.max() + 1) * (columns.max() + 1) > 4096:
        return float(stats.kendalltau(first, second, method="asymptotic").statistic)
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1.0)
    # below[i, j]: how many observations lie in rows after i and columns before / after j
    after = table[::-1].cumsum(axis=0)[::-1]
    below = np.vstack([after[1:], np.zeros(table.shape[1])])
    right = below[:, ::-1].cumsum(axis=1)[:, ::-1] - below
    left = below.cumsum(axis=1) - below
    difference = float((table * (right - left)).sum())
    pairs = first.size * (first.size - 1) / 2
    free = [pairs - float((n * (n - 1) / 2).sum()) for n in (table.sum(axis=1), table.sum(axis=0))]
    return float(difference / np.sqrt(free[0] * free[1]))


CORRELATIONS = {"spearman": spearman, "kendall": kendall, "pearson": pearson}


def fisher_mean(correlations: ArrayLike) -> float:
    """tanh of the mean of arctanh; NaN are left out, +-1 is taken as +-0.999999 to stay finite.

    >>> round(fisher_mean([0.5, 0.5]), 6)
    0.5
    """
    values = np.asarray(correlations, dtype=np.float64).ravel()
    values = values[np.isfinite(values)]
    if values.size == 0:
        return float("nan")
    return float(np.tanh(np.arctanh(np.clip(values, -0.999999, 0.999999)).mean()))


def win_rate(first: ArrayLike, second: ArrayLike, *, epsilon: float = 0.0) -> Floats:
    """Per observation 1 where `second` is above `first`, 0 where below, 1/2 within epsilon, NaN where unknown."""
    delta = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    wins = np.where(np.abs(delta) <= epsilon, 0.5, (delta > 0).astype(np.float64))
    return np.asarray(np.where(np.isfinite(delta), wins, np.nan))


def _columns(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    first, second = np.asarray(x, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
    if first.shape != second.shape:
        raise ValueError(f"a correlation needs two columns of one length, got {first.size} and {second.size}")
    return first, second


def _constant(first: Floats, second: Floats) -> bool:
    return bool(first.size < 2 or np.ptp(first) == 0 or np.ptp(second) == 0)


def _pairs(difference: ArrayLike, label: ArrayLike) -> tuple[Floats, Labels]:
    delta, truth = np.asarray(difference, dtype=np.float64).ravel(), np.asarray(label).ravel()
    if delta.shape != truth.shape:
        raise ValueError(f"every difference needs a label, got {delta.size} and {truth.size}")
    if not np.isfinite(delta).all():
        raise ValueError("differences must be finite: leave pairs without scores out, and count them")
    if not np.isin(truth, (-1, 0, 1)).all():
        raise ValueError("labels must be +1 (a better), -1 (b better) or 0 (tie)")
    return delta, truth.astype(np.int64)
