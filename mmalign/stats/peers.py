"""Peer review: two models look at labels that neither learned from, and what both call wrong is left out.

Shape legend: `N` pairs.

A model's margin m = score(first) - score(second) meets a label y = +1 or -1 of which a share e is wrong:

    P(y | m) = (1 - e) S(y m / T) + e S(-y m / T)

T and e are fitted by likelihood for each model, and the posterior that one label is wrong follows by Bayes. Train the
two on different halves (or from different seeds) and let each review the pairs of the other, so that an error that one
has learned by heart does not vouch for itself (co-teaching, arXiv 1804.06872, works with small losses instead).

A library function only: it needs the margins of two trained models, which `mmalign data votes` (votes in, labels out)
does not have; and on simulated careless votes it gained nothing (`benchmarks/noisy_votes.py`).

>>> good = [1, 1, 0, 0] * 50
>>> review = peer_review([8 * y - 4 for y in good] + [4], [6 * y - 3 for y in good] + [3], [*good, 0])
>>> bool(review.keep[-1]), bool(review.keep[:-1].all())
(False, True)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Review:
    """What two reviewers say of N labels; a tie is never wrong."""

    wrong: Floats  # (N, 2), the posterior that a label is wrong, by each model
    keep: NDArray[np.bool_]  # (N,)
    share_wrong: tuple[float, float]  # e of each model
    temperature: tuple[float, float]  # T of each model

    @property
    def p(self) -> Floats:
        """Weight (N,) of a label: the chance that it is right, in the kinder reviewer's eyes."""
        return np.asarray(1.0 - self.wrong.min(axis=1))


def peer_review(margin_a: ArrayLike, margin_b: ArrayLike, label: ArrayLike, *, level: float = 0.5) -> Review:
    """Labels (N,) are p(first): 1 or 0, and 0.5 for a tie. Left out is what both hold wrong with more than `level`."""
    margins = np.stack([np.asarray(m, dtype=np.float64).ravel() for m in (margin_a, margin_b)], axis=1)
    p = np.asarray(label, dtype=np.float64).ravel()
    if len(p) != len(margins) or not np.isfinite(margins).all() or ((p < 0) | (p > 1)).any():
        raise ValueError("peer review needs two finite margins and a label in [0, 1] for every pair")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    sign = np.sign(p - 0.5)
    if not (sign != 0).any():
        raise ValueError("every label is a tie: there is nothing to review")
    fits = [_fit((sign * column)[sign != 0]) for column in margins.T]
    wrong = np.stack(
        [_wrong(sign * column, *fit) for column, fit in zip(margins.T, fits, strict=True)], axis=1
    )
    wrong[sign == 0] = 0.0
    shares, temperatures = zip(*fits, strict=True)
    return Review(
        wrong,
        np.asarray((wrong <= level).any(axis=1)),
        (shares[0], shares[1]),
        (temperatures[0], temperatures[1]),
    )


def _fit(agreement: Floats) -> tuple[float, float]:
    """The share of wrong labels in [0, 1/2) and the temperature, from margins times labels."""
    spread = float(np.abs(agreement).mean()) or 1.0

    def loss(x: Floats) -> float:
        share, temperature = 0.5 * expit(x[0]), spread * np.exp(x[1])
        return -float(np.log(share + (1 - 2 * share) * expit(agreement / temperature) + 1e-300).mean())

    starts = [np.array([share, heat]) for share in (-3.0, 0.0) for heat in (-1.5, 0.0)]
    bounds = [(-7.0, 7.0), (-4.0, 4.0)]
    found = min(
        (minimize(loss, start, method="L-BFGS-B", bounds=bounds) for start in starts), key=lambda r: r.fun
    )
    return float(0.5 * expit(found.x[0])), float(spread * np.exp(found.x[1]))


def _wrong(agreement: Floats, share: float, temperature: float) -> Floats:
    right, wrong = (1 - share) * expit(agreement / temperature), share * expit(-agreement / temperature)
    return np.asarray(wrong / (right + wrong))
