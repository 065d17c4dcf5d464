"""Rewards of whole sets of samples, on features: Frechet distance, Vendi score, closeness to exemplars.

Shape legend: `N` samples of the set, `M` of the reference, `F` features; features are (N, F).

- `frechet`: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) between Gaussians fitted to two sets: FID, FAD and their kin
  (Heusel et al. 2017, arXiv 1706.08500), lower is closer.
- `vendi`: the effective number of different samples, exp of the entropy of the eigenvalues of the cosine kernel / N
  (Friedman & Dieng 2023, arXiv 2210.02410): 1 for copies, N for orthogonal features.
- `nearest`, `kernel`, `mahalanobis`: how close one sample is to an exemplar set, higher is closer.

DRAGON (arXiv 2504.15217) rewards samples by such measures; `leave_one_out` gives each sample of a set its own part:
what the set would lose without it.

>>> round(vendi(np.eye(4)), 6), round(vendi(np.ones((4, 3))), 6)
(4.0, 1.0)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Gaussian:
    """Mean (F,) and covariance (F, F) of a set."""

    mean: Floats
    covariance: Floats

    @classmethod
    def of(cls, features: ArrayLike) -> Gaussian:
        """Fitted to (N, F), N of 2 or more; the covariance is divided by N - 1."""
        rows = matrix(features)
        if len(rows) < 2:
            raise ValueError(f"a Gaussian needs two or more samples, got {len(rows)}")
        return cls(rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False)))


def frechet(a: Gaussian, b: Gaussian) -> float:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians; 0 where they are equal.

    >>> a = Gaussian(np.zeros(2), np.eye(2))
    >>> frechet(a, Gaussian(np.array([3.0, 4.0]), 4 * np.eye(2)))  # 25 + 2 (1 - 2)^2
    27.0
    """
    _same_width(a.mean, b.mean)
    root = _root(a.covariance)
    cross = np.linalg.eigvalsh(root @ b.covariance @ root).clip(min=0.0)
    traces = float(np.trace(a.covariance) + np.trace(b.covariance))
    return float(np.square(a.mean - b.mean).sum()) + traces - 2.0 * float(np.sqrt(cross).sum())


def frechet_to(features: ArrayLike, reference: Gaussian) -> float:
    """`frechet` of a set (N, F) to a reference; with fewer samples than features in N x N arithmetic."""
    rows = matrix(features)
    _same_width(rows[0] if len(rows) else np.zeros(0), reference.mean)
    if len(rows) >= rows.shape[1]:
        return frechet(Gaussian.of(rows), reference)
    if len(rows) < 2:
        raise ValueError(f"a Frechet distance needs two or more samples, got {len(rows)}")
    centred = (rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1)
    cross = np.linalg.eigvalsh(centred @ reference.covariance @ centred.T).clip(min=0.0)
    traces = float(np.square(centred).sum() + np.trace(reference.covariance))
    gap = float(np.square(rows.mean(axis=0) - reference.mean).sum())
    return gap + traces - 2.0 * float(np.sqrt(cross).sum())


def vendi(features: ArrayLike, *, order: float = 1.0) -> float:
    """Vendi score of (N, F), from 1 to N; another `order` weighs rare (below 1) or common (above 1) kinds more."""
    rows = unit(features)
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    share = np.linalg.eigvalsh(gram / len(rows))
    share = share[share > 1e-12]
    if order == 1.0:
        return float(np.exp(-(share * np.log(share)).sum()))
    return float(np.power(np.power(share, order).sum(), 1.0 / (1.0 - order)))


def nearest(features: ArrayLike, exemplars: ArrayLike, *, num: int = 5) -> Floats:
    """Mean cosine (N,) to the `num` most similar exemplars (M, F)."""
    similar = unit(features) @ unit(exemplars).T
    num = min(num, similar.shape[1])
    return np.asarray(np.sort(similar, axis=1)[:, -num:].mean(axis=1))


def kernel(features: ArrayLike, exemplars: ArrayLike, *, width: float | None = None) -> Floats:
    """Mean Gaussian kernel (N,) to the exemplars; width is the median distance between exemplars unless given."""
    rows, known = matrix(features), matrix(exemplars)
    _same_width(rows[0] if len(rows) else known[0], known[0])
    if width is None:
        apart = _squares(known, known)[np.triu_indices(len(known), 1)]
        width = float(np.sqrt(np.median(apart))) if apart.size and np.median(apart) > 0 else 1.0
    return np.asarray(np.exp(-_squares(rows, known) / (2 * width**2)).mean(axis=1))


def mahalanobis(features: ArrayLike, reference: Gaussian, *, shrink: float = 0.1) -> Floats:
    """Minus the squared Mahalanobis distance (N,) / F to a reference; `shrink` mixes in its mean variance."""
    gap = matrix(features) - reference.mean
    width = len(reference.mean)
    level = max(float(np.trace(reference.covariance)) / width, 1e-12)
    mixed = (1 - shrink) * reference.covariance + shrink * level * np.eye(width)
    return np.asarray(-(gap * np.linalg.solve(mixed, gap.T).T).sum(axis=1) / width)


def leave_one_out(measure: Callable[[Floats], float], features: ArrayLike) -> Floats:
    """measure(all) - measure(all but i) for every sample (N,): what the set would lose without it."""
    rows = matrix(features)
    whole = measure(rows)
    return np.asarray([whole - measure(np.delete(rows, i, axis=0)) for i in range(len(rows))])


def matrix(features: ArrayLike) -> Floats:
    """Features as finite float64 (N, F); ValueError otherwise."""
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(f"features must be finite numbers (N, F), got shape {rows.shape}")
    return rows


def unit(features: ArrayLike) -> Floats:
    """Rows divided by their length; a row of zeros has no direction and is an error."""
    rows = matrix(features)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    if (length == 0).any() or not len(rows):
        raise ValueError("a cosine needs features that are not all zero, of one or more samples")
    return np.asarray(rows / length)


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(values.clip(min=0.0))) @ vectors.T)


def _squares(a: Floats, b: Floats) -> Floats:
    made = np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None] - 2 * a @ b.T
    return np.asarray(made.clip(min=0.0))


def _same_width(a: Floats, b: Floats) -> None:
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"the sets have {a.shape[-1]} and {b.shape[-1]} features: use one encoder for both")
