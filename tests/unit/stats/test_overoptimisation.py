"""Best of n against enumeration, its divergence against simulation, laws recovered, a fall that is seen."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from mmalign.stats.overoptimisation import (
    best_of_n,
    curve,
    ensemble,
    fit,
    kl_best_of_n,
    kl_of_path,
)


def enumerated(proxy: list[float], value: list[float], n: int) -> float:
    """The mean over all subsets of size n of the value of the best; equal bests share."""
    found = []
    for chosen in combinations(range(len(proxy)), n):
        best = max(proxy[i] for i in chosen)
        found.append(np.mean([value[i] for i in chosen if proxy[i] == best]))
    return float(np.mean(found))


@pytest.mark.parametrize("n", range(1, 8))
def test_best_of_n_is_the_mean_over_all_subsets(n):
    rng = np.random.default_rng(n)
    proxy, value = rng.normal(size=7).tolist(), rng.normal(size=7).tolist()
    assert best_of_n(proxy, value, n) == pytest.approx(enumerated(proxy, value, n))


def test_ends_of_best_of_n():
    proxy, value = [3.0, 1.0, 2.0], [10.0, 20.0, 30.0]
    assert best_of_n(proxy, value, 1) == pytest.approx(20.0)
    assert best_of_n(proxy, value, 3) == pytest.approx(10.0)
    assert best_of_n([1.0] * 3, value, 2) == pytest.approx(20.0)  # a constant proxy chooses at random
    assert best_of_n(list(range(2000)), list(range(2000)), 1000) == pytest.approx(
        1000 / 1001 * 2001 - 1
    )  # the expected maximum of 1000 of 2000 without replacement


def test_equal_proxies_share_as_a_random_choice_would():
    proxy, value = [1.0, 2.0, 2.0, 2.0, 3.0], [0.0, 6.0, 3.0, 0.0, 1.0]
    ways = [enumerated([p + e for p, e in zip(proxy, turn, strict=True)], value, 2)
            for turn in ((0, a, b, c, 0) for a, b, c in
                         [(0, .1, .2), (0, .2, .1), (.1, 0, .2), (.1, .2, 0), (.2, 0, .1), (.2, .1, 0)])]  # fmt: skip
    assert best_of_n(proxy, value, 2) == pytest.approx(np.mean(ways))


def test_divergence_of_best_of_n_is_that_of_the_maximum_of_uniforms():
    """The best of n has density n u^(n-1) on ranks u: KL = integral of n u^(n-1) log(n u^(n-1))."""
    u = (np.arange(200_000) + 0.5) / 200_000
    for n in (1, 2, 5, 32):
        density = n * u ** (n - 1)
        assert kl_best_of_n(n) == pytest.approx(float(np.mean(density * np.log(density))), abs=1e-4)


def test_divergence_of_a_path_by_hand():
    means, reference = np.zeros((2, 2, 3)), np.zeros((2, 2, 3))
    means[1, 0] = 2.0  # |difference|^2 = 12 at the first step
    assert kl_of_path(means, reference, [0.5, 1.0]).tolist() == [0.0, 12 / (2 * 0.25)]


def test_laws_are_recovered():
    d = np.linspace(0.3, 2.5, 8)
    quadratic = fit(d, d * (1.2 - 0.4 * d), "best of n")
    assert (quadratic.a, quadratic.b, quadratic.rms) == pytest.approx((1.2, 0.4, 0.0), abs=1e-9)
    assert quadratic.peak == pytest.approx(1.5)
    logarithmic = fit(d, d * (0.8 - 0.5 * np.log(d)), "rl")
    assert (logarithmic.a, logarithmic.b) == pytest.approx((0.8, 0.5))
    assert logarithmic.peak == pytest.approx(math.exp(0.8 / 0.5 - 1))
    assert quadratic(0.0) == 0.0 and fit(d, d * (1 + 0.1 * d), "best of n").peak is None


def test_ensembles_by_hand():
    scores = [[0.0, 4.0], [2.0, 2.0]]
    assert ensemble(scores, "mean").tolist() == [1.0, 3.0]
    assert ensemble(scores, "min").tolist() == [0.0, 2.0]
    assert ensemble(scores, "uwo", weight=2.0).tolist() == [-1.0, 1.0]
    with pytest.raises(ValueError, match="mean, min or uwo"):
        ensemble(scores, "max")  # type: ignore[arg-type]


def test_a_good_proxy_gains_a_hacked_one_falls_and_a_blind_one_does_neither():
    rng = np.random.default_rng(0)
    gold = [rng.normal(size=64) for _ in range(24)]
    honest = curve([g + 0.3 * rng.normal(size=64) for g in gold], gold)
    assert honest.points[0].n == 1 and honest.points[-1].n == 64 and honest.top == 64
    assert honest.points[-1].gain.low > 1.5 and honest.fall.mean == 0.0
    hacked = curve([g + 6 * (g < -1.5) for g in gold], gold)  # the worst look best
    assert 1 < hacked.top < 64 and hacked.fall.high < 0
    assert [p.proxy.mean for p in hacked.points] == sorted(p.proxy.mean for p in hacked.points)
    blind = curve([rng.normal(size=64) for _ in gold], gold)
    assert blind.points[-1].gain.low < 0 < blind.points[-1].gain.high


def test_n_goes_to_the_smallest_number_of_samples():
    made = curve([[1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0]], [[1.0] * 5, [1.0] * 2])
    assert [p.n for p in made.points] == [1, 2] and made.fits == ()
    with pytest.raises(ValueError, match="2 or more samples"):
        curve([[1.0]], [[1.0]])
