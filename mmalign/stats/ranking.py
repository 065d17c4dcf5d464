"""Ratings from comparisons: Bradley-Terry with ties as half wins, and Davidson's model with a tie parameter.

Shape legend: `P` names, `M` distinct pairs of names, `F` parameters. Both models are one log-linear family: of a pair
the outcomes "first wins", "second wins" and "tie" have utilities

    theta_i,    theta_j,    (theta_i + theta_j) / 2 + log nu        (Davidson 1970)

and Bradley-Terry is the same without the third, a tie giving half a win to each. The likelihood is concave, so a few
Newton steps find its top. Ratings are shown on Elo's scale: 400 / ln 10 * (theta - mean theta) + 1000.

>>> ratings = fit(["a"] * 4, ["b"] * 4, [1, 1, 1, 0])
>>> round(float(ratings.elo[0] - ratings.elo[1]), 3)  # 400 log10(3)
190.849
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

Floats = NDArray[np.float64]
ELO = 400.0 / np.log(10.0)
LIMIT = 25.0
"""Ratings further apart than this, odds of e^25, are on their way to infinity."""
APART = "some names were not compared in it, directly or through others"
ONE_SIDED = "some name won, or lost, all that it was compared in"
FLAT = "the likelihood has no top that can be found"


@dataclass(frozen=True)
class Ratings:
    """Elo of every name, with intervals where asked for; `tie` is Davidson's nu (None without)."""

    names: tuple[str, ...]
    elo: Floats  # (P,)
    low: Floats
    high: Floats
    n: NDArray[np.int64]  # comparisons each name took part in
    tie: float | None = None
    tie_low: float | None = None
    tie_high: float | None = None
    num_resamples: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many further resamples had no finite answer, by reason."""

    def as_rows(self) -> list[dict[str, Any]]:
        """`{"name", "elo", "low", "high", "n"}`, best first."""
        order = np.argsort(-self.elo, kind="stable")
        return [
            {
                "name": self.names[k],
                "elo": float(self.elo[k]),
                "low": _finite(self.low[k]),
                "high": _finite(self.high[k]),
                "n": int(self.n[k]),
            }
            for k in order
        ]


@dataclass(frozen=True)
class _Table:
    """Counts of outcomes of every pair of names: first wins, second wins, tie."""

    names: tuple[str, ...]
    first: NDArray[np.intp]  # (M,)
    second: NDArray[np.intp]
    counts: Floats  # (M, 3)


def fit(
    a: Sequence[str],
    b: Sequence[str],
    outcome: Sequence[float],
    *,
    davidson: bool = False,
    num_resamples: int = 0,
    level: float = 0.95,
    seed: int = 0,
) -> Ratings:
    """Ratings from comparisons of `a` with `b`; outcome 1: a won, 0: b won, 0.5: tie.

    A name that never won or never lost has no finite rating, nor have names that were never compared, directly or
    through others: both are errors that name them. Intervals come from resampling comparisons; resamples without a
    finite answer are left out: `num_resamples` of the result counts those that entered, `left_out` says why others
    did not. Where these are the most there is no interval: it would hold only for the tables that happened to be kind.
    """
    table = _tabulate(a, b, outcome)
    _require_connected(table)
    theta, tie = _newton(table, davidson)
    draws, ties, left_out = _bootstrap(table, davidson, theta, num_resamples, seed)
    entered = len(draws)
    if 2 * entered < num_resamples:
        draws, ties = [], []
    edges = [(1 - level) / 2, (1 + level) / 2]
    nothing = np.full(len(table.names), np.nan)
    low, high = np.quantile(draws, edges, axis=0) if len(draws) else (nothing, nothing)
    tie_low, tie_high = np.quantile(ties, edges) if len(ties) and davidson else (None, None)
    totals = table.counts.sum(axis=1)
    n = np.bincount(table.first, totals, len(table.names)) + np.bincount(
        table.second, totals, len(table.names)
    )
    return Ratings(
        table.names,
        _to_elo(theta),
        low,
        high,
        n.round().astype(np.int64),
        tie if davidson else None,
        None if tie_low is None else float(tie_low),
        None if tie_high is None else float(tie_high),
        entered,
        left_out,
    )


def _tabulate(a: Sequence[str], b: Sequence[str], outcome: Sequence[float]) -> _Table:
    if not len(a) == len(b) == len(outcome) or len(a) == 0:
        raise ValueError(f"a ranking needs comparisons, each with two names and an outcome; got {len(a)}")
    names = tuple(sorted({*a, *b}))
    number = {name: k for k, name in enumerate(names)}
    counts: dict[tuple[int, int], Floats] = {}
    for one, other, result in zip(a, b, outcome, strict=True):
        if result not in (0, 0.5, 1):
            raise ValueError(f"an outcome must be 1 (a won), 0 (b won) or 0.5 (tie), got {result}")
        if one == other:
            raise ValueError(f"'{one}' is compared with itself: leave such rows out")
        i, j = number[one], number[other]
        column = 2 if result == 0.5 else int((result == 0) == (i < j))
        counts.setdefault((min(i, j), max(i, j)), np.zeros(3))[column] += 1
    pairs = np.asarray(list(counts), dtype=np.intp)
    return _Table(names, pairs[:, 0], pairs[:, 1], np.stack(list(counts.values())))


def _require_connected(table: _Table) -> None:
    wins = _win_graph(table)
    num, part = connected_components(wins + wins.T, directed=False)
    if num > 1:
        groups = [", ".join(n for n, p in zip(table.names, part, strict=True) if p == k) for k in range(num)]
        raise ValueError(f"never compared with each other: ({') ('.join(groups)}); rank each group alone")
    num, part = connected_components(wins, directed=True, connection="strong")
    if num > 1:
        sizes = np.bincount(part)
        apart = [n for n, p in zip(table.names, part, strict=True) if sizes[p] < sizes.max()] or list(
            table.names
        )
        raise ValueError(f"no finite rating: {', '.join(apart)} always won or always lost against the others")


def _win_graph(table: _Table) -> Floats:
    wins = np.zeros((len(table.names),) * 2)
    wins[table.first, table.second] += table.counts[:, 0] + table.counts[:, 2] / 2
    wins[table.second, table.first] += table.counts[:, 1] + table.counts[:, 2] / 2
    return wins


def _newton(
    table: _Table,
    davidson: bool,
    *,
    start: Floats | None = None,
    num_steps: int = 100,
    tolerance: float = 1e-10,
) -> tuple[Floats, float]:
    """The maximum of the likelihood: theta with mean zero, and nu (0 without Davidson)."""
    if davidson and table.counts[:, 2].sum() == 0:
        return _newton(table, False)
    features, counts = _design(table, davidson)
    x = np.zeros(features.shape[-1])
    if start is not None:
        x[: len(table.names)] = start
    pull = np.zeros((x.size, x.size))
    pull[: len(table.names), : len(table.names)] = 1.0  # fixes the free constant: the mean of theta stays 0
    value = _likelihood(x, features, counts)
    for _ in range(num_steps):
        gradient, curvature = _slopes(x, features, counts)
        try:
            step = np.linalg.solve(curvature + pull, gradient)
        except np.linalg.LinAlgError as problem:
            raise ValueError("no finite rating: some name (almost) always won or lost") from problem
        scale = 1.0
        while _likelihood(x + scale * step, features, counts) < value and scale > 1e-8:
            scale /= 2
        x = x + scale * step
        value = _likelihood(x, features, counts)
        if np.abs(step).max() < tolerance:
            break
    theta = x[: len(table.names)]
    if np.ptp(theta) > LIMIT:
        raise ValueError("no finite rating: some name (almost) always won or lost")
    return theta - theta.mean(), float(np.exp(x[-1])) if davidson else 0.0


def _design(table: _Table, davidson: bool) -> tuple[Floats, Floats]:
    """Features (M, outcomes, F) and counts (M, outcomes)."""
    num, size = len(table.first), len(table.names)
    features = np.zeros((num, 3, size + 1))
    rows = np.arange(num)
    features[rows, 0, table.first] = features[rows, 1, table.second] = 1.0
    features[rows, 2, table.first] = features[rows, 2, table.second] = 0.5
    features[:, 2, size] = 1.0
    if davidson:
        return features, table.counts
    return features[:, :2, :size], table.counts[:, :2] + table.counts[:, 2:] / 2


def _probabilities(x: Floats, features: Floats) -> Floats:
    utility = features @ x
    weight = np.exp(utility - utility.max(axis=1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def _likelihood(x: Floats, features: Floats, counts: Floats) -> float:
    utility = features @ x
    top = utility.max(axis=1, keepdims=True)
    logs = utility - top - np.log(np.exp(utility - top).sum(axis=1, keepdims=True))
    return float((counts * logs).sum())


def _slopes(x: Floats, features: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Gradient and negative Hessian of the likelihood: observed minus expected features, and their covariance."""
    probability, totals = _probabilities(x, features), counts.sum(axis=1)
    expected = np.einsum("mo,mof->mf", probability, features)
    gradient = np.einsum("mo,mof->f", counts, features) - totals @ expected
    centered = features - expected[:, None]
    weighted = (totals[:, None] * probability)[..., None] * centered
    curvature = np.einsum("mof,mog->fg", weighted, centered, optimize=True)
    return gradient, np.asarray(curvature)


def _bootstrap(
    table: _Table, davidson: bool, start: Floats, num_resamples: int, seed: int
) -> tuple[list[Floats], list[float], dict[str, int]]:
    """Elo and nu of resampled comparisons; how many had no finite answer, and so do not enter, by reason."""
    left_out: Counter[str] = Counter()
    rng = np.random.default_rng(seed)
    flat = table.counts.ravel()
    draws, ties = [], []
    for _ in range(num_resamples):
        counts = rng.multinomial(int(flat.sum()), flat / flat.sum()).reshape(-1, 3).astype(np.float64)
        resample = _Table(table.names, table.first, table.second, counts)
        wins = _win_graph(resample)
        if connected_components(wins, directed=True, connection="strong")[0] > 1:
            together = connected_components(wins + wins.T, directed=False)[0] == 1
            left_out[ONE_SIDED if together else APART] += 1
            continue
        try:
            theta, tie = _newton(resample, davidson, start=start, tolerance=1e-5)
        except ValueError:  # this resample has no finite answer
            left_out[FLAT] += 1
            continue
        draws.append(_to_elo(theta))
        ties.append(tie)
    return draws, ties, dict(left_out)


def _to_elo(theta: Floats) -> Floats:
    return np.asarray(ELO * (theta - theta.mean()) + 1000.0)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
