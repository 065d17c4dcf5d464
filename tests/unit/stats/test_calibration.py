"""Calibration: numbers by hand, temperatures that are recovered, and what a wrong sign would break."""

from __future__ import annotations

import numpy as np
import pytest

from mmalign.stats import calibration
from mmalign.stats.calibration import (
    auroc,
    bins,
    brier,
    cross_fitted,
    ece,
    fit_temperature,
    fold,
    measure,
    nll,
    probabilities,
    selective,
)


def answers(num: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Differences, labels drawn from sigmoid(difference / T), and prompts of eight pairs each."""
    rng = np.random.default_rng(seed)
    difference = rng.normal(0, 2, num)
    chance = (rng.random(num) < 1 / (1 + np.exp(-difference / temperature))).astype(float)
    return difference, chance, [k // 8 for k in range(num)]


def test_folding_names_the_winner_and_equal_scores_name_nobody():
    sure, right = fold([0.9, 0.2, 0.5], [1.0, 1.0, 1.0])
    assert sure == pytest.approx([0.9, 0.8, 0.5])
    assert right.tolist() == [1.0, 0.0, 0.5]


def test_ece_brier_and_nll_by_hand():
    p, said = [0.9, 0.9, 0.6, 0.3], [1.0, 0.0, 1.0, 0.5]
    sure, right = fold(p, said)  # confidences .9 .9 .6 .7, credits 1 0 1 .5
    table = bins(sure, right, num_bins=5)  # [.5,.6) [.6,.7) [.7,.8) [.8,.9) [.9,1]
    assert [(b.n, b.credit) for b in table] == [(1, 1.0), (1, 0.5), (2, 0.5)]
    assert ece(table) == pytest.approx((1 * 0.4 + 1 * 0.2 + 2 * 0.4) / 4)
    assert brier(p, said) == pytest.approx((0.01 + 0.81 + 0.16 + 0.04) / 4)
    parts = [np.log(0.9), np.log(0.1), np.log(0.6), 0.5 * np.log(0.3) + 0.5 * np.log(0.7)]
    assert nll(p, said) == pytest.approx(-np.mean(parts))


def test_swapping_the_two_of_every_pair_changes_nothing():
    difference, chance, groups = answers(80, 1.5)
    assert fit_temperature(difference, chance) == pytest.approx(fit_temperature(-difference, 1 - chance))
    there = measure(probabilities(difference, 1.5), chance, groups)
    back = measure(probabilities(-difference, 1.5), 1 - chance, groups)
    assert (there.ece, there.brier, there.nll) == pytest.approx((back.ece, back.brier, back.nll))


def test_equal_mass_bins_hold_equally_many_but_never_split_equals():
    sure = np.linspace(0.5, 1, 30)
    assert [b.n for b in bins(sure, sure, num_bins=3, kind="mass")] == [10, 10, 10]
    same = np.array([0.6] * 20 + [0.9] * 10)
    assert [b.n for b in bins(same, same, num_bins=3, kind="mass")] == [20, 10]


def test_the_temperature_of_the_law_is_found_and_is_calibrated():
    difference, chance, groups = answers(4000, 1.5)
    assert fit_temperature(difference, chance) == pytest.approx(1.5, rel=0.06)
    p, temperatures = cross_fitted(difference, chance, groups)
    assert temperatures == pytest.approx([1.5, 1.5], rel=0.1)
    good = measure(p, chance, groups, temperatures=temperatures)
    assert good.ece < good.ece_by_chance
    sharp = measure(probabilities(difference, 0.3), chance, groups)  # far too sure
    assert sharp.ece > 3 * sharp.ece_by_chance
    assert sharp.confidence > sharp.accuracy.mean + 0.1
    assert sharp.nll > good.nll
    assert sharp.accuracy.mean == good.accuracy.mean  # temperature turns no pair round


def test_a_temperature_is_fitted_on_other_prompts_than_it_judges():
    """One half of the prompts answers opposite to the other: each half is judged by the other's odds."""
    difference = np.tile([2.0, -2.0], 20)
    groups = [k // 2 for k in range(40)]
    member = np.random.default_rng(0).permutation(20) % 2
    flip = np.array([member[g] for g in groups])
    chance = np.where(flip == 0, difference > 0, difference < 0).astype(float)
    p, temperatures = cross_fitted(difference, chance, groups)
    assert min(temperatures) < 0.1
    assert max(temperatures) > 500  # the opposite half makes the scores say nothing
    assert p[(flip == 0)].std() < 0.01  # judged with the temperature of the half that says nothing


def test_scores_of_any_scale_have_their_temperature():
    difference, chance, _ = answers(2000, 1.0)
    for scale in (1e-4, 1.0, 1e4):
        assert fit_temperature(difference * scale, chance) == pytest.approx(
            scale * fit_temperature(difference, chance), rel=1e-3
        )


def test_equal_scores_have_no_temperature():
    with pytest.raises(ValueError, match="all scores are equal"):
        fit_temperature([0.0, 0.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="at least 2 prompts"):
        cross_fitted([1.0, 2.0], [1.0, 0.0], ["p", "p"])


def test_selective_accuracy_and_auroc():
    assert selective([1.0, 3.0, 2.0], [0.0, 1.0, 1.0]) == (
        (pytest.approx(1 / 3), 1.0),
        (pytest.approx(2 / 3), 1.0),
        (1.0, pytest.approx(2 / 3)),
    )
    assert auroc([3.0, 2.0, 1.0], [1.0, 1.0, 0.0]) == 1.0
    assert auroc([1.0, 2.0, 3.0], [1.0, 1.0, 0.0]) == 0.0
    assert auroc([2.0, 2.0], [1.0, 0.0]) == 0.5
    assert auroc([4.0, 3.0, 2.0, 1.0], [1.0, 0.0, 1.0, 0.5]) == 0.5  # the tie says nothing
    assert np.isnan(auroc([1.0, 2.0], [1.0, 1.0]))


def test_chance_ece_shrinks_with_more_pairs():
    few, many = (calibration.chance_ece(np.full(num, 0.75)) for num in (100, 10_000))
    assert few > 5 * many > 0


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: probabilities([1.0], 0.0), "above 0"),
        (lambda: fold([0.5], [1.5]), "from 0 to 1"),
        (lambda: fold([float("nan")], [1.0]), "finite"),
        (lambda: fold([0.5, 0.5], [1.0]), "needs a label"),
    ],
)
def test_mistakes(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
