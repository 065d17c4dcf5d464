"""Rankings: two names have closed forms, scores of three agree with MM, simulated strengths are recovered."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from mmalign.stats import ranking


def _rows(counts: dict[tuple[str, str, float], int]) -> tuple[list[str], list[str], list[float]]:
    a, b, outcome = [], [], []
    for (first, second, result), num in counts.items():
        a += [first] * num
        b += [second] * num
        outcome += [result] * num
    return a, b, outcome


def _mm(a: Sequence[str], b: Sequence[str], outcome: Sequence[float], names: Sequence[str]) -> np.ndarray:
    """Hunter's minorise-maximise iteration, the plain textbook way."""
    strength = dict.fromkeys(names, 1.0)
    for _ in range(5000):
        wins, weight = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        for one, other, result in zip(a, b, outcome, strict=True):
            wins[one] += result
            wins[other] += 1 - result
            share = 1 / (strength[one] + strength[other])
            weight[one] += share
            weight[other] += share
        strength = {n: wins[n] / weight[n] for n in names}
        total = math.exp(np.mean([math.log(s) for s in strength.values()]))
        strength = {n: s / total for n, s in strength.items()}
    return np.asarray([400 * math.log10(strength[n]) + 1000 for n in names])


def test_two_names_have_the_odds_of_their_wins() -> None:
    ratings = ranking.fit(*_rows({("x", "y", 1): 6, ("x", "y", 0): 2, ("y", "x", 0.5): 4}))
    # 8 of 12 wins with ties as halves
    assert ratings.elo[0] - ratings.elo[1] == pytest.approx(400 * math.log10(8 / 4))
    assert ratings.elo.mean() == pytest.approx(1000)
    assert ratings.n.tolist() == [12, 12]


def test_davidson_of_two_names_in_closed_form() -> None:
    # saturated: shares w : l : t, theta difference log(w/l), nu = t / sqrt(w l)
    ratings = ranking.fit(*_rows({("x", "y", 1): 6, ("x", "y", 0): 2, ("x", "y", 0.5): 4}), davidson=True)
    assert ratings.elo[0] - ratings.elo[1] == pytest.approx(400 * math.log10(6 / 2))
    assert ratings.tie == pytest.approx(4 / math.sqrt(12))


def test_agrees_with_the_mm_iteration() -> None:
    rng = np.random.default_rng(0)
    names = ["p", "q", "r", "s"]
    chosen = [rng.choice(4, 2, replace=False) for _ in range(120)]
    a, b = [names[i] for i, _ in chosen], [names[j] for _, j in chosen]
    outcome = rng.choice([0, 0.5, 1], 120, p=[0.3, 0.2, 0.5]).tolist()
    np.testing.assert_allclose(ranking.fit(a, b, outcome).elo, _mm(a, b, outcome, names), atol=1e-6)


@pytest.mark.parametrize("davidson", [False, True])
def test_order_of_names_and_of_a_and_b_changes_nothing(davidson: bool) -> None:
    a, b, outcome = _rows(
        {("x", "y", 1): 5, ("y", "x", 1): 2, ("y", "z", 1): 4, ("z", "x", 1): 1, ("z", "y", 0.5): 3}
    )
    straight = ranking.fit(a, b, outcome, davidson=davidson)
    turned = ranking.fit(b[::-1], a[::-1], [1 - o for o in outcome[::-1]], davidson=davidson)
    np.testing.assert_allclose(straight.elo, turned.elo, atol=1e-6)
    assert straight.as_rows()[0]["name"] == "x"


def test_strengths_and_tie_parameter_are_recovered() -> None:
    rng = np.random.default_rng(1)
    theta, nu = np.array([0.0, 0.5, 1.2]), 0.8
    a, b, outcome = [], [], []
    for i, j in [(0, 1), (1, 2), (0, 2)]:
        weights = np.array([np.exp(theta[i]), np.exp(theta[j]), nu * np.exp((theta[i] + theta[j]) / 2)])
        drawn = rng.choice([1.0, 0.0, 0.5], 6000, p=weights / weights.sum())
        a, b, outcome = a + ["abc"[i]] * 6000, b + ["abc"[j]] * 6000, outcome + drawn.tolist()
    ratings = ranking.fit(a, b, outcome, davidson=True)
    np.testing.assert_allclose(np.diff(ratings.elo) / ranking.ELO, np.diff(theta), atol=0.06)
    assert ratings.tie == pytest.approx(nu, abs=0.04)


def test_intervals_hold_the_estimate_and_shrink_with_more_comparisons() -> None:
    few = _rows({("x", "y", 1): 12, ("x", "y", 0): 8, ("y", "z", 1): 9, ("y", "z", 0): 7, ("x", "z", 0.5): 5})
    many = tuple(column * 10 for column in few)
    small, large = ranking.fit(*few, num_resamples=200), ranking.fit(*many, num_resamples=200)
    assert np.all((small.low <= small.elo) & (small.elo <= small.high))
    assert np.all(large.high - large.low < 0.5 * (small.high - small.low))
    assert small.num_resamples > 150


def test_without_ties_davidson_is_bradley_terry() -> None:
    rows = _rows({("x", "y", 1): 5, ("x", "y", 0): 3})
    both = ranking.fit(*rows), ranking.fit(*rows, davidson=True)
    np.testing.assert_allclose(both[0].elo, both[1].elo)
    assert both[1].tie == 0.0


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({("x", "y", 1): 3}, "no finite rating"),
        ({("x", "y", 1): 2, ("x", "y", 0): 1, ("p", "q", 0.5): 2}, "never compared"),
        ({("x", "x", 1): 1}, "with itself"),
        ({("x", "y", 0.3): 1}, "outcome must be"),
    ],
)
def test_what_has_no_answer_is_told(rows: dict[tuple[str, str, float], int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ranking.fit(*_rows(rows))
