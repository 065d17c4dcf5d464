"""Partial rank correlation: hand-made columns in which overall, within and given the truth disagree."""

from __future__ import annotations

import numpy as np
import pytest

from mmalign.stats.agreement import spearman
from mmalign.stats.partial import overall, within

GROUPS = [k // 8 for k in range(160)]


def columns(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per row: a level of its prompt, noise, other noise."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.normal(0, 3, 20), 8), rng.normal(size=160), rng.normal(size=160)


def test_overall_is_spearmans_correlation():
    level, x, y = columns(3)
    assert overall(level + x, np.round(level + y)).mean == pytest.approx(
        spearman(level + x, np.round(level + y))
    )


def test_a_monotone_function_correlates_with_one():
    level, x, _ = columns()
    assert overall(level + x, np.exp(level + x)).mean == pytest.approx(1.0)
    assert within(level + x, np.exp(level + x), GROUPS).mean == pytest.approx(1.0)
    assert within(level + x, -(level + x), GROUPS).mean == pytest.approx(-1.0)


def test_what_only_prompts_share_vanishes_within_them():
    level, x, y = columns()
    assert overall(level + x, level + y, GROUPS).low > 0.5
    found = within(level + x, level + y, GROUPS)
    assert found.low < 0 < found.high and found.n == 160


def test_what_the_truth_explains_vanishes_given_it():
    _, x, y = columns()
    truth = x
    reward, factor = truth + 0.2 * y, truth + 0.2 * np.random.default_rng(5).normal(size=160)
    assert within(reward, factor, GROUPS).low > 0.8
    assert abs(within(reward, factor, GROUPS, given=[truth]).mean) < 0.2
    assert abs(overall(reward, factor, GROUPS, given=[truth]).mean) < 0.2
    assert overall(truth + 0.5 * y, y, given=[truth]).mean > 0.8
    assert within(truth + 0.5 * y, y, GROUPS, given=[truth]).mean > 0.8  # what it does not explain stays


def test_nothing_varies_or_nobody_repeats():
    _, x, _ = columns()
    assert np.isnan(within(x, np.ones(160), GROUPS).mean)
    alone = within(x, x, list(range(160)))
    assert np.isnan(alone.mean) and alone.n == 0


def test_rows_without_a_number_are_left_out():
    _, x, _ = columns()
    holed = x.copy()
    holed[::2] = np.nan
    assert overall(holed, x).n == 80 and within(holed, x, GROUPS).n == 80
    with pytest.raises(ValueError, match="one length"):
        overall(x, x[:5])
