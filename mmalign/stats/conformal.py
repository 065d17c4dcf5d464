"""Judging with a promise: pairs are judged only where the error among the judged stays below a chosen level.

Shape legend: `N` calibration pairs (confidence and whether the judgement was wrong), `M` new pairs.

Two promises, both in finite samples and whatever the model, if calibration pairs and new pairs are drawn independently
from one source (draw one pair a prompt: two pairs of a prompt are not independent):

- `certify`: a threshold t on the confidence. With probability at least 1 - delta over the calibration pairs,

      P(wrong | confidence > t) <= alpha.

  For a fixed t the errors among the n pairs above it are binomial, so "the error exceeds alpha" is refuted where
  P(Binomial(n, alpha) <= errors) <= delta. Theorem (Learn then Test: Angelopoulos et al. 2021, arXiv 2110.01052,
  fixed-sequence testing): going down a list of `thresholds` fixed without the calibration pairs and stopping at the
  first that is not refuted, the last refuted one keeps the promise. `thresholds_of` lists unlabelled confidences.
  Without a list the thresholds are R confidences of the calibration pairs at ranks fixed beforehand: what lies above
  the k-th highest are again independent draws, and a union bound tests each at delta / R (Geifman & El-Yaniv 2017,
  arXiv 1705.08500, Theorem 3.2). Needs no other pairs, and judges fewer.

- `select`: which of M new pairs to judge, so that the expected share of wrong ones among them is at most alpha (the
  false discovery rate). Theorem (Jin & Candes 2023, arXiv 2210.01408): the p-value of a new pair is
  (1 + number of wrong calibration pairs at least as confident) / (N + 1), and Benjamini-Hochberg at level alpha keeps
  the promise, the pairs being exchangeable. It needs no delta; `certify` gives one threshold for good.

Confidence is any number that is higher for surer judgements: `order_confidence` (both orders of a pair asked) and
`variance_confidence` (a model that reports its variance) are two.

>>> rule = certify([0.9] * 200 + [0.1] * 200, [False] * 200 + [True, False] * 100, alpha=0.1)
>>> rule.threshold, round(rule.coverage, 2)
(0.1, 0.5)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, xlogy
from scipy.stats import beta

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
NUM_RANKS = 8


@dataclass(frozen=True)
class Promise:
    """A certified threshold: judge where confidence > threshold. None where no pair can be judged with this promise."""

    threshold: float | None
    alpha: float
    delta: float
    bound: float | None  # upper bound of the error among the judged
    coverage: float  # share of the calibration pairs that are judged
    errors: int
    num_judged: int
    num_calibration: int

    def judges(self, confidence: ArrayLike) -> Mask:
        """Which pairs (M,) are judged; a confidence that is NaN is not."""
        values = np.asarray(confidence, dtype=np.float64)
        if self.threshold is None:
            return np.zeros(values.shape, dtype=bool)
        return np.asarray(values > self.threshold)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the threshold of a promise about all pairs (-infinity) is "all"."""
        plain = asdict(self)
        return plain | {"threshold": "all"} if self.threshold == -np.inf else plain


def certify(
    confidence: ArrayLike,
    wrong: ArrayLike,
    *,
    alpha: float,
    delta: float = 0.1,
    thresholds: ArrayLike | None = None,
    num_ranks: int = NUM_RANKS,
) -> Promise:
    """The lowest threshold whose error is at most alpha with probability 1 - delta; see the module.

    `thresholds` must not come from these calibration pairs; a list in any order, tried from the highest.
    """
    scores, errors = _calibration(confidence, wrong)
    _require_share("alpha", alpha)
    _require_share("delta", delta)
    if thresholds is None:
        tried = _at_ranks(scores, ranks(scores.size, alpha, delta, num_ranks))
        level = delta / len(tried)
    else:
        tried, level = sorted(np.asarray(thresholds, dtype=np.float64).ravel().tolist(), reverse=True), delta
    best = Promise(None, alpha, delta, None, 0.0, 0, 0, scores.size)
    for threshold in tried:
        above = scores > threshold
        judged, failed = int(above.sum()), int(errors[above].sum())
        if judged == 0 or bdtr(failed, judged, alpha) > level:
            if thresholds is not None:
                break
            continue
        bound = upper_bound(failed, judged, level)
        best = Promise(threshold, alpha, delta, bound, judged / scores.size, failed, judged, scores.size)
    return best


def ranks(num: int, alpha: float, delta: float, num_ranks: int = NUM_RANKS) -> list[int]:
    """Ranks that are tried, from N, alpha and delta alone: the fewest pairs that could convince, growing to all N.

    Rank k judges the k - 1 pairs above the k-th; rank N + 1 judges everything.
    """
    fewest = int(np.ceil(np.log(delta / num_ranks) / np.log1p(-alpha)))
    if fewest >= num:
        return [num + 1]
    return sorted({int(k) + 1 for k in np.geomspace(fewest, num, num_ranks).round()})


def thresholds_of(
    unlabelled: ArrayLike, num_calibration: int, *, alpha: float, delta: float = 0.1, num: int = 50
) -> list[float]:
    """`num` thresholds for `certify` from the confidence of pairs other than the calibration pairs, highest first.

    The first is expected to leave four times as many calibration pairs above it as could convince without an error (or
    half of them, if that is less): a start on few pairs is stopped by chance. The last (-infinity) judges all.
    """
    values = np.asarray(unlabelled, dtype=np.float64).ravel()
    values = values[np.isfinite(values)]
    fewest = np.log(delta) / np.log1p(-alpha)
    if values.size == 0 or 2 * fewest >= num_calibration:
        return [-np.inf]
    shares = np.linspace(min(4 * fewest / num_calibration, 0.5), 1.0, num)[:-1]
    known = np.unique(values)
    # As "above" excludes the threshold, each is the next confidence below its quantile: ties are judged together.
    below = np.searchsorted(known, np.quantile(values, 1 - shares, method="higher"), side="left") - 1
    return [*known[np.unique(below[below >= 0])][::-1].tolist(), -np.inf]


def _at_ranks(scores: Floats, chosen: list[int]) -> list[float]:
    ordered = np.sort(scores)[::-1]
    return [-np.inf if rank > scores.size else float(ordered[rank - 1]) for rank in chosen]


def upper_bound(failed: int, num: int, delta: float) -> float:
    """Clopper-Pearson: the largest error under which so few failures still have chance delta; 1 for no pairs.

    >>> round(upper_bound(0, 22, 0.1), 4)  # 1 - 0.1 ** (1 / 22)
    0.0994
    """
    return 1.0 if failed >= num else float(beta.ppf(1 - delta, failed + 1, num - failed))


def select(confidence: ArrayLike, wrong: ArrayLike, new: ArrayLike, *, alpha: float) -> Mask:
    """Which of M new pairs are judged: false discovery rate at most alpha; see the module."""
    scores, errors = _calibration(confidence, wrong)
    _require_share("alpha", alpha)
    fresh = np.asarray(new, dtype=np.float64).ravel()
    if fresh.size == 0:
        return np.zeros(0, dtype=bool)
    failed = np.sort(scores[errors])
    as_sure = failed.size - np.searchsorted(failed, fresh, side="left")
    p = np.where(np.isfinite(fresh), (1.0 + as_sure) / (scores.size + 1.0), 1.0)
    order = np.argsort(p, kind="stable")
    passing = np.flatnonzero(p[order] <= alpha * np.arange(1, fresh.size + 1) / fresh.size)
    return np.asarray(p <= p[order][passing[-1]]) if passing.size else np.zeros(fresh.size, dtype=bool)


def order_confidence(first_shown_first: ArrayLike, first_shown_second: ArrayLike) -> Floats:
    """1 - entropy in bits of p(first is better), averaged over both orders in which a judge saw the pair.

    A judge who answers by position says p and 1 - p: the mean is 1/2 and the confidence 0.

    >>> order_confidence([0.9, 0.9, 1.0], [0.9, 0.1, 1.0]).round(3).tolist()
    [0.531, 0.0, 1.0]
    """
    one, other = np.asarray(first_shown_first, np.float64), np.asarray(first_shown_second, np.float64)
    p = (one + other) / 2
    if ((p < 0) | (p > 1)).any():
        raise ValueError("probabilities must be in [0, 1]")
    return np.asarray(1.0 + (xlogy(p, p) + xlogy(1 - p, 1 - p)) / np.log(2.0))


def variance_confidence(margin: ArrayLike, variance_a: ArrayLike, variance_b: ArrayLike) -> Floats:
    """|score(a) - score(b)| / sqrt(var a + var b): how many standard deviations lie between the two."""
    gap = np.abs(np.asarray(margin, np.float64))
    spread = np.asarray(variance_a, np.float64) + np.asarray(variance_b, np.float64)
    if (spread <= 0).any():
        raise ValueError("variances must be above 0")
    return np.asarray(gap / np.sqrt(spread))


def _calibration(confidence: ArrayLike, wrong: ArrayLike) -> tuple[Floats, Mask]:
    scores, errors = np.asarray(confidence, dtype=np.float64).ravel(), np.asarray(wrong).ravel().astype(bool)
    if scores.shape != errors.shape:
        raise ValueError(f"every confidence needs a judgement, got {scores.size} and {errors.size}")
    if not np.isfinite(scores).all():
        raise ValueError("confidences must be finite: leave pairs without scores out, and count them")
    return scores, errors


def _require_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")
