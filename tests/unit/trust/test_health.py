"""Batch health and stability: constant, almost constant, saturated, flat, noisy and batch-dependent rewards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from mmalign.types import Sample, Scores
from rewardmodels.trust import findings
from rewardmodels.trust.factors import FACTORS
from rewardmodels.trust.health import Health, health, stability
from tests.unit.trust.made import ask_of, photos


def words(found: Health) -> dict[str, str]:
    return {one.name: f"{one.grade}: {one.word}" for one in findings.of_health(found)}


def test_spread_by_hand():
    found = health(np.array([0.0, 2.0, 5.0, 5.0, np.nan]), ["p", "p", "q", "q", "q"])
    assert (found.num, found.num_invalid, found.num_groups) == (5, 1, 2)
    assert found.within_std == pytest.approx(0.5)  # median of 1 and 0
    assert found.flat_share == 0.5 and found.num_distinct == 3
    assert (found.top_share, found.bottom_share) == (0.5, 0.25)
    assert found.invalid_rate == pytest.approx(0.2)


def test_a_constant_reward_is_called_constant():
    found = words(health(np.full(20, 47.3), ["p", "q"] * 10, spoiled=[47.3] * 5))
    assert found["variation"] == "bad: constant" and "saturation" not in found


def test_almost_the_same_whatever_it_is_shown_is_the_trap():
    rng = np.random.default_rng(0)
    scores = 47.3 + 0.02 * rng.normal(size=40)
    near = health(scores, ["p", "q"] * 20, spoiled=list(47.3 + 0.02 * rng.normal(size=40)))
    assert words(near)["variation"] == "bad: almost constant, whatever it is shown"
    seen = health(scores, ["p", "q"] * 20, spoiled=[12.0] * 40)  # a blank picture moves it: it does see
    assert words(seen)["variation"] == "good: varies"


def test_saturation_flat_prompts_and_invalid_samples():
    binary = health(np.array([1.0] * 8 + [0.0] * 2), ["p", "q"] * 5)
    assert words(binary)["saturation"] == "bad: saturated"
    assert words(health(np.array([1.0, 2.0, 3.0]), ["p"] * 3))["saturation"] == "good: not saturated"
    level = np.repeat(np.arange(10.0), 2)
    flat = health(level, [str(int(v)) for v in level])
    assert words(flat)["spread within prompts"] == "bad: no signal within prompts"
    holed = health(np.array([1.0, 2.0, np.nan, np.nan]), ["p"] * 4)
    assert words(holed)["invalid"] == "bad: some were not judged"
    assert words(health(np.full(3, np.nan), ["p"] * 3))["variation"] == "bad: judges none of these samples"


def brightness(sample: Sample) -> float:
    return float(sample.frames().mean())


def told(ask, spread: float = 0.05) -> dict[str, str]:
    samples, _ = photos(6, 2)
    return {row.name: findings.of_stability(row).grade for row in stability(ask, samples, spread)}


def test_a_function_of_pixels_is_the_same_every_way():
    assert set(told(ask_of(brightness)).values()) == {"good"}


def test_noise_between_passes_is_seen():
    rng = np.random.default_rng(0)
    found = told(ask_of(lambda sample: brightness(sample) + 0.05 * rng.normal()))
    assert found["repeated passes"] == found["order"] == "bad"


def test_dependence_on_the_batch_and_on_the_place_in_it_are_told_apart():
    def normalised(samples: Sequence[Sample]) -> Scores:
        values = torch.tensor([brightness(sample) for sample in samples])
        return Scores.of((values - values.mean())[:, None], ("r",))

    found = told(normalised)
    assert (found["batch size"], found["order"], found["repeated passes"]) == ("bad", "good", "good")

    def placed(samples: Sequence[Sample]) -> Scores:
        values = [brightness(sample) + 0.1 * place for place, sample in enumerate(samples)]
        return Scores.of(torch.tensor(values)[:, None], ("r",))

    assert told(placed)["order"] == "bad"


def test_a_reward_of_file_size_depends_on_resolution():
    size = next(factor for factor in FACTORS if factor.name == "JPEG size")
    found = told(ask_of(lambda sample: size.measure(sample, sample.frames())))
    assert found["half resolution"] == found["double resolution"] == "fair"


def test_changes_are_measured_in_the_spread():
    samples, _ = photos(4, 2)
    drift = iter([0.0, 0.5, 0.5, 0.0] + [0.0] * 20)

    def ask(some: Sequence[Sample]) -> Scores:
        offset = next(drift)
        return Scores.of(torch.tensor([[brightness(s) + offset] for s in some]), ("r",))

    again = stability(ask, samples, 0.25)[0]
    assert again.name == "repeated passes"
    assert (again.mean, again.largest) == (pytest.approx(2.0, rel=1e-5), pytest.approx(2.0, rel=1e-5))
