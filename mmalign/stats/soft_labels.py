"""Counts of votes as chances: the label of a pair that few people, or people who disagree, have voted on.

`soft_labels` gives the chance that the first is better, shrunk where votes are few; `soft_shares` keeps the ties apart.
Who voted does not matter here; `mmalign.stats.votes` weighs annotators.

Shape legend: `N` pairs.

>>> soft_labels([[3, 0, 0], [30, 0, 0], [1, 1, 0]], prior=2.0).round(3).tolist()
[0.8, 0.969, 0.5]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def soft_labels(counts: ArrayLike, *, prior: float | None = None) -> Floats:
    """p(first is better) of pairs (N,) from votes (N, 3) for first, second and tie, shrunk to 1/2.

    `prior` imagined votes are split evenly; None fits their number to all pairs by likelihood (beta-binomial, ties
    half), so that it is small where annotators mostly agree and large where votes look like coins.
    """
    shares = soft_shares(counts, prior=prior)
    return np.asarray(shares[:, 0] + shares[:, 2] / 2)


def soft_shares(counts: ArrayLike, *, prior: float | None = None) -> Floats:
    """The shares (N, 3) of first, second and tie behind `soft_labels`; imagined votes are for the first or the second.

    Where ties got the most votes they keep their share, so that they stay the likeliest answer.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != 3 or (table < 0).any() or (table.sum(axis=1) == 0).any():
        raise ValueError(
            "counts must be (N, 3): votes for the first, the second and ties, at least one a pair"
        )
    wins, total = table[:, 0] + table[:, 2] / 2, table.sum(axis=1)
    imagined = _fit_prior(wins, total) if prior is None else prior
    p = (wins + imagined / 2) / (total + imagined)
    most = table[:, 2] >= table.max(axis=1)
    tie = table[:, 2] / np.where(most, total, total + imagined)
    found = np.stack([p - tie / 2, 1 - p - tie / 2, tie], axis=1)
    found[most, :2] = np.minimum(found[most, :2], tie[most, None])  # only rounding could have them above
    return found


def _fit_prior(wins: Floats, total: Floats) -> float:
    """The number of imagined votes under which these votes are most likely, from 0.02 to 200."""
    from scipy.special import betaln

    sizes = np.exp(np.linspace(np.log(0.02), np.log(200.0), 97))
    fits = [
        float((betaln(wins + s / 2, total - wins + s / 2) - betaln(s / 2, s / 2)).sum())
        for s in sizes.tolist()
    ]
    return float(sizes[int(np.argmax(fits))])
