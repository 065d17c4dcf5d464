"""Agreement: hand-counted accuracies, the epsilon sweep against enumeration, correlations against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mmalign.stats import agreement

DIFFERENCE = [2.0, -1.0, 0.0, 0.3, -0.2, 0.1]
LABEL = [1, 1, -1, -1, 0, 0]


def test_strict_by_hand() -> None:
    # untied pairs: +2 right, -1 wrong, 0 undecided, +.3 wrong
    result = agreement.strict(DIFFERENCE, LABEL)
    assert (result.accuracy, result.n, result.ties_labelled) == (0.25, 4, 2)
    assert agreement.strict(DIFFERENCE, LABEL, equal_scores="half").accuracy == 0.375


def test_with_ties_by_hand() -> None:
    # epsilon .2: ties predicted for 0, -.2 and .1, of which two are ties; +2 is right
    result = agreement.with_ties(DIFFERENCE, LABEL, epsilon=0.2)
    assert result.accuracy == pytest.approx(3 / 6)
    assert (result.ties_predicted, result.ties_matched, result.ties_labelled) == (3, 2, 2)
    assert agreement.with_ties(DIFFERENCE, LABEL, epsilon=-1).accuracy == pytest.approx(1 / 6)


def test_swapping_a_and_b_changes_nothing() -> None:
    turned = [-d for d in DIFFERENCE], [-label for label in LABEL]
    assert agreement.strict(*turned) == agreement.strict(DIFFERENCE, LABEL)
    assert agreement.published(*turned) == agreement.published(DIFFERENCE, LABEL)


@pytest.mark.parametrize("discrete", [True, False])
def test_best_epsilon_against_enumeration(discrete: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        label = rng.integers(-1, 2, 30)
        delta = label + rng.normal(0, 1.0, 30)
        delta = np.round(delta) if discrete else delta
        candidates = [-1.0, *np.unique(np.abs(delta))]
        best = max(agreement.with_ties(delta, label, epsilon=e).accuracy for e in candidates)
        assert agreement.published(delta, label).accuracy == pytest.approx(best)


def test_cross_validation_never_flatters_on_average() -> None:
    rng = np.random.default_rng(1)
    fitted, honest = [], []
    for seed in range(20):
        label = rng.integers(-1, 2, 60)
        delta = rng.normal(size=60)  # knows nothing
        fitted.append(agreement.published(delta, label).accuracy)
        honest.append(agreement.cross_validated(delta, label, list(range(60)), seed=seed).accuracy)
    assert np.mean(honest) < np.mean(fitted)
    assert abs(np.mean(honest) - 1 / 3) < 0.05


def test_cross_validation_keeps_groups_together() -> None:
    with pytest.raises(ValueError, match="at least 2 groups"):
        agreement.cross_validated(DIFFERENCE, LABEL, ["same"] * 6)
    result = agreement.cross_validated(DIFFERENCE, LABEL, ["a", "a", "b", "b", "c", "c"])
    assert (result.n, result.protocol) == (6, "ties, epsilon by 3-fold cross-validation")


def test_kendall_tau_b_by_hand() -> None:
    # x: 1 2 2 3, y: 1 2 3 3: four concordant pairs, none discordant, one tie in x, one in y, 6 pairs
    assert agreement.kendall([1, 2, 2, 3], [1, 2, 3, 3]) == pytest.approx(4 / math.sqrt(5 * 5))


@pytest.mark.parametrize("levels", [3, 11, 100_000])
def test_correlations_agree_with_scipy(levels: int) -> None:
    rng = np.random.default_rng(levels)
    x = rng.integers(0, levels, 300).astype(float)
    y = np.round(x / 2 + rng.integers(0, levels, 300))
    assert agreement.kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
    assert agreement.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert agreement.pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)


def test_spearman_is_pearson_of_average_ranks() -> None:
    x, y = [10.0, 20.0, 20.0, 50.0], [1.0, 3.0, 2.0, 4.0]
    assert agreement.spearman(x, y) == pytest.approx(agreement.pearson([1, 2.5, 2.5, 4], [1, 3, 2, 4]))
    assert agreement.spearman(x, [-v for v in y]) == pytest.approx(-agreement.spearman(x, y))


def test_a_constant_has_no_correlation() -> None:
    for measure in agreement.CORRELATIONS.values():
        assert math.isnan(measure([1, 1, 1], [1, 2, 3]))
        assert math.isnan(measure([1], [2]))


def test_fisher_mean() -> None:
    assert agreement.fisher_mean([0.9, 0.1]) == pytest.approx(
        math.tanh((math.atanh(0.9) + math.atanh(0.1)) / 2)
    )
    assert agreement.fisher_mean([0.9, 0.1]) > 0.5  # the plain mean is not it
    assert agreement.fisher_mean([0.3, float("nan")]) == pytest.approx(0.3)
    assert math.isfinite(agreement.fisher_mean([1.0, 0.0]))
    assert math.isnan(agreement.fisher_mean([float("nan")]))


def test_win_rate() -> None:
    wins = agreement.win_rate([0, 1, 2, float("nan")], [1, 1, 1, 1])
    np.testing.assert_array_equal(wins, [1.0, 0.5, 0.0, np.nan])
    np.testing.assert_array_equal(agreement.win_rate([0, 1], [0.05, 2], epsilon=0.1), [0.5, 1.0])


def test_bad_pairs_are_told() -> None:
    with pytest.raises(ValueError, match="finite"):
        agreement.strict([float("nan")], [1])
    with pytest.raises(ValueError, match="labels"):
        agreement.strict([1.0], [2])
    with pytest.raises(ValueError, match="needs a label"):
        agreement.strict([1.0, 2.0], [1])
