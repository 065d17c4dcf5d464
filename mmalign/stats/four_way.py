"""Four-way agreement of scores with people who also say of a tie whether both are good or both are bad (GenAI-Bench).

A scalar score answers with two numbers: a tie where |difference| <= epsilon, and then `good` where the mean of the two
scores, their level, is `good_from` or more. `published` fits both on the pairs it is measured on, which flatters;
`cross_validated` fits them on other groups.

Shape legend: `N` pairs. `difference` is score(a) - score(b), `level` the mean of the two; `label` is +1 where people
prefer a, -1 where they prefer b, 0 for a tie, and `good` says of a tie whether both are good.

>>> published([2.0, 0.1, 0.0], [1.0, 5.0, -3.0], [1, 0, 0], [False, True, False]).accuracy
1.0
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmalign.stats.intervals import folds_of


@dataclass(frozen=True)
class FourWay:
    """An accuracy over N pairs and the two thresholds it was reached with."""

    protocol: str
    accuracy: float
    correct: int
    n: int
    epsilon: float
    good_from: float
    good_ties: int
    bad_ties: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an infinite threshold, which calls no tie good or every one, is None."""
        return {k: v if not isinstance(v, float) or np.isfinite(v) else None for k, v in asdict(self).items()}


@dataclass(frozen=True, eq=False)
class _Pairs:
    difference: NDArray[np.float64]
    level: NDArray[np.float64]
    label: NDArray[np.int64]
    good: NDArray[np.bool_]

    def __getitem__(self, kept: NDArray[np.bool_]) -> _Pairs:
        return _Pairs(self.difference[kept], self.level[kept], self.label[kept], self.good[kept])


def published(difference: ArrayLike, level: ArrayLike, label: ArrayLike, good: ArrayLike) -> FourWay:
    """Accuracy at the two thresholds that are best on these very pairs."""
    pairs = _pairs(difference, level, label, good)
    epsilon, good_from = _best(pairs)
    name = "four-way, thresholds fitted on these pairs (published, optimistic)"
    return _summary(name, pairs, _right(pairs, epsilon, good_from), epsilon, good_from)


def cross_validated(
    difference: ArrayLike, level: ArrayLike, label: ArrayLike, good: ArrayLike, groups: Sequence[Hashable],
    *, num_folds: int = 5, seed: int = 0,
) -> FourWay:  # fmt: skip
    """Accuracy with thresholds fitted on the other folds, of which the means are told; a group stays together."""
    pairs = _pairs(difference, level, label, good)
    fold = folds_of(len(pairs.label), groups, num_folds=num_folds, seed=seed)
    right, chosen = np.zeros(len(pairs.label), dtype=bool), []
    for k in range(int(fold.max()) + 1):
        chosen.append(_best(pairs[fold != k]))
        right[fold == k] = _right(pairs[fold == k], *chosen[-1])
    name = f"four-way, thresholds by {len(chosen)}-fold cross-validation"
    return _summary(name, pairs, right, *(float(np.mean(values)) for values in zip(*chosen, strict=True)))


def _right(pairs: _Pairs, epsilon: float, good_from: float) -> NDArray[np.bool_]:
    tie = np.abs(pairs.difference) <= epsilon
    kind = (pairs.level >= good_from) == pairs.good
    order = (np.sign(pairs.difference) == pairs.label) & (pairs.label != 0)
    return np.asarray(np.where(tie, (pairs.label == 0) & kind, order))


def _best(pairs: _Pairs) -> tuple[float, float]:
    """The thresholds of highest accuracy: one sweep over epsilon, in which pairs turn into ties from the closest on.

    Beside it runs, for every `good_from` (each level, or none), how many of the ties so far are of the right kind.
    """
    size = np.abs(pairs.difference)
    levels, rank = np.unique(pairs.level, return_inverse=True)
    ordered = (np.sign(pairs.difference) == pairs.label) & (pairs.label != 0)
    kinds = np.zeros(len(levels) + 1, dtype=np.int64)
    correct = int(ordered.sum())
    best, found = correct, (-1.0, float("inf"))
    order = np.argsort(size, kind="stable")
    for place, k in enumerate(order):
        correct -= int(ordered[k])
        if pairs.label[k] == 0:
            part = slice(None, rank[k] + 1) if pairs.good[k] else slice(rank[k] + 1, None)
            kinds[part] += 1
        last = place + 1 == len(order) or size[order[place + 1]] > size[k]
        if last and correct + kinds.max() > best:
            best, where = correct + int(kinds.max()), int(kinds.argmax())
            found = (float(size[k]), float(levels[where]) if where < len(levels) else float("inf"))
    return found


def _summary(
    protocol: str, pairs: _Pairs, right: NDArray[np.bool_], epsilon: float, good_from: float
) -> FourWay:
    ties, good = pairs.label == 0, pairs.good
    return FourWay(
        protocol, float(right.mean()), int(right.sum()), len(right), epsilon, good_from,
        int((ties & good).sum()), int((ties & ~good).sum()),
    )  # fmt: skip


def _pairs(difference: ArrayLike, level: ArrayLike, label: ArrayLike, good: ArrayLike) -> _Pairs:
    delta, mean = (np.asarray(one, dtype=np.float64).ravel() for one in (difference, level))
    truth, kind = np.asarray(label, dtype=np.int64).ravel(), np.asarray(good, dtype=bool).ravel()
    if not delta.size or not delta.shape == mean.shape == truth.shape == kind.shape:
        raise ValueError("four columns of one length, at least 1, are needed: difference, level, label, good")
    if not (np.isfinite(delta).all() and np.isfinite(mean).all() and np.isin(truth, (-1, 0, 1)).all()):
        raise ValueError("scores must be finite and labels +1, -1 or 0: leave pairs without scores out")
    return _Pairs(delta, mean, truth, kind)
