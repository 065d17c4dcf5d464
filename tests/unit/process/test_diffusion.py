"""The diffusion process: a hand-computed DDIM step, parity with the stock scheduler, zero terminal SNR."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, PNDMScheduler

from mmalign.process import Diffusion, Sde

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


def make(**options: Any) -> Diffusion:
    return Diffusion.from_scheduler(DDIMScheduler(**{**SD, **options}))


def test_golden_ddim_step() -> None:
    process = Diffusion(DDIMScheduler(), torch.tensor([1.0, 0.6, 0.5]).double(), "epsilon")
    x, noise = torch.tensor([[0.5, -1.0, 2.0, 0.25]]), torch.tensor([[0.2, -0.3, 0.5, 0.1]])
    outcome = torch.tensor([[0.4, -0.9, 1.8, 0.1]])
    level, after = torch.tensor(1.0), torch.tensor(0.0)
    step = process.transition(x, noise, level, after, sde=Sde("ddim", 1.0), next=outcome)
    assert step.std.item() == pytest.approx(0.3651483717, abs=1e-7)
    expected = torch.tensor([[0.49608278, -1.01798545, 2.06179079, 0.24804139]])
    torch.testing.assert_close(step.mean.float(), expected, atol=1e-6, rtol=0)
    assert step.log_prob.item() == pytest.approx(-0.0179899618, abs=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    "options",
    [
        {"set_alpha_to_one": False, "steps_offset": 1},
        {"set_alpha_to_one": True},
        {"timestep_spacing": "trailing"},
        {"clip_sample": True},
    ],
)
def test_schedule_and_steps_are_the_stock_schedulers(prediction: str, options: dict[str, Any]) -> None:
    stock = DDIMScheduler(**{**SD, **options, "prediction_type": prediction})
    process = Diffusion.from_scheduler(stock)
    stock.set_timesteps(20)
    levels = process.schedule(20)
    assert torch.equal(process.model_time(levels[:-1]), stock.timesteps)
    ours = theirs = torch.randn(2, 4, 3, 3)
    for i, time in enumerate(stock.timesteps):
        output = torch.randn(2, 4, 3, 3)
        theirs = stock.step(output, time, theirs).prev_sample
        ours = process.step(ours, output, levels[i], levels[i + 1])
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_stochastic_steps_are_the_stock_schedulers() -> None:
    stock = DDIMScheduler(**SD)
    process = Diffusion.from_scheduler(stock)
    stock.set_timesteps(10)
    x, output, noise = torch.randn(3, 2, 4, 4).unbind()
    for level, after in pairwise(process.schedule(10)[:-1]):
        step = process.transition(x, output, level, after, sde=Sde("ddim", 0.8))
        theirs = stock.step(output, level.long(), x, eta=0.8, variance_noise=noise).prev_sample
        torch.testing.assert_close(step.mean + step.std * noise, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_conversions_undo_each_other(prediction: str) -> None:
    process = make(prediction_type=prediction)
    clean, noise, level = torch.randn(3, 2, 2), torch.randn(3, 2, 2), torch.tensor([0.0, 500.0, 900.0])
    noisy, target = process.add_noise(clean, noise, level), process.target(clean, noise, level)
    torch.testing.assert_close(process.predict_clean(noisy, target, level), clean, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(process.predict_noise(noisy, target, level), noise, atol=2e-5, rtol=1e-4)
    stock = DDIMScheduler(**SD).add_noise(clean, noise, level.long())
    torch.testing.assert_close(noisy, stock, atol=1e-6, rtol=1e-6)


def test_zero_terminal_snr_is_finite_for_v_and_refused_for_epsilon() -> None:
    options = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    process = make(prediction_type="v_prediction", **options)
    levels = process.schedule(5)
    x, v = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(process.predict_clean(x, v, levels[0]), -v)
    step = process.transition(x, v, levels[0], levels[1], sde=Sde("ddim", 1.0))
    assert step.mean.isfinite().all() and step.log_prob.isfinite().all() and step.std > 0
    with pytest.raises(ValueError, match="zero terminal SNR"):
        make(prediction_type="epsilon", **options)


def test_the_last_step_to_alpha_one_is_deterministic() -> None:
    process = make()
    x, noise = torch.randn(2, 3), torch.randn(2, 3)
    level, after = process.schedule(10)[-2:]
    step = process.transition(x, noise, level, after, sde=Sde("ddim", 1.0))
    assert step.std == 0 and step.log_prob.eq(0).all()
    torch.testing.assert_close(step.next, process.step(x, noise, level, after))
    with pytest.raises(ValueError, match="std 0"):
        process.transition(x, noise, level, after, sde=Sde("ddim", 1.0), next=x)
    with pytest.raises(ValueError, match="use ddim"):
        process.transition(x, noise, level, after, sde=Sde("flow", 1.0))


@pytest.mark.parametrize("scheduler", [PNDMScheduler, DDPMScheduler, EulerDiscreteScheduler])
def test_other_schedulers_become_ddim_with_their_alphas(scheduler: type) -> None:
    known = {key: value for key, value in SD.items() if key != "clip_sample" or scheduler is DDPMScheduler}
    other = scheduler(**known, timestep_spacing="leading", steps_offset=1)
    process = Diffusion.from_scheduler(other)
    torch.testing.assert_close(process.alphas[1:], other.alphas_cumprod)
    assert process.clip is None
    assert process.schedule(4).tolist() == [751.0, 501.0, 251.0, 1.0, -1.0]


def test_thresholding_is_refused() -> None:
    with pytest.raises(ValueError, match="thresholding"):
        make(thresholding=True)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_marginals_are_kept(eta: float) -> None:
    process = make(timestep_spacing="trailing")
    generator = torch.Generator().manual_seed(0)
    first = process.alpha(process.schedule(250)[0])  # SD's noisiest level still holds 7% of the signal
    x = first.sqrt() * 1.5 + (1 - 0.75 * first).sqrt() * torch.randn(6_000, 1, generator=generator)
    for level, after in pairwise(process.schedule(250)):
        alpha = process.alpha(level)
        variance = alpha * 0.25 + 1 - alpha
        noise = (1 - alpha).sqrt() / variance * (x - alpha.sqrt() * 1.5)
        x = process.transition(x, noise, level, after, sde=Sde("ddim", eta), generator=generator).next
    assert x.mean().item() == pytest.approx(1.5, abs=0.03)
    assert x.std().item() == pytest.approx(0.5, abs=0.02)


def test_training_levels_are_timesteps() -> None:
    generator = torch.Generator().manual_seed(0)
    levels = make().sample_levels(5000, density="uniform", generator=generator, device="cpu")
    assert levels.min() >= 0 and levels.max() <= 999 and torch.equal(levels, levels.round())
    assert levels.mean().item() == pytest.approx(499.5, abs=15)
