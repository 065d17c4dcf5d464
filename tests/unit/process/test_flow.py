"""The flow process: hand-computed steps, parity with the stock scheduler, marginals of each sampler."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

from mmalign.process import Flow, Sde, from_scheduler

X_ROWS, V_ROWS, NEXT_ROWS = [[0.5, -1.0, 2.0, 0.25]], [[0.3, 0.1, -0.4, 1.0]], [[0.4, -0.9, 1.8, 0.1]]
X, V = torch.tensor(X_ROWS), torch.tensor(V_ROWS)
FLOW = Flow.from_scheduler(FlowMatchEulerDiscreteScheduler())


def t(value: float) -> Tensor:
    return torch.tensor(value)


@pytest.mark.parametrize(
    ("sde", "std", "mean", "log_prob"),
    [
        (Sde("flow", 0.7), 0.6260990337, [0.3028, -0.7799, 1.6096, -0.06025], -0.4780528061),
        (Sde("dance", 0.3), 0.1341640787, [0.4337, -1.008975, 2.0584, 0.0449375], 0.5146582306),
        (
            Sde("cps", 0.8),
            0.5706339098,
            [0.20782971, -0.61370199, 1.28398758, -0.13656541],
            -0.1102819958,
        ),
    ],
)
def test_golden_transition(sde: Sde, std: float, mean: list[float], log_prob: float) -> None:
    x, v, outcome = (torch.tensor(rows, dtype=torch.float64) for rows in (X_ROWS, V_ROWS, NEXT_ROWS))
    level, next_level = torch.tensor([0.8, 0.6], dtype=torch.float64)
    step = FLOW.transition(x, v, level, next_level, sde=sde, next=outcome)
    assert step.std.item() == pytest.approx(std, abs=1e-9)
    torch.testing.assert_close(step.mean, torch.tensor([mean]).double(), atol=1e-7, rtol=0)
    assert step.log_prob.item() == pytest.approx(log_prob, abs=1e-7)


def test_first_step_uses_the_next_level_where_the_scale_diverges() -> None:
    step = FLOW.transition(X, V, t(1.0), t(0.9), sde=Sde("flow", 0.7))
    assert step.std.item() == pytest.approx(0.7, abs=1e-6)
    assert step.std.item() / math.sqrt(0.1) == pytest.approx(2.2135943621, abs=1e-5)
    assert torch.isfinite(step.mean).all()


def test_conversions_undo_each_other() -> None:
    clean, noise, level = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2), torch.tensor([0.1, 0.5, 0.9])
    noisy, velocity = FLOW.add_noise(clean, noise, level), FLOW.target(clean, noise, level)
    torch.testing.assert_close(FLOW.predict_clean(noisy, velocity, level), clean)
    torch.testing.assert_close(FLOW.predict_noise(noisy, velocity, level), noise)
    torch.testing.assert_close(noisy[1], 0.5 * clean[1] + 0.5 * noise[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("options", "seq_len", "uniform"),
    [
        ({}, None, False),
        ({"shift": 3.0}, None, False),
        ({"shift": 3.0}, None, True),
        ({"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}, 1000, True),
        ({"use_dynamic_shifting": True, "time_shift_type": "linear"}, 64, False),
        ({"shift_terminal": 0.1}, None, False),
    ],
)
def test_schedule_and_steps_are_the_stock_schedulers(
    options: dict[str, object], seq_len: int | None, uniform: bool, dtype: torch.dtype
) -> None:
    stock = FlowMatchEulerDiscreteScheduler(**options)
    flow = Flow.from_scheduler(stock, uniform_sigmas=uniform)
    levels = flow.schedule(7, image_seq_len=seq_len)
    mu = None if seq_len is None else 0.5 + (1.15 - 0.5) * (seq_len - 256) / (4096 - 256)
    if uniform:
        stock.set_timesteps(sigmas=np.linspace(1.0, 1 / 7, 7), mu=mu)
    else:
        stock.set_timesteps(7, mu=mu)
    assert torch.equal(levels, stock.sigmas)
    assert torch.equal(flow.model_time(levels[:-1]), stock.timesteps)
    ours = theirs = torch.randn(2, 4, 3, 3, dtype=dtype)
    for i, time in enumerate(stock.timesteps):
        velocity = torch.randn(2, 4, 3, 3, dtype=dtype)
        theirs = stock.step(velocity, time, theirs).prev_sample
        ours = flow.step(ours, velocity, levels[i], levels[i + 1])
        assert torch.equal(ours, theirs)


def test_dynamic_shifting_needs_the_size() -> None:
    flow = Flow.from_scheduler(FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True))
    with pytest.raises(ValueError, match="image_seq_len"):
        flow.schedule(4)


def test_noise_zero_is_the_plain_step() -> None:
    expected = FLOW.step(X, V, t(0.8), t(0.6))
    for kind in ("flow", "dance", "cps"):
        step = FLOW.transition(X, V, t(0.8), t(0.6), sde=Sde(kind, 0.0))
        torch.testing.assert_close(step.next, expected)
        assert step.log_prob.isfinite().all()


def test_replay_gives_the_sampled_log_prob_bit_by_bit() -> None:
    x, v = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    for sde in (Sde("flow", 0.7), Sde("dance", 0.3), Sde("cps", 0.8)):
        drawn = FLOW.transition(x, v, t(0.8), t(0.6), sde=sde, generator=torch.Generator().manual_seed(0))
        again = FLOW.transition(x, v, t(0.8), t(0.6), sde=sde, next=drawn.next)
        assert torch.equal(drawn.log_prob, again.log_prob)
        assert drawn.log_prob.shape == (3,)


def test_one_level_per_sample_equals_single_calls() -> None:
    x, v = torch.randn(2, 3, 2), torch.randn(2, 3, 2)
    level, after = torch.tensor([1.0, 0.5]), torch.tensor([0.8, 0.25])
    for sde in (Sde("flow", 0.7), Sde("dance", 0.3), Sde("cps", 0.8)):
        both = FLOW.transition(x, v, level, after, sde=sde, next=x)
        for i in range(2):
            one = FLOW.transition(x[i : i + 1], v[i : i + 1], level[i], after[i], sde=sde, next=x[i : i + 1])
            torch.testing.assert_close(both.mean[i : i + 1], one.mean)
            torch.testing.assert_close(both.log_prob[i : i + 1], one.log_prob)


def test_one_generator_per_sample_equals_single_calls() -> None:
    x = v = torch.randn(2, 3)
    make = [torch.Generator().manual_seed(s) for s in (1, 2)]
    both = FLOW.transition(x, v, t(0.8), t(0.6), sde=Sde("flow", 0.7), generator=make)
    second = torch.Generator().manual_seed(2)
    one = FLOW.transition(x[1:], v[1:], t(0.8), t(0.6), sde=Sde("flow", 0.7), generator=second)
    assert torch.equal(both.next[1:], one.next)
    with pytest.raises(ValueError, match="one each"):
        FLOW.transition(x, v, t(0.8), t(0.6), sde=Sde("flow", 0.7), generator=make[:1])


def test_a_step_without_noise_can_be_sampled_but_not_replayed() -> None:
    last = FLOW.transition(X, V, t(0.2), t(0.0), sde=Sde("cps", 0.8))
    assert last.std.item() == 0 and last.log_prob.item() == 0
    with pytest.raises(ValueError, match="deterministic"):
        FLOW.transition(X, V, t(0.2), t(0.0), sde=Sde("cps", 0.8), next=last.next)
    with pytest.raises(ValueError, match="flow, dance or cps"):
        FLOW.transition(X, V, t(0.2), t(0.1), sde=Sde("ddim", 1.0))
    with pytest.raises(ValueError, match="out of range"):
        Sde("cps", 1.5)


def test_low_precision_is_computed_in_float32() -> None:
    step = FLOW.transition(X.bfloat16(), V.bfloat16(), t(0.8), t(0.6), sde=Sde("flow", 0.7))
    assert step.next.dtype == step.log_prob.dtype == torch.float32


def rollout_1d(sde: Sde | None, num_steps: int, num: int = 6_000) -> tuple[float, float]:
    """Mean and std of 1-D rollouts with the exact velocity of data N(1.5, 0.5)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num, 1, generator=generator, dtype=torch.float64)
    levels = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
    for level, after in pairwise(levels):
        variance = (1 - level) ** 2 * 0.25 + level**2
        residual = x - (1 - level) * 1.5
        velocity = level / variance * residual - (1.5 + (1 - level) * 0.25 / variance * residual)
        if sde is None:
            x = FLOW.step(x, velocity, level, after)
        else:
            x = FLOW.transition(x, velocity, level, after, sde=sde, generator=generator).next
    return x.mean().item(), x.std().item()


@pytest.mark.parametrize("sde", [None, Sde("flow", 0.7), Sde("dance", 0.3)])
def test_marginals_are_kept(sde: Sde | None) -> None:
    mean, std = rollout_1d(sde, 120)
    assert mean == pytest.approx(1.5, abs=0.02)
    assert std == pytest.approx(0.5, abs=0.02)


def test_cps_contracts_the_spread_as_derived() -> None:
    for num_steps, expected in ((10, 0.35), (50, 0.39)):
        mean, std = rollout_1d(Sde("cps", 0.8), num_steps)
        assert mean == pytest.approx(1.5, abs=0.02)
        assert std == pytest.approx(expected, abs=0.015)


def test_the_gradient_of_the_mean_is_the_derived_one() -> None:
    velocity = V.clone().requires_grad_()
    step = FLOW.transition(X, velocity, t(0.8), t(0.6), sde=Sde("flow", 0.7))
    (grad,) = torch.autograd.grad(step.mean.sum(), velocity)
    torch.testing.assert_close(grad, torch.full_like(grad, (1 + 0.7**2 / 2) * -0.2))


def test_training_levels() -> None:
    generator = torch.Generator().manual_seed(0)
    uniform = FLOW.sample_levels(4000, density="uniform", generator=generator, device="cpu")
    assert uniform.min() >= 0.001 and uniform.max() <= 1 and uniform.mean() == pytest.approx(0.5, abs=0.02)
    normal = FLOW.sample_levels(4000, density="logit_normal", generator=generator, device="cpu")
    assert normal.std() < uniform.std()
    shifted = Flow.from_scheduler(FlowMatchEulerDiscreteScheduler(shift=3.0))
    noisier = shifted.sample_levels(4000, density="uniform", generator=generator, device="cpu")
    assert noisier.median() == pytest.approx(0.75, abs=0.02)
    with pytest.raises(ValueError, match="uniform or logit_normal"):
        FLOW.sample_levels(2, density="beta", generator=None, device="cpu")  # type: ignore[arg-type]


def test_from_scheduler_picks_the_process() -> None:
    assert from_scheduler(FlowMatchEulerDiscreteScheduler()).kind == "flow"
    assert from_scheduler(DDIMScheduler()).kind == "diffusion"
    wan = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    assert torch.equal(
        from_scheduler(wan).schedule(5),
        from_scheduler(FlowMatchEulerDiscreteScheduler(shift=3.0)).schedule(5),
    )
    with pytest.raises(ValueError, match="not a flow-matching"):
        Flow.from_scheduler(DDIMScheduler())
    with pytest.raises(ValueError, match="invert_sigmas"):
        Flow.from_scheduler(FlowMatchEulerDiscreteScheduler(invert_sigmas=True))
