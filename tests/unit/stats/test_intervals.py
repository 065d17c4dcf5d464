"""Intervals: closed forms, coverage, and what clusters and pairing must do to them."""

from __future__ import annotations

import numpy as np
import pytest

from mmalign.stats import intervals


def test_wilson_agrees_with_the_closed_form() -> None:
    # 8 of 10 at 95%: the textbook interval
    interval = intervals.wilson(8, 10)
    assert (interval.mean, interval.n) == (0.8, 10)
    np.testing.assert_allclose([interval.low, interval.high], [0.490162, 0.943318], atol=1e-6)


def test_wilson_stays_in_bounds_at_the_ends_and_mirrors() -> None:
    none, every = intervals.wilson(0, 20), intervals.wilson(20, 20)
    assert none.low == 0.0
    assert every.high == 1.0
    assert none.high == pytest.approx(1 - every.low)
    assert none.high > 0.1
    assert intervals.wilson(0, 0).n == 0
    with pytest.raises(ValueError, match="not a share"):
        intervals.wilson(3, 2)


def test_bootstrap_matches_the_normal_interval_of_a_large_sample() -> None:
    values = np.random.default_rng(1).normal(2.0, 3.0, 2000)
    interval = intervals.mean(values)
    half = 1.96 * values.std() / np.sqrt(values.size)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.08)


def test_repeating_every_prompt_does_not_make_the_interval_shorter() -> None:
    values = np.random.default_rng(2).normal(size=60)
    once = intervals.mean(values)
    repeated, prompts = np.repeat(values, 8), np.repeat(np.arange(60), 8)
    naive = intervals.mean(repeated)
    clustered = intervals.mean(repeated, [str(p) for p in prompts])
    width = once.high - once.low
    assert clustered.high - clustered.low == pytest.approx(width, rel=0.1)
    assert naive.high - naive.low < 0.6 * width
    assert clustered.n == 480


def test_coverage_of_the_clustered_interval() -> None:
    rng, hits = np.random.default_rng(3), 0
    for trial in range(200):
        effect = rng.normal(size=25)
        values = (effect[:, None] + 0.3 * rng.normal(size=(25, 4))).ravel()
        interval = intervals.mean(values, np.repeat(np.arange(25), 4).tolist(), num_resamples=300, seed=trial)
        hits += interval.low <= 0.0 <= interval.high
    assert 0.87 <= hits / 200 <= 0.99


def test_pairing_removes_what_prompts_have_in_common() -> None:
    rng = np.random.default_rng(4)
    base = rng.normal(0, 5, 100)
    after = base + 0.5 + 0.1 * rng.normal(size=100)
    gain = intervals.paired(base, after)
    assert gain.low > 0.4
    assert gain.high < 0.6
    loss = intervals.paired(after, base)
    assert loss.mean == pytest.approx(-gain.mean)
    assert intervals.mean(base).overlaps(intervals.mean(after))


def test_unknown_values_are_left_out_and_counted_so() -> None:
    interval = intervals.mean([1.0, float("nan"), 3.0], ["a", "b", "c"])
    assert (interval.mean, interval.n) == (2.0, 2)
    nothing = intervals.mean([float("nan")])
    assert nothing.n == 0
    assert nothing.as_dict() == {"mean": None, "low": None, "high": None, "n": 0}


def test_same_seed_same_interval_and_constant_values_have_no_width() -> None:
    values = np.arange(10.0)
    assert intervals.mean(values) == intervals.mean(values)
    constant = intervals.mean([0.5] * 9)
    assert constant.low == constant.high == 0.5


def test_one_cluster_has_no_interval() -> None:
    for clusters, values in ((None, [0.3]), (["p"] * 5, [1.0, 2.0, 3.0, 4.0, 5.0])):
        alone = intervals.mean(values, clusters)
        assert alone.mean == np.mean(values)
        assert alone.as_dict()["low"] is None
        general = intervals.statistic(lambda rows: float(np.mean(rows)), len(values), clusters)
        assert np.isnan(general.low)


def test_statistic_of_a_mean_agrees_with_mean() -> None:
    values = np.random.default_rng(5).normal(size=80)
    clusters = [k // 4 for k in range(80)]
    general = intervals.statistic(lambda rows: float(values[rows].mean()), 80, clusters, num_resamples=2000)
    direct = intervals.mean(values, clusters)
    assert general.mean == pytest.approx(direct.mean)
    np.testing.assert_allclose([general.low, general.high], [direct.low, direct.high], atol=0.03)


def test_mismatched_lengths_are_told() -> None:
    with pytest.raises(ValueError, match="match one to one"):
        intervals.paired([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="clusters"):
        intervals.mean([1.0, 2.0], ["a"])


def test_strata_take_out_what_differs_between_them():
    # two kinds of prompt, one always right and one never: .5 in every resample of a fixed mix
    values, prompts = [1.0] * 20 + [0.0] * 20, list(range(40))
    kinds = ["easy"] * 20 + ["hard"] * 20
    fixed = intervals.mean(values, prompts, strata=kinds)
    assert (fixed.low, fixed.mean, fixed.high) == (0.5, 0.5, 0.5)
    assert intervals.mean(values, prompts).high > 0.6


def test_strata_weigh_as_observed_and_resample_whole_prompts():
    """Closed form: the variance of a stratified mean is sum w^2 s^2 / n over the strata."""
    rng = np.random.default_rng(0)
    small, large = rng.normal(0, 1, 100), rng.normal(5, 2, 300)
    found = intervals.mean([*small, *large], strata=["s"] * 100 + ["l"] * 300, num_resamples=4000)
    expected = np.sqrt(0.25**2 * small.var() / 100 + 0.75**2 * large.var() / 300)
    assert found.high - found.low == pytest.approx(2 * 1.96 * expected, rel=0.06)
    doubled = intervals.mean(
        np.repeat(values := [0.0, 1.0, 1.0, 0.0], 2), np.repeat(np.arange(4), 2), strata=list("aaaabbbb")
    )
    assert doubled.mean == 0.5
    assert (doubled.low, doubled.high) == (
        intervals.mean(values, strata=list("aabb")).low,
        intervals.mean(values, strata=list("aabb")).high,
    )


def test_lonely_strata_are_put_together_and_split_prompts_refused():
    apart = intervals.mean([0.0, 1.0], strata=["a", "b"])
    assert apart.low < 0.5 < apart.high
    with pytest.raises(ValueError, match="lies in two strata"):
        intervals.mean([0.0, 1.0, 1.0], ["p", "p", "q"], strata=["a", "b", "b"])
