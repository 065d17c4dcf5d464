"""Four-way accuracy: a hand-made case, brute force over both thresholds, and folds that fit nothing on themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mmalign.stats import agreement, four_way

HAND = (
    [3.0, -2.0, 0.1, 0.2, 1.0],
    [0.0, 0.0, 2.0, -2.0, 0.0],
    [1, -1, 0, 0, -1],
    [False, False, True, False, False],
)


def brute(difference: np.ndarray, level: np.ndarray, label: np.ndarray, good: np.ndarray) -> int:
    """The most that any two thresholds get right, one pair after another."""
    best = 0
    for epsilon, bound in itertools.product([-1.0, *np.abs(difference)], [*level, np.inf]):
        right = 0
        for d, m, y, g in zip(difference, level, label, good, strict=True):
            said = ("tie", m >= bound) if abs(d) <= epsilon else ("order", np.sign(d))
            right += said == (("tie", g) if y == 0 else ("order", y))
        best = max(best, right)
    return best


def test_by_hand() -> None:
    found = four_way.published(*HAND)
    assert found.correct == 4 and found.accuracy == 0.8  # the last pair is in the wrong order
    assert found.epsilon == 0.2 and -2.0 < found.good_from <= 2.0
    assert (found.good_ties, found.bad_ties) == (1, 1)


@pytest.mark.parametrize("seed", range(8))
def test_the_sweep_finds_what_brute_force_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num = 24
    difference, level = rng.integers(-3, 4, num) / 2, rng.integers(-2, 3, num) / 2  # many equal values
    label, good = rng.integers(-1, 2, num), rng.random(num) < 0.5
    found = four_way.published(difference, level, label, good)
    assert found.correct == brute(difference, level, label, good)
    counted = four_way._right(four_way._pairs(difference, level, label, good), found.epsilon, found.good_from)
    assert int(counted.sum()) == found.correct, "the thresholds give the accuracy they are told with"


def test_without_ties_it_is_the_strict_accuracy_and_bad_ties_need_a_low_level() -> None:
    rng = np.random.default_rng(0)
    difference, label = rng.normal(size=50), rng.choice([-1, 1], 50)
    found = four_way.published(difference, np.zeros(50), label, np.zeros(50, dtype=bool))
    assert found.accuracy == agreement.strict(difference, label).accuracy
    low, high = np.full(4, -1.0), np.full(4, 1.0)
    ties = (np.zeros(8), np.concatenate([low, high]), np.zeros(8, dtype=int))
    good = np.array([False] * 4 + [True] * 4)
    assert four_way.published(*ties, good).accuracy == 1.0
    assert four_way.published(*ties, ~good).accuracy == 0.5, (
        "levels the wrong way round are no better than one kind"
    )


def test_cross_validation_is_chance_where_there_is_nothing_to_learn() -> None:
    rng = np.random.default_rng(1)
    num = 600
    difference, level = rng.normal(size=num), rng.normal(size=num)
    answer = rng.integers(0, 4, num)
    label = np.choose(answer, [1, -1, 0, 0])
    groups = [str(k // 3) for k in range(num)]
    fitted = four_way.published(difference, level, label, answer == 2)
    honest = four_way.cross_validated(difference, level, label, answer == 2, groups)
    assert honest.accuracy < fitted.accuracy and abs(honest.accuracy - 0.25) < 0.06
    assert honest.n == num and "5-fold" in honest.protocol


def test_bad_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        four_way.published([1.0], [1.0, 2.0], [1], [False])
    with pytest.raises(ValueError, match="finite"):
        four_way.published([float("nan")], [1.0], [1], [False])
