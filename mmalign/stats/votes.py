"""Noisy votes: how far each annotator can be trusted, and what a pair's true label then is.

Shape legend: `V` votes, `N` pairs, `A` annotators, `K` labels (0 first is better, 1 second, 2 tie), `F` features.

- `dawid_skene`: each annotator has a confusion matrix (A, K, K); EM gives them and the posterior (N, K) of every
  pair's label (Dawid & Skene 1979, Applied Statistics 28(1)).
- `crowd_bradley_terry`: pairs have features x = x(first) - x(second), P(first) = S(w x), and annotator a tells his view
  with chance eta_a and its opposite otherwise (Chen et al. 2013, Crowd-BT). eta 1 is faithful, 1/2 a coin (an annotator
  who is careless in a share c of the votes has eta = 1 - c/2), below 1/2 turned round. EM again: the posterior that a
  vote is faithful weighs it in the next fit.

Without names of annotators: `mmalign.stats.soft_labels`; by two models that look at the labels: `mmalign.stats.peers`.

All are deterministic. An annotator with few votes is drawn to the mean of all by a prior of a few imagined votes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit, logsumexp

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Votes:
    """V votes: which of N pairs, by which of A annotators, with which label."""

    pair: Index  # (V,) in [0, N)
    annotator: Index  # (V,) in [0, A)
    label: Index  # (V,) in {0, 1, 2}
    pairs: tuple[Hashable, ...]  # the N names
    annotators: tuple[Hashable, ...]  # the A names

    @classmethod
    def of(cls, rows: Sequence[tuple[Hashable, Hashable, int]]) -> Votes:
        """From rows (pair, annotator, label); names are numbered as they come."""
        if not rows:
            raise ValueError("there are no votes")
        if any(label not in (0, 1, 2) for _, _, label in rows):
            raise ValueError("a vote is 0 (first is better), 1 (second is better) or 2 (tie)")
        pairs, annotators = _numbered([row[0] for row in rows]), _numbered([row[1] for row in rows])
        return cls(
            np.asarray([pairs[row[0]] for row in rows], dtype=np.intp),
            np.asarray([annotators[row[1]] for row in rows], dtype=np.intp),
            np.asarray([row[2] for row in rows], dtype=np.intp),
            tuple(pairs),
            tuple(annotators),
        )

    def counts(self) -> Floats:
        """Votes for each label of each pair (N, 3)."""
        made = np.zeros((len(self.pairs), 3))
        np.add.at(made, (self.pair, self.label), 1.0)
        return made


@dataclass(frozen=True)
class DawidSkene:
    """What the votes say once annotators are weighed."""

    posterior: Floats  # (N, K)
    confusion: Floats  # (A, K, K): true label by row, vote by column
    prior: Floats  # (K,) how common each label is
    num_votes: NDArray[np.int64]  # (A,)
    log_likelihood: tuple[float, ...]  # penalised, of every step: never falls

    @property
    def reliability(self) -> Floats:
        """The chance (A,) that an annotator's vote is the true label."""
        return np.asarray(np.einsum("k,akk->a", self.prior, self.confusion))

    @property
    def p(self) -> Floats:
        """The chance (N,) that the first is better; a tie counts half."""
        return np.asarray(self.posterior[:, 0] + 0.5 * self.posterior[:, 2])


def dawid_skene(
    votes: Votes,
    *,
    symmetric: bool = True,
    strength: float = 2.0,
    num_steps: int = 200,
    tolerance: float = 1e-8,
) -> DawidSkene:
    """Confusion matrices and true labels by EM from majority votes.

    `symmetric` makes first and second exchangeable (shown in random order, nobody favours a side), which halves what
    is to be learned; set it to False to find annotators who always say "first". `strength` imagined votes, spread as
    the mean annotator of the majority votes, stand before each annotator's own.
    """
    num_annotators, seen = len(votes.annotators), np.unique(votes.label)
    majority = votes.counts() + 1e-3 * np.isin(np.arange(3), seen)
    posterior = majority / majority.sum(axis=1, keepdims=True)
    imagined = strength * _rows(_tally(votes, posterior, num_annotators).sum(axis=0), symmetric)
    trace: list[float] = []
    while True:
        tally = _tally(votes, posterior, num_annotators)
        if symmetric:
            tally = (tally + _swapped(tally)) / 2
        confusion = (tally + imagined) / (tally + imagined).sum(axis=2, keepdims=True).clip(1e-12)
        prior = (posterior.sum(axis=0) + 1e-6) / (posterior.sum() + 3e-6)
        prior = (prior + prior[[1, 0, 2]]) / 2 if symmetric else prior
        posterior, value = _expected(votes, confusion, prior)
        value += float((imagined * np.log(confusion.clip(1e-12))).sum())
        done = bool(trace) and value - trace[-1] < tolerance * max(1.0, abs(value))
        trace.append(value)
        if done or len(trace) == num_steps:
            break
    number = np.bincount(votes.annotator, minlength=num_annotators)
    return DawidSkene(posterior, confusion, prior, number.astype(np.int64), tuple(trace))


def _tally(votes: Votes, posterior: Floats, num_annotators: int) -> Floats:
    """Expected counts (A, K, K) of true label and vote."""
    made = np.zeros((num_annotators, 3, 3))
    np.add.at(made.transpose(0, 2, 1), (votes.annotator, votes.label), posterior[votes.pair])
    return made


def _swapped(tally: Floats) -> Floats:
    """The same with first and second exchanged."""
    return np.asarray(tally[..., [1, 0, 2], :][..., [1, 0, 2]])


def _rows(tally: Floats, symmetric: bool) -> Floats:
    """A mean confusion matrix (K, K); rows nobody fills are faithful."""
    mean = (tally + _swapped(tally)) / 2 if symmetric else tally
    mean = mean + 1e-6 * np.eye(3)
    return np.asarray(mean / mean.sum(axis=1, keepdims=True))


def _expected(votes: Votes, confusion: Floats, prior: Floats) -> tuple[Floats, float]:
    """Posterior of the labels (N, K) and the log-likelihood of the votes."""
    logs = np.tile(np.log(prior.clip(1e-12)), (len(votes.pairs), 1))
    np.add.at(logs, votes.pair, np.log(confusion.clip(1e-12))[votes.annotator, :, votes.label])
    total = logsumexp(logs, axis=1, keepdims=True)
    return np.exp(logs - total), float(total.sum())


@dataclass(frozen=True)
class CrowdBradleyTerry:
    """Weights of features and the faithfulness of annotators; `attention` is 2 eta - 1, the share of careful votes."""

    weights: Floats  # (F,)
    faithful: Floats  # (A,) eta
    vote_is_faithful: Floats  # (V,)
    log_likelihood: tuple[float, ...]

    @property
    def attention(self) -> Floats:
        """1 careful, 0 a coin, below 0 turned round (A,)."""
        return np.asarray(2 * self.faithful - 1)

    def margin(self, difference: ArrayLike) -> Floats:
        """w (x(first) - x(second)) of pairs (N, F): above 0 the first is better."""
        return np.asarray(np.asarray(difference, dtype=np.float64) @ self.weights)


def bradley_terry(
    difference: ArrayLike, label: ArrayLike, *, weight: ArrayLike | None = None, ridge: float = 1e-2
) -> Floats:
    """Weights (F,) of P(first) = S(w x) for differences (V, F), p(first) (V,) in [0, 1] and weights (V,); by Newton."""
    x, p = np.asarray(difference, dtype=np.float64), np.asarray(label, dtype=np.float64)
    if x.ndim != 2 or p.shape != (len(x),) or not np.isfinite(x).all():
        raise ValueError(f"features must be finite (V, F) with V labels, got {x.shape} and {p.shape}")
    share = np.ones(len(x)) if weight is None else np.asarray(weight, dtype=np.float64)
    return _logistic(x, share * p, share * (1 - p), np.zeros(x.shape[1]), ridge)


def _logistic(x: Floats, first: Floats, second: Floats, start: Floats, ridge: float) -> Floats:
    """argmax of sum first log S(w x) + second log S(-w x) - ridge/2 |w|^2, by damped Newton steps."""

    def value(w: Floats) -> float:
        margin = x @ w
        return float(first @ log_expit(margin) + second @ log_expit(-margin) - ridge / 2 * w @ w)

    w, best = start, value(start)
    for _ in range(100):
        chance = expit(x @ w)
        slope = x.T @ (first * (1 - chance) - second * chance) - ridge * w
        bend = (x * ((first + second) * chance * (1 - chance))[:, None]).T @ x + ridge * np.eye(x.shape[1])
        step, scale = np.linalg.solve(bend, slope), 1.0
        while value(w + scale * step) < best and scale > 1e-8:
            scale /= 2
        w = w + scale * step
        best = value(w)
        if np.abs(scale * step).max() < 1e-9:
            break
    return w


def crowd_bradley_terry(
    difference: ArrayLike,
    label: ArrayLike,
    annotator: ArrayLike,
    *,
    ridge: float = 1e-2,
    prior: tuple[float, float] = (4.0, 1.0),
    num_steps: int = 200,
    tolerance: float = 1e-8,
) -> CrowdBradleyTerry:
    """EM from the plain fit, for differences (V, F), votes (V,) 1 / 0 / 0.5 (tie) and annotators (V,) in [0, A).

    `prior` are the two counts of a Beta on eta. It must favour faithful annotators: turning all of them and the weights
    round explains votes as well. A tie is half a vote for each side.
    """
    x, y = np.asarray(difference, dtype=np.float64), np.asarray(label, dtype=np.float64)
    who = np.asarray(annotator, dtype=np.intp)
    if not np.isin(y, (0.0, 0.5, 1.0)).all() or who.shape != y.shape or len(x) != len(y) or not len(y):
        raise ValueError(
            "votes must be 1 (first), 0 (second) or 0.5 (tie), each with features and an annotator"
        )
    if not prior[0] > prior[1] >= 1:
        raise ValueError(
            f"the prior must favour faithful annotators: first count above the second, got {prior}"
        )
    num = int(who.max()) + 1
    w = bradley_terry(x, y, ridge=ridge)
    eta = np.full(num, prior[0] / sum(prior))
    trace: list[float] = []
    while True:
        margin = x @ w
        said_first = _faithful(margin, eta[who])  # posterior that a vote for the first is the voter's view
        said_second = _faithful(-margin, eta[who])
        first = y * said_first + (1 - y) * (1 - said_second)
        told = y * said_first + (1 - y) * said_second
        w = _logistic(x, first, 1 - first, w, ridge)
        counts = np.bincount(who, minlength=num)
        eta = (np.bincount(who, told, num) + prior[0] - 1) / (counts + sum(prior) - 2)
        value = _crowd_likelihood(x @ w, y, eta[who]) - ridge / 2 * float(w @ w)
        value += float(
            ((prior[0] - 1) * np.log(eta) + (prior[1] - 1) * np.log1p(-eta.clip(max=1 - 1e-12))).sum()
        )
        done = bool(trace) and value - trace[-1] < tolerance * max(1.0, abs(value))
        trace.append(value)
        if done or len(trace) == num_steps:
            return CrowdBradleyTerry(w, eta, told, tuple(trace))


def _faithful(margin: Floats, eta: Floats) -> Floats:
    right, wrong = eta * expit(margin), (1 - eta) * expit(-margin)
    return np.asarray(right / (right + wrong))


def _crowd_likelihood(margin: Floats, y: Floats, eta: Floats) -> float:
    first = eta * expit(margin) + (1 - eta) * expit(-margin)
    second = eta * expit(-margin) + (1 - eta) * expit(margin)
    return float((y * np.log(first) + (1 - y) * np.log(second)).sum())


def _numbered(names: Sequence[Key]) -> dict[Key, int]:
    numbers: dict[Key, int] = {}
    for name in names:
        numbers.setdefault(name, len(numbers))
    return numbers
