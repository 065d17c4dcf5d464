"""Judging with a promise, for `evaluate reward --conformal ALPHA`: which pairs a reward may judge, and how it went.

Pairs of one prompt are not independent, so one pair a prompt, drawn by a seed, stands for it. Half of the prompts
calibrate (`mmalign.stats.conformal.certify`, thresholds from the other half's confidence without its labels), the other
half is judged and counted. Confidence is 1 - entropy of the answers in both orders of a judge of pairs, the score
difference in standard deviations of a reward that reports a variance, and otherwise the plain difference; what is
promised holds for any, how much is judged depends on it.

Shape legend: `N` untied pairs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.stats import conformal, intervals

FEWEST = 20
"""Prompts below which nothing is worth splitting."""


def promise(
    difference: Sequence[float],
    label: Sequence[int],
    groups: Sequence[Hashable],
    variance: Sequence[float | None],
    *,
    alpha: float,
    delta: float,
    orders: Sequence[tuple[float, float]] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """The certified threshold, and coverage and error on the prompts that did not calibrate it.

    Of fewer than `FEWEST` prompts there is only the `reason` why nothing is promised.
    """
    rows = one_a_group(label, groups, seed)
    if len(rows) < FEWEST:
        reason = f"it needs untied pairs of {FEWEST} or more prompts, got {len(rows)}"
        return {"threshold": None, "alpha": alpha, "delta": delta, "num_prompts": len(rows), "reason": reason}
    gap, truth = np.asarray(difference)[rows], np.asarray(label)[rows]
    known = [variance[row] for row in rows.tolist()]
    wrong = np.sign(gap) != truth
    both = np.asarray(orders, dtype=np.float64)[rows] if len(orders) else None
    confidence, kind = confidence_of(gap, known, both)
    half = len(rows) // 2
    thresholds = conformal.thresholds_of(confidence[half:], half, alpha=alpha, delta=delta)
    rule = conformal.certify(confidence[:half], wrong[:half], alpha=alpha, delta=delta, thresholds=thresholds)
    judged = rule.judges(confidence[half:])
    failed, num = int(wrong[half:][judged].sum()), int(judged.sum())
    return {
        **rule.as_dict(),
        "confidence": kind,
        "new_pairs": len(rows) - half,
        "new_judged": num,
        "new_coverage": num / (len(rows) - half),
        "new_error": intervals.wilson(failed, num).as_dict(),
        "error_of_all": intervals.wilson(int(wrong[half:].sum()), len(rows) - half).as_dict(),
    }


def one_a_group(label: Sequence[int], groups: Sequence[Hashable], seed: int) -> NDArray[np.intp]:
    """One untied pair of each group, in random order."""
    rng = np.random.default_rng(seed)
    decided = rng.permutation(np.flatnonzero(np.asarray(label) != 0))
    first: dict[Hashable, int] = {}
    for row in decided.tolist():
        first.setdefault(groups[row], row)
    return rng.permutation(np.asarray(list(first.values()), dtype=np.intp))


def confidence_of(
    gap: NDArray[np.float64],
    variance: Sequence[float | None],
    orders: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], str]:
    """How sure each pair is, and on which ground; `orders` (N, 2) are p(a is better) in both orders."""
    if orders is not None:
        return conformal.order_confidence(orders[:, 0], orders[:, 1]), "1 - entropy over both orders"
    if any(value is None for value in variance):
        return np.abs(gap), "score difference"
    spread = np.asarray(variance, dtype=np.float64)
    return conformal.variance_confidence(gap, spread, np.zeros_like(spread)), "score difference / deviation"


def tell(found: dict[str, Any]) -> str:
    """One line for people."""
    if "reason" in found:
        return f"--conformal {found['alpha']:g} promises nothing: {found['reason']}"
    if found["threshold"] is None:
        return (
            f"no pair can be judged with an error of at most {found['alpha']:.0%} (certainty "
            f"{1 - found['delta']:.0%}): more calibration prompts, a better reward or a larger alpha is needed"
        )
    error = found["new_error"]["mean"]
    return (
        f"judging where {found['confidence']} > {found['threshold']}: {found['new_coverage']:.0%} of new pairs, "
        f"error {'-' if error is None else f'{error:.1%}'}; promised {found['alpha']:.0%}, certainty "
        f"{1 - found['delta']:.0%}"
    )
