"""Promises are kept: closed forms, and error among the judged pairs over many simulated repeats."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mmalign.stats.conformal import (
    certify,
    order_confidence,
    ranks,
    select,
    thresholds_of,
    upper_bound,
    variance_confidence,
)

ALPHA = 0.1


def world(num: int, rng: np.random.Generator, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Confidence in [0, 1]; a judgement is wrong with chance (1 - confidence) / 2, overall 1/4."""
    confidence = rng.random(num)
    wrong = rng.random(num) < (1 - confidence) / 2
    return (confidence.round(1) if ties else confidence), wrong


def true_error(threshold: float | None) -> float:
    """P(wrong | confidence > t) in this world: the mean of (1 - c) / 2 over c in (t, 1]."""
    return 0.0 if threshold is None else (1 - max(threshold, 0.0)) / 4


def test_the_bound_is_clopper_pearson() -> None:
    assert upper_bound(0, 50, 0.05) == pytest.approx(1 - 0.05 ** (1 / 50))
    bound = upper_bound(3, 40, 0.1)
    chance = sum(math.comb(40, k) * bound**k * (1 - bound) ** (40 - k) for k in range(4))
    assert chance == pytest.approx(0.1) and upper_bound(5, 5, 0.1) == 1.0 == upper_bound(0, 0, 0.1)


def test_ranks_need_no_labels_and_end_with_all() -> None:
    made = ranks(500, 0.1, 0.1)
    assert made[-1] == 501 and made == sorted(set(made)) and (1 - 0.1) ** (made[0] - 1) <= 0.1 / 8
    assert ranks(5, 0.1, 0.1) == [6]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("listed", [False, True])
def test_certified_error_exceeds_alpha_in_at_most_delta_of_the_repeats(ties: bool, listed: bool) -> None:
    rng, delta, repeats = np.random.default_rng(0), 0.2, 250
    broken, coverage = 0, 0.0
    for _ in range(repeats):
        confidence, wrong = world(600, rng, ties=ties)
        new = world(300, rng, ties=ties)[0]
        thresholds = thresholds_of(new, 600, alpha=ALPHA, delta=delta) if listed else None
        promise = certify(confidence, wrong, alpha=ALPHA, delta=delta, thresholds=thresholds)
        at = promise.threshold
        if ties and at is not None and np.isfinite(at):  # rounded above t: truly above the next half tenth
            at = math.floor(at * 10 + 1e-9) / 10 + 0.05
        broken += true_error(at) > ALPHA
        coverage += promise.coverage / repeats
    assert broken / repeats <= delta
    assert coverage > (0.1 if listed else 0.05)  # 0.4 is the most that anyone could judge


def test_a_threshold_taken_from_the_raw_error_breaks_the_promise() -> None:
    """What the bound is for: the lowest threshold whose observed error is below alpha fails half of the time."""
    rng, broken = np.random.default_rng(1), 0
    for _ in range(200):
        confidence, wrong = world(400, rng)
        order = np.argsort(-confidence)
        share = np.cumsum(wrong[order]) / np.arange(1, 401)
        last = int(np.flatnonzero(share <= ALPHA)[-1])
        broken += true_error(float(confidence[order][last])) > ALPHA
    assert broken / 200 > 0.4


def test_selection_controls_the_share_of_wrong_ones_on_average() -> None:
    rng, shares, judged = np.random.default_rng(2), [], []
    for _ in range(600):
        calibration, new = world(300, rng), world(50, rng)
        chosen = select(*calibration, new[0], alpha=ALPHA)
        shares.append(new[1][chosen].mean() if chosen.any() else 0.0)
        judged.append(chosen.mean())
    error = np.std(shares) / math.sqrt(len(shares))
    assert np.mean(shares) <= ALPHA + 2 * error
    assert np.mean(judged) > 0.1


def test_a_hopeless_judge_judges_nothing() -> None:
    rng = np.random.default_rng(3)
    confidence, coin = rng.random(300), rng.random(300) < 0.5
    promise = certify(confidence, coin, alpha=0.1)
    assert promise.threshold is None and promise.coverage == 0.0 and not promise.judges([1.0, 2.0]).any()
    assert select(confidence, coin, rng.random(40), alpha=0.05).mean() < 0.2


def test_a_perfect_judge_judges_everything() -> None:
    confidence, right = np.linspace(0, 1, 200), np.zeros(200, dtype=bool)
    promise = certify(confidence, right, alpha=0.05)
    assert promise.threshold == -np.inf and promise.as_dict()["threshold"] == "all"
    assert promise.judges([0.0, float("nan")]).tolist() == [True, False]
    assert select(confidence, right, [0.3, float("nan")], alpha=0.05).tolist() == [True, False]


def test_confidences() -> None:
    assert order_confidence([0.8], [0.2]).tolist() == pytest.approx([0.0])
    assert order_confidence([0.8], [0.8])[0] == pytest.approx(1 + 0.8 * math.log2(0.8) + 0.2 * math.log2(0.2))
    assert variance_confidence([-3.0], [4.0], [5.0]).tolist() == [1.0]
    with pytest.raises(ValueError, match="above 0"):
        variance_confidence([1.0], [0.0], [0.0])


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"alpha": 0.1, "delta": 1.0}])
def test_nonsense_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        certify([0.5], [False], **options)
    with pytest.raises(ValueError, match="finite"):
        certify([float("nan")], [False], alpha=0.1)
