"""Rollouts, guidance and replays on a policy whose network is one multiplication, checked by hand.

Shape legend: latents (B, 4); the network predicts scale * x + prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from mmalign.process import Sde, from_scheduler
from mmalign.rollout import predict, replay, rollout, stochastic_steps
from mmalign.types import Conditions, Trajectory


class Scales:
    """The scale of the network under each name."""

    def __init__(self, network: Line, scales: Mapping[str, float]) -> None:
        self.network, self.scales = network, dict(scales)

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        before = self.network.scale.data
        self.network.scale.data = torch.tensor(self.scales[name])
        try:
            yield
        finally:
            self.network.scale.data = before


class Line(nn.Module):
    """(x, prompt) -> scale * x + prompt; counts its calls."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.batches: list[int] = []

    def forward(self, x: Tensor, prompt: Tensor) -> Tensor:
        self.batches.append(x.shape[0])
        return self.scale * x + prompt


class LinePolicy:
    """The policy interface, as far as rollouts use it."""

    def __init__(self, scale: float = 0.0, scheduler: Any = None, **scales: float) -> None:
        self.process = from_scheduler(scheduler or FlowMatchEulerDiscreteScheduler())
        self.network = Line(scale)
        self.weights = Scales(self.network, scales)

    def predict(
        self,
        noisy: Tensor,
        level: Tensor,
        conditions: Conditions,
        *,
        guidance: float = 1.0,
        network: Any = None,
    ) -> Tensor:
        called, given = network or self.network, conditions.tensors["prompt"]
        if guidance <= 1:
            return called(noisy, given)
        assert conditions.negative is not None
        both = called(torch.cat([noisy, noisy]), torch.cat([conditions.negative["prompt"], given]))
        without, told = both.chunk(2)
        return without + guidance * (told - without)

    def schedule(self, num_steps: int, latents: Tensor) -> Tensor:
        return self.process.schedule(num_steps)


def told(prompt: float, negative: float | None = None, num: int = 2) -> Conditions:
    rows = [
        None if value is None else {"prompt": torch.full((num, 4), value)} for value in (prompt, negative)
    ]
    assert rows[0] is not None
    return Conditions(rows[0], rows[1])


def noise(num: int = 2) -> Tensor:
    return torch.randn(num, 4, generator=torch.Generator().manual_seed(0))


def streams(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("num_steps", [1, 3, 7])
def test_a_constant_velocity_is_followed_exactly(num_steps: int) -> None:
    """dx = v dsigma with v = 0.5 from sigma 1 to 0: the end is x - 0.5, whatever the steps."""
    path = rollout(LinePolicy(), told(0.5), noise(), num_steps=num_steps)
    assert torch.allclose(path.clean, noise() - 0.5, atol=1e-6)
    assert path.latents.shape == (2, num_steps + 1, 4) and path.levels.shape == (num_steps + 1,)
    assert torch.equal(path.latents[:, 0], noise()) and path.steps.numel() == 0 and path.means is None
    assert path.groups.tolist() == [0, 1]


def test_only_the_end_is_kept_without_record() -> None:
    policy, sde = LinePolicy(0.3), Sde("flow", 0.7)
    for options in ({}, {"sde": sde}):
        whole = rollout(policy, told(0.5), noise(), num_steps=4, generators=streams(1, 2), **options)
        end = rollout(
            policy, told(0.5), noise(), num_steps=4, generators=streams(1, 2), record=False, **options
        )
        assert end.latents.shape == (2, 1, 4) and torch.equal(end.clean, whole.clean)
        assert end.steps.numel() == 0 and end.log_probs.shape == (2, 0)


def test_plain_guidance_is_one_doubled_call_a_step() -> None:
    policy = LinePolicy()
    path = rollout(policy, told(0.5, -0.1), noise(), num_steps=3, guidance=3.0)
    assert torch.allclose(path.clean, noise() - (-0.1 + 3.0 * 0.6), atol=1e-6)
    assert policy.network.batches == [4, 4, 4]


def test_negative_model_guidance_by_hand() -> None:
    """scale 2 for the policy and 3 for the negative: e_neg = 3 x - 0.1, e_pos = 2 x + 0.5."""
    policy, x = LinePolicy(2.0, negative=3.0), noise()
    level = torch.tensor(0.5)
    found = predict(policy, x, level, told(0.5, -0.1), guidance=4.0, negative="negative")
    e_neg, e_pos = 3 * x - 0.1, 2 * x + 0.5
    assert torch.allclose(found, e_neg + 4.0 * (e_pos - e_neg), atol=1e-5)
    assert policy.network.batches == [2, 2] and float(policy.network.scale.detach()) == 2.0
    assert torch.equal(predict(policy, x, level, told(0.5), negative="negative"), e_pos)
    with pytest.raises(ValueError, match="negative side"):
        predict(policy, x, level, told(0.5), guidance=4.0, negative="negative")


def test_a_negative_model_equal_to_the_policy_is_plain_guidance() -> None:
    policy, conditions = LinePolicy(0.4, negative=0.4), told(0.5, -0.1)
    plain = rollout(policy, conditions, noise(), num_steps=3, guidance=2.5)
    turned = rollout(policy, conditions, noise(), num_steps=3, guidance=2.5, negative="negative")
    assert torch.allclose(plain.clean, turned.clean, atol=1e-6)


def test_the_window_alone_is_stochastic() -> None:
    policy = LinePolicy(0.3)
    options: dict[str, Any] = {"num_steps": 5, "generators": streams(1, 2)}
    path = rollout(policy, told(0.5), noise(), sde=Sde("flow", 0.7), window=range(1, 3), **options)
    plain = rollout(policy, told(0.5), noise(), num_steps=5)
    assert path.steps.tolist() == [1, 2] and path.log_probs.shape == (2, 2) and path.stds.shape == (2,)
    assert torch.equal(path.latents[:, :2], plain.latents[:, :2])
    assert not torch.equal(path.latents[:, 2], plain.latents[:, 2])
    for step in (3, 4):
        prediction = policy.predict(path.latents[:, step], path.levels[step], told(0.5))
        following = policy.process.step(
            path.latents[:, step], prediction, path.levels[step], path.levels[step + 1]
        )
        assert torch.equal(path.latents[:, step + 1], following)


def test_recorded_numbers_are_those_of_the_gaussian() -> None:
    policy = LinePolicy(0.3)
    path = rollout(policy, told(0.5), noise(), num_steps=4, sde=Sde("flow", 0.7), generators=streams(1, 2))
    assert path.means is not None
    for column, step in enumerate(path.steps.tolist()):
        gap, std = path.latents[:, step + 1] - path.means[:, column], float(path.stds[column])
        by_hand = (-gap.square() / (2 * std**2) - math.log(std) - 0.5 * math.log(2 * math.pi)).mean(1)
        assert torch.allclose(path.log_probs[:, column], by_hand, atol=1e-5)


def test_steps_that_add_no_noise_are_not_recorded() -> None:
    flow, levels = LinePolicy(), LinePolicy().schedule(4, noise())
    assert stochastic_steps(flow, levels, Sde("cps", 0.7), None) == [0, 1, 2]
    assert stochastic_steps(flow, levels, Sde("flow", 0.7), None) == [0, 1, 2, 3]
    assert stochastic_steps(flow, levels, Sde("flow", 0.0), None) == []
    assert stochastic_steps(flow, levels, None, None) == []
    epsilon = LinePolicy(scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=True))
    assert stochastic_steps(epsilon, epsilon.schedule(4, noise()), Sde("ddim", 1.0), None) == [0, 1, 2]
    path = rollout(flow, told(0.5), noise(), num_steps=4, sde=Sde("cps", 0.7), generators=streams(1, 2))
    assert path.steps.tolist() == [0, 1, 2] and torch.isfinite(path.log_probs).all()


@pytest.mark.parametrize("window", [range(3, 5), range(-1, 2), range(2, 2)])
def test_a_window_outside_the_rollout_is_refused(window: range) -> None:
    with pytest.raises(ValueError, match="does not lie within the 4 steps"):
        rollout(LinePolicy(), told(0.5), noise(), num_steps=4, sde=Sde("flow", 0.7), window=window)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    policy, sde = LinePolicy(0.3), Sde("flow", 0.7)
    both = rollout(policy, told(0.5), noise(), num_steps=4, sde=sde, generators=streams(1, 2))
    second = rollout(policy, told(0.5, num=1), noise()[1:], num_steps=4, sde=sde, generators=streams(2))
    assert torch.allclose(both.latents[1:], second.latents, atol=1e-6)
    assert torch.allclose(both.log_probs[1:], second.log_probs, atol=1e-5)


def recorded(policy: LinePolicy, kind: str) -> tuple[Trajectory, Sde]:
    sde = Sde(kind, 0.6)  # type: ignore[arg-type]
    return rollout(policy, told(0.5), noise(), num_steps=4, sde=sde, generators=streams(1, 2)), sde


@pytest.mark.parametrize("kind", ["flow", "dance", "cps"])
def test_replay_repeats_the_rollout_to_the_bit(kind: str) -> None:
    policy = LinePolicy(0.3)
    path, sde = recorded(policy, kind)
    for column, step in enumerate(path.steps.tolist()):
        again = replay(policy, path, step, sde=sde)
        assert torch.equal(again.log_prob, path.log_probs[:, column])
        assert torch.equal(again.next, path.latents[:, step + 1])


@pytest.mark.parametrize("kind", ["flow", "dance", "cps"])
def test_the_gradient_of_a_replay_moves_the_mean_toward_the_outcome(kind: str) -> None:
    policy = LinePolicy(0.3)
    path, sde = recorded(policy, kind)
    before = replay(policy, path, 1, sde=sde)
    before.log_prob.sum().backward()
    with torch.no_grad():
        policy.network.scale += 1e-3 * policy.network.scale.grad.sign()
    after = replay(policy, path, 1, sde=sde)
    assert float(after.log_prob.sum().detach()) > float(before.log_prob.sum().detach())
    gap = (before.next - before.mean).square().mean() - (after.next - after.mean).square().mean()
    assert float(gap.detach()) > 0


def test_replay_of_another_network_gives_the_gaussian_difference() -> None:
    """log ratio = mean over dims of ((x' - mu_old)^2 - (x' - mu_new)^2) / (2 std^2)."""
    policy, other = LinePolicy(0.3), LinePolicy(0.4)
    path, sde = recorded(policy, "flow")
    for column, step in enumerate(path.steps.tolist()):
        old, new = replay(policy, path, step, sde=sde), replay(other, path, step, sde=sde)
        reached, std = path.latents[:, step + 1], float(path.stds[column])
        by_hand = ((reached - old.mean).square() - (reached - new.mean).square()).mean(1) / (2 * std**2)
        assert torch.allclose(new.log_prob - old.log_prob, by_hand, atol=1e-4)
