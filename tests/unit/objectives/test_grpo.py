"""Clipped ratios, GRPO-Guard and the two KL forms, with hand-computed numbers."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from mmalign.objectives.grpo import gaussian_kl, guard, ppo_clip
from mmalign.process import Flow, Sde
from mmalign.types import Transition

X = torch.tensor([[0.5, -1.0, 2.0, 0.25]])
V = torch.tensor([[0.3, 0.1, -0.4, 1.0]])
NEXT = torch.tensor([[0.4, -0.9, 1.8, 0.1]])
MOVED = V + torch.tensor([[0.01, -0.02, 0.03, 0.0]])
DT = torch.tensor(-0.2)
ONE = torch.tensor([1.0])


def step(velocity: Tensor) -> Transition:
    flow = Flow.from_scheduler(FlowMatchEulerDiscreteScheduler())
    return flow.transition(X, velocity, torch.tensor(0.8), torch.tensor(0.6), sde=Sde("flow", 0.7), next=NEXT)


def test_golden_ratio_guard_ratio_and_kl() -> None:
    old, new = step(V), step(MOVED)
    logs = {"log_prob": new.log_prob, "old_log_prob": old.log_prob, "advantage": -ONE, "clip_range": 1.0}
    assert ppo_clip(**logs).per_sample.item() == pytest.approx(0.9985305356, abs=1e-6)
    means = {"mean": new.mean, "old_mean": old.mean, "std": new.std}
    assert guard(**logs, **means).per_sample.item() == pytest.approx(0.9990970309, abs=1e-6)
    assert guard(**logs, **means, dt=DT).per_sample.item() == pytest.approx(0.9990970309 / 0.2, abs=1e-5)
    kl = gaussian_kl(mean=new.mean, reference_mean=old.mean, std=new.std)
    assert kl.item() == pytest.approx(2.7679017857e-5, rel=1e-3)
    theirs = gaussian_kl(mean=new.mean, reference_mean=old.mean, std=new.std, form="flow_grpo", dt=DT)
    assert theirs.item() == pytest.approx(5.5358035714e-6, rel=1e-3)


def test_guard_ratio_is_the_exponential_of_noise_times_shift() -> None:
    old, new = step(V), step(MOVED)
    noise = (NEXT - old.mean) / old.std
    expected = (noise * (new.mean - old.mean)).mean().exp()
    loss = guard(
        log_prob=new.log_prob,
        old_log_prob=old.log_prob,
        mean=new.mean,
        old_mean=old.mean,
        std=new.std,
        advantage=-ONE,
        clip_range=1.0,
    )
    assert loss.per_sample.item() == pytest.approx(expected.item(), abs=1e-6)


def test_kl_of_the_flow_sde_has_the_closed_form() -> None:
    old, new = step(V), step(MOVED)
    a, sigma = 0.7, 0.8
    factor = (1 + a**2 / 2) ** 2 * 0.2 * (1 - sigma) / (2 * a**2 * sigma)
    expected = factor * (MOVED - V).square().mean().item()
    assert gaussian_kl(mean=new.mean, reference_mean=old.mean, std=new.std).item() == pytest.approx(
        expected, rel=1e-3
    )


def test_the_clip_binds_only_where_it_helps_the_policy() -> None:
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5])
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0])
    loss = ppo_clip(log_prob=ratio.log(), old_log_prob=torch.zeros(4), advantage=advantage, clip_range=0.2)
    torch.testing.assert_close(loss.per_sample, torch.tensor([-1.2, 1.5, -0.5, 0.8]))
    assert loss.metrics["clip_fraction"] == 0.5
    assert loss.metrics["ratio_deviation"] == 0.5
    uneven = ppo_clip(
        log_prob=ratio.log(), old_log_prob=torch.zeros(4), advantage=advantage, clip_range=(0.2, 0.6)
    )
    assert uneven.per_sample[0].item() == pytest.approx(-1.5)


def test_first_update_has_ratio_one_and_gradient_minus_advantage() -> None:
    log_prob = torch.tensor([0.3, -0.2, 0.1], requires_grad=True)
    advantage = torch.tensor([2.0, -1.0, 9.0])
    loss = ppo_clip(log_prob=log_prob, old_log_prob=log_prob.detach(), advantage=advantage, clip_range=1e-4)
    assert loss.metrics["ratio_deviation"] == 0
    loss.per_sample.sum().backward()
    torch.testing.assert_close(log_prob.grad, torch.tensor([-2.0, 1.0, -5.0]))  # the last is clipped at 5


def test_nan_advantages_are_excluded() -> None:
    log_prob = torch.tensor([0.1, 0.2], requires_grad=True)
    advantage = torch.tensor([math.nan, 1.0])
    loss = ppo_clip(log_prob=log_prob, old_log_prob=torch.zeros(2), advantage=advantage, clip_range=1.0)
    assert loss.per_sample[0] == 0
    loss.per_sample.sum().backward()
    assert log_prob.grad is not None and log_prob.grad[0] == 0 and log_prob.grad[1] != 0
    assert loss.metrics["ratio"].item() == pytest.approx(math.exp(0.2))


def test_kl_form_needs_dt() -> None:
    with pytest.raises(ValueError, match="needs dt"):
        gaussian_kl(mean=X, reference_mean=X, std=ONE, form="flow_grpo")


def test_kl_gradient_pulls_toward_the_reference() -> None:
    mean = torch.tensor([[2.0, 0.0]], requires_grad=True)
    gaussian_kl(mean=mean, reference_mean=torch.zeros(1, 2), std=torch.tensor(0.5)).sum().backward()
    torch.testing.assert_close(mean.grad, torch.tensor([[4.0, 0.0]]))
