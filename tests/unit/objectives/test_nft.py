"""DiffusionNFT: the golden loss, the paper's form, and the direction of its gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmalign.objectives.nft import behavior_decay, nft, optimality

CLEAN, NOISE, LEVEL = torch.tensor([[0.5, -0.5]]), torch.tensor([[0.1, 0.2]]), 0.4
NOISY = (1 - LEVEL) * CLEAN + LEVEL * NOISE
POLICY, BEHAVIOR, TARGET = torch.tensor([[-0.35, 0.6]]), torch.tensor([[-0.3, 0.5]]), NOISE - CLEAN


def clean_of(velocity: Tensor) -> Tensor:
    return NOISY - LEVEL * velocity


def test_golden_loss() -> None:
    share = optimality(torch.tensor([2.0]))
    assert share.item() == pytest.approx(0.7)
    loss = nft(
        prediction_clean=clean_of(POLICY),
        behavior_clean=clean_of(BEHAVIOR),
        clean=CLEAN,
        optimality=share,
        beta=0.5,
    )
    assert loss.metrics["positive"].item() == pytest.approx(0.05, abs=1e-6)
    assert loss.metrics["negative"].item() == pytest.approx(0.0833333333, abs=1e-6)
    assert loss.per_sample.item() == pytest.approx(0.6, abs=1e-5)


def test_paper_form_in_velocities() -> None:
    beta, share = 0.5, 0.7
    plus, minus = beta * POLICY + (1 - beta) * BEHAVIOR, (1 + beta) * BEHAVIOR - beta * POLICY
    expected = share * (plus - TARGET).square().mean() + (1 - share) * (minus - TARGET).square().mean()
    loss = nft(
        prediction_clean=POLICY,
        behavior_clean=BEHAVIOR,
        clean=TARGET,
        optimality=torch.tensor([share]),
        beta=beta,
        scale=beta,
        self_normalize=False,
    )
    torch.testing.assert_close(loss.per_sample[0], expected)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_gradient_at_the_behaviour_policy_follows_the_reward(share: float) -> None:
    velocity = BEHAVIOR.clone().requires_grad_()
    loss = nft(
        prediction_clean=clean_of(velocity),
        behavior_clean=clean_of(BEHAVIOR),
        clean=CLEAN,
        optimality=torch.tensor([share]),
        self_normalize=False,
    )
    (grad,) = torch.autograd.grad(loss.per_sample.sum(), velocity)
    expected = (2 * share - 1) * (BEHAVIOR - TARGET) * LEVEL**2 * 5 * 2 / 2
    torch.testing.assert_close(grad, expected)


def test_value_at_the_behaviour_policy_does_not_depend_on_the_reward() -> None:
    values = [
        nft(
            prediction_clean=clean_of(BEHAVIOR),
            behavior_clean=clean_of(BEHAVIOR),
            clean=CLEAN,
            optimality=torch.tensor([share]),
        ).per_sample.item()
        for share in (0.0, 0.5, 1.0)
    ]
    assert values[0] == pytest.approx(values[1]) == pytest.approx(values[2])


def test_a_perfect_prediction_stays_finite() -> None:
    velocity = TARGET.clone().requires_grad_()
    loss = nft(
        prediction_clean=clean_of(velocity), behavior_clean=CLEAN, clean=CLEAN, optimality=torch.tensor([1.0])
    )
    loss.per_sample.sum().backward()
    assert loss.per_sample.isfinite().all() and velocity.grad is not None and velocity.grad.isfinite().all()


def test_kl_is_added_and_unjudged_samples_are_excluded() -> None:
    two = [x.repeat(2, 1) for x in (clean_of(POLICY), clean_of(BEHAVIOR), CLEAN)]
    share = torch.tensor([0.7, math.nan])
    options = {"prediction_clean": two[0], "behavior_clean": two[1], "clean": two[2], "optimality": share}
    plain, with_kl = nft(**options), nft(**options, kl=torch.tensor([2.0, 2.0]), kl_weight=0.1)
    assert with_kl.per_sample[0].item() == pytest.approx(plain.per_sample[0].item() + 0.2)
    assert with_kl.per_sample[1] == 0


def test_optimality_modes() -> None:
    advantage = torch.tensor([-2.0, 0.0, 2.0, 50.0])
    assert optimality(advantage, mode="positive_only").tolist() == pytest.approx([0.5, 0.5, 0.7, 1.0])
    assert optimality(advantage, mode="negative_only").tolist() == pytest.approx([0.3, 0.5, 0.5, 0.5])
    assert optimality(advantage, mode="one_only").tolist() == pytest.approx([0.5, 0.5, 0.6, 0.6])
    assert optimality(advantage, mode="binary", clip=1.0).tolist() == [0.0, 0.5, 1.0, 1.0]


def test_published_schedules() -> None:
    assert behavior_decay(10_000, kind="copy") == 0
    assert behavior_decay(200, kind="slow") == pytest.approx(0.2) and behavior_decay(900, kind="slow") == 0.5
    assert [behavior_decay(s, kind="late") for s in (75, 175, 900)] == pytest.approx([0.0, 0.75, 0.999])
