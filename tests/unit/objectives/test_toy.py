"""Every objective, end to end on points in the plane: two clusters, a small network, a reward for the right one.

A wrong sign anywhere (target, transition, log-prob, advantage, label) makes these fail. Held-out: other noise than
training, the plain deterministic sampler.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from mmalign.objectives.advantages import group_advantages
from mmalign.objectives.dpo import dpo, npo
from mmalign.objectives.grpo import gaussian_kl, guard, ppo_clip
from mmalign.objectives.nft import nft, optimality
from mmalign.objectives.rwr import reward_weights, rwr
from mmalign.objectives.sft import best_of_group, denoising_error, sft
from mmalign.process import Process, Sde, from_scheduler

NUM_STEPS = 8


class Net(nn.Module):
    """Prediction for points (B, 2) at times (B,) or a scalar."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        self.layers = nn.Sequential(
            nn.Linear(4, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 2)
        )

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        time = self.process.model_time(level).float().expand(x.shape[0]) / 1000
        out: Tensor = self.layers(torch.cat([x, time[:, None], (3 * time[:, None]).sin()], dim=1))
        return out


def reward(x: Tensor) -> Tensor:
    return -(x - torch.tensor([1.5, 0.0])).square().sum(dim=1)


def noised(net: Net, clean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(noisy, level, target) at freshly drawn levels."""
    level = net.process.sample_levels(clean.shape[0], density="uniform", generator=None, device="cpu")
    noise = torch.randn_like(clean)
    return net.process.add_noise(clean, noise, level), level, net.process.target(clean, noise, level)


@torch.no_grad()
def sample(net: Net, num: int, seed: int | None = None) -> Tensor:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    x, levels = torch.randn(num, 2, generator=generator), net.process.schedule(NUM_STEPS)
    for i in range(NUM_STEPS):
        x = net.process.step(x, net(x, levels[i]), levels[i], levels[i + 1])
    return x


def train(net: Net, loss: Callable[[], Tensor], num_updates: int, lr: float) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr)
    for _ in range(num_updates):
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()


@pytest.fixture(scope="module", params=["flow", "epsilon"])
def base(request: pytest.FixtureRequest) -> Net:
    """A network that knows both clusters."""
    torch.manual_seed(0)
    if request.param == "flow":
        process = from_scheduler(FlowMatchEulerDiscreteScheduler())
    else:
        process = from_scheduler(DDIMScheduler(prediction_type=request.param, clip_sample=False))
    net = Net(process)

    def loss() -> Tensor:
        clean = torch.randn(192, 2) * 0.3 + torch.tensor([1.5, 0.0]) * torch.randint(0, 2, (192, 1)).mul(
            2
        ).sub(1)
        noisy, level, target = noised(net, clean)
        return denoising_error(prediction=net(noisy, level), target=target).mean()

    train(net, loss, 350, 7e-3)
    return net


@pytest.fixture
def policy(base: Net) -> Net:
    torch.manual_seed(1)
    return copy.deepcopy(base)


def held_out(net: Net) -> float:
    return reward(sample(net, 400, seed=99)).mean().item()


def test_the_base_serves_both_clusters(base: Net) -> None:
    right = (sample(base, 400, seed=99)[:, 0] > 0).float().mean().item()
    assert 0.3 < right < 0.7


def test_best_of_n_and_rwr(policy: Net, base: Net) -> None:
    for kind in ("sft", "rwr"):
        net = copy.deepcopy(policy)
        x, groups = sample(base, 512), torch.arange(512) // 8
        good = best_of_group(reward(x), groups) * 8
        weight = good if kind == "sft" else reward_weights(reward(x), groups, temperature=2.0)

        def loss(net: Net = net, x: Tensor = x, weight: Tensor = weight, kind: str = kind) -> Tensor:
            noisy, level, target = noised(net, x)
            error = denoising_error(prediction=net(noisy, level), target=target)
            return (sft if kind == "sft" else rwr)(error=error, weight=weight).per_sample.mean()

        train(net, loss, 100, 2e-3)
        assert held_out(net) > held_out(base) + 1.0, kind


def pair_trained(net: Net, base: Net, *, negative: bool) -> None:
    x = sample(base, 1024)
    a, b = x[:512], x[512:]
    wins = (reward(a) > reward(b))[:, None]
    both = torch.cat([torch.where(wins, a, b), torch.where(wins, b, a)])

    def loss() -> Tensor:
        level = net.process.sample_levels(512, density="uniform", generator=None, device="cpu").repeat(2)
        noise = torch.randn(512, 2).repeat(2, 1)
        noisy, target = net.process.add_noise(both, noise, level), net.process.target(both, noise, level)
        error = denoising_error(prediction=net(noisy, level), target=target)
        with torch.no_grad():
            known = denoising_error(prediction=base(noisy, level), target=target)
        return (npo if negative else dpo)(
            policy_winner=error[:512],
            policy_loser=error[512:],
            reference_winner=known[:512],
            reference_loser=known[512:],
            beta=5.0,
            anchor=0.1,
        ).per_sample.mean()

    train(net, loss, 60, 1e-3)


def test_dpo_raises_and_npo_lowers_the_reward(policy: Net, base: Net) -> None:
    negative = copy.deepcopy(policy)
    pair_trained(policy, base, negative=False)
    pair_trained(negative, base, negative=True)
    assert held_out(policy) > held_out(base) + 1.0
    assert held_out(negative) < held_out(base) - 1.0


def sdes(net: Net) -> list[Sde]:
    return (
        [Sde("flow", 0.7), Sde("dance", 0.5), Sde("cps", 0.6)]
        if net.process.kind == "flow"
        else [Sde("ddim", 1.0)]
    )


@pytest.mark.parametrize("variant", ["clip", "guard"])
def test_grpo(policy: Net, base: Net, variant: str) -> None:
    for sde in sdes(base):
        if variant == "guard" and sde.kind == "cps":
            continue
        net = copy.deepcopy(policy)
        grpo_train(net, base, sde, variant)
        assert held_out(net) > held_out(base) + 1.0, sde


def grpo_train(net: Net, base: Net, sde: Sde, variant: str) -> None:
    """Six rollouts of 8 steps, the last of which is not trained."""
    levels, optimizer = net.process.schedule(NUM_STEPS), torch.optim.Adam(net.parameters(), 2e-3)
    groups = torch.arange(512) // 16
    for _ in range(6):
        with torch.no_grad():
            x = torch.randn(512, 2)
            recorded = []
            for i in range(NUM_STEPS):
                move = net.process.transition(x, net(x, levels[i]), levels[i], levels[i + 1], sde=sde)
                recorded.append((x, move))
                x = move.next
        advantage = group_advantages(reward(x), groups)
        for i, (x, old) in enumerate(recorded[:-1]):
            now = net.process.transition(
                x, net(x, levels[i]), levels[i], levels[i + 1], sde=sde, next=old.next
            )
            with torch.no_grad():
                known = net.process.transition(
                    x, base(x, levels[i]), levels[i], levels[i + 1], sde=sde, next=old.next
                )
            shared = {
                "log_prob": now.log_prob,
                "old_log_prob": old.log_prob,
                "advantage": advantage,
                "clip_range": 0.2,
            }
            loss = (
                guard(mean=now.mean, old_mean=old.mean, std=now.std, **shared)
                if variant == "guard"
                else ppo_clip(**shared)
            )
            if i == 0:
                assert loss.metrics["ratio_deviation"] == 0
            kl = gaussian_kl(mean=now.mean, reference_mean=known.mean, std=now.std)
            optimizer.zero_grad()
            (loss.per_sample + 0.001 * kl).mean().backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()


def test_nft(policy: Net, base: Net) -> None:
    old = copy.deepcopy(policy)
    groups = torch.arange(512) // 16
    for _ in range(4):
        x = sample(old, 512)
        share = optimality(group_advantages(reward(x), groups), clip=1.0)

        def loss(x: Tensor = x, share: Tensor = share) -> Tensor:
            noisy, level, _ = noised(policy, x)
            with torch.no_grad():
                behavior = old(noisy, level)
            return nft(
                prediction_clean=policy.process.predict_clean(noisy, policy(noisy, level), level),
                behavior_clean=policy.process.predict_clean(noisy, behavior, level),
                clean=x,
                optimality=share,
            ).per_sample.mean()

        train(policy, loss, 20, 2e-3)
        old.load_state_dict(policy.state_dict())
    assert held_out(policy) > held_out(base) + 1.0
