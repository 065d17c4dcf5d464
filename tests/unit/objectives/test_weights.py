"""SFT, best-of-n and reward-weighted regression."""

from __future__ import annotations

import math

import pytest
import torch

from mmalign.objectives.rwr import reward_weights, rwr
from mmalign.objectives.sft import best_of_group, denoising_error, sft

NAN = math.nan


def test_error_is_a_mean_over_dimensions_in_float32() -> None:
    error = denoising_error(prediction=torch.ones(2, 3, 2).bfloat16(), target=torch.zeros(2, 3, 2))
    assert error.tolist() == [1.0, 1.0] and error.dtype == torch.float32


def test_weights_scale_and_nan_weights_exclude() -> None:
    error = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    loss = sft(error=error, weight=torch.tensor([2.0, 0.0, NAN]))
    assert loss.per_sample.tolist() == [2.0, 0.0, 0.0]
    loss.per_sample.sum().backward()
    assert error.grad is not None and error.grad.tolist() == [2.0, 0.0, 0.0]
    assert sft(error=error).per_sample.tolist() == [1.0, 2.0, 3.0]
    assert sft(error=error, where=torch.tensor([True, False, True])).per_sample.tolist() == [1.0, 0.0, 3.0]


def test_best_of_group_keeps_ties_and_drops_the_unjudged() -> None:
    rewards = torch.tensor([1.0, 3.0, 3.0, NAN, -2.0, NAN])
    groups = torch.tensor([5, 5, 5, 5, 1, 9])
    assert best_of_group(rewards, groups).tolist() == [0, 1, 1, 0, 1, 0]


def test_softmax_weights_by_hand() -> None:
    rewards = torch.tensor([0.0, math.log(3.0), 5.0, 5.0])
    weights = reward_weights(rewards, torch.tensor([0, 0, 1, 1]))
    assert weights.tolist() == pytest.approx([0.5, 1.5, 1.0, 1.0])
    softer = reward_weights(rewards, torch.tensor([0, 0, 1, 1]), temperature=1e6)
    assert softer.tolist() == pytest.approx([1.0] * 4, abs=1e-5)


@pytest.mark.parametrize("kind", ["exp", "softmax", "raw"])
def test_weights_have_mean_one_over_the_judged_and_do_not_overflow(kind: str) -> None:
    rewards = torch.tensor([1000.0, 2000.0, NAN, 1500.0])
    weights = reward_weights(rewards, torch.tensor([0, 0, 0, 1]), kind=kind, temperature=100.0)  # type: ignore[arg-type]
    assert weights.isfinite().all() and weights[2] == 0
    assert weights[[0, 1, 3]].mean().item() == pytest.approx(1.0)
    assert weights[1] > weights[0]


def test_exp_weights_do_not_depend_on_the_rewards_offset() -> None:
    rewards = torch.tensor([0.0, 1.0, 2.0])
    torch.testing.assert_close(reward_weights(rewards, kind="exp"), reward_weights(rewards - 7, kind="exp"))


def test_cap_keeps_mean_and_order() -> None:
    rewards = torch.tensor([0.0, 1.0, 2.0, 9.0])
    weights = reward_weights(rewards, kind="exp", cap=2.0)
    assert weights.max().item() == pytest.approx(2.0) and weights.mean().item() == pytest.approx(1.0)
    assert weights.tolist() == sorted(weights.tolist())


def test_nothing_judged_weighs_nothing() -> None:
    assert reward_weights(torch.full((2,), NAN), torch.zeros(2)).tolist() == [0, 0]
    assert reward_weights(torch.tensor([-1.0, -2.0]), kind="raw").tolist() == [1, 1]


def test_rwr_is_the_weighted_error() -> None:
    loss = rwr(error=torch.tensor([1.0, 2.0]), weight=torch.tensor([0.5, 1.5]))
    assert loss.per_sample.tolist() == [0.5, 3.0]


def test_mistakes_name_the_mend() -> None:
    rewards = torch.tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="temperature"):
        reward_weights(rewards, temperature=0.0)
    with pytest.raises(ValueError, match="pass groups"):
        reward_weights(rewards)
    with pytest.raises(ValueError, match="above 1"):
        reward_weights(rewards, kind="exp", cap=0.5)
