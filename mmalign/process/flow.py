"""Rectified flow: x_sigma = (1 - sigma) x0 + sigma e, the network predicts v = e - x0 (SD3, FLUX,
Qwen-Image, Wan).

Shape legend: `B` samples, `...` the shape of one latent, `S` sampling steps. Level: sigma, scalar or (B,).

Sources: Flow-SDE: Flow-GRPO (arXiv 2505.05470), eq. of the reverse SDE. Dance-SDE: DanceGRPO (2505.07818).
CPS: coefficients-preserving sampling (2509.05952). With dt = sigma' - sigma < 0, x0^ = x - sigma v, e^ = x
+ (1 - sigma) v:

    flow   s = a sqrt(sigma / (1 - sigma)),  std = s sqrt(-dt)
           mu = x (1 + s^2 dt / (2 sigma)) + v (1 + s^2 (1 - sigma) / (2 sigma)) dt
    dance  mu = x + (v + eta^2 (x - (1 - sigma) x0^) / (2 sigma^2)) dt,  std = eta sqrt(-dt)
    cps    std = sigma' sin(a pi / 2),  mu = (1 - sigma') x0^ + sqrt(sigma'^2 - std^2) e^

Differences from the papers: at sigma = 1 exactly, where s diverges, 1 - sigma' stands for 1 - sigma
(flow_grpo's code; PaCo-GRPO uses a constant 0.98 instead). CPS does not keep the marginals of data with
spread; its last step adds no noise. Flow-SDE and Dance-SDE add noise in the last step too, so their final
latents are slightly noisy.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mmalign.process.base import Density, Generators, Prediction, Sde, expand, finish_transition, wide
from mmalign.process.schedule import draw_fractions, flow_levels, shift_level
from mmalign.types import Transition


@dataclass(frozen=True, eq=False)
class Flow:
    """The flow process with the schedule of a stock FlowMatchEulerDiscreteScheduler."""

    scheduler: Any
    uniform_sigmas: bool = False
    kind: Literal["flow"] = "flow"
    prediction: Prediction = "velocity"

    @classmethod
    def from_scheduler(cls, scheduler: Any, *, uniform_sigmas: bool = False) -> Flow:
        """From a pipeline's scheduler.

        Multistep solvers over flow sigmas (Wan's UniPC, DPM-Solver++) are replaced by the Euler scheduler
        with the same shift: reinforcement needs a one-step transition. `uniform_sigmas` as in
        `schedule.flow_levels`.
        """
        config = scheduler.config
        if "FlowMatchEuler" not in type(scheduler).__name__:
            if not config.get("use_flow_sigmas", False):
                raise ValueError(f"{type(scheduler).__name__} is not a flow-matching scheduler")
            from diffusers import FlowMatchEulerDiscreteScheduler

            scheduler = FlowMatchEulerDiscreteScheduler(
                num_train_timesteps=config["num_train_timesteps"], shift=config.get("flow_shift", 1.0)
            )
        for option in ("invert_sigmas", "stochastic_sampling"):
            if scheduler.config.get(option, False):
                raise ValueError(f"schedulers with {option}=True are not supported: set it to False")
        return cls(copy.deepcopy(scheduler), uniform_sigmas)

    def add_noise(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        sigma = expand(level, clean)
        return (1 - sigma) * wide(clean) + sigma * wide(noise)

    def target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        return wide(noise) - wide(clean)

    def predict_clean(self, noisy: Tensor, prediction: Tensor, level: Tensor) -> Tensor:
        return wide(noisy) - expand(level, noisy) * wide(prediction)

    def predict_noise(self, noisy: Tensor, prediction: Tensor, level: Tensor) -> Tensor:
        return wide(noisy) + (1 - expand(level, noisy)) * wide(prediction)

    def step(self, noisy: Tensor, prediction: Tensor, level: Tensor, next_level: Tensor) -> Tensor:
        change = expand(next_level - level, noisy)
        return (wide(noisy) + change * prediction).to(prediction.dtype)

    def transition_std(self, level: Tensor, next_level: Tensor, *, sde: Sde) -> Tensor:
        if sde.kind == "flow":
            return _flow_scale(level, next_level, sde.noise) * (level - next_level).sqrt()
        if sde.kind == "dance":
            return sde.noise * (level - next_level).sqrt()
        if sde.kind == "cps":
            return next_level * math.sin(sde.noise * math.pi / 2)
        raise ValueError(
            f"sde '{sde.kind}' is for diffusion models: use flow, dance or cps with a flow model"
        )

    def transition(
        self,
        noisy: Tensor,
        prediction: Tensor,
        level: Tensor,
        next_level: Tensor,
        *,
        sde: Sde,
        next: Tensor | None = None,
        generator: Generators = None,
    ) -> Transition:
        noisy, velocity = wide(noisy), wide(prediction)
        level, next_level = level.to(noisy.device), next_level.to(noisy.device)
        std = self.transition_std(level, next_level, sde=sde)
        sigma, sigma_next = expand(level, noisy), expand(next_level, noisy)
        if sde.kind == "flow":
            square = expand(_flow_scale(level, next_level, sde.noise), noisy).square()
            keep = 1 + square / (2 * sigma) * (sigma_next - sigma)
            move = (1 + square * (1 - sigma) / (2 * sigma)) * (sigma_next - sigma)
            mean = noisy * keep + velocity * move
        elif sde.kind == "dance":
            noise = self.predict_noise(noisy, velocity, level)
            mean = noisy + (velocity + 0.5 * sde.noise**2 * noise / sigma) * (sigma_next - sigma)
        else:
            clean, noise = (
                self.predict_clean(noisy, velocity, level),
                self.predict_noise(noisy, velocity, level),
            )
            kept = sigma_next * math.cos(sde.noise * math.pi / 2)  # sqrt(sigma'^2 - std^2)
            mean = (1 - sigma_next) * clean + kept * noise
        return finish_transition(mean, std, sde=sde, next=next, generator=generator)

    def sample_levels(
        self, num: int, *, density: Density, generator: torch.Generator | None, device: torch.device | str
    ) -> Tensor:
        """Sigmas in [1/T, 1], shifted as the scheduler's static shift says (SD3's own training does the
        same).
        """
        config = self.scheduler.config
        first = 1 / int(config["num_train_timesteps"])
        fractions = draw_fractions(num, density=density, generator=generator, device=device)
        shift = 1.0 if config.get("use_dynamic_shifting", False) else float(config.get("shift", 1.0))
        return shift_level(first + (1 - first) * fractions, shift)

    def schedule(self, num_steps: int, *, image_seq_len: int | None = None) -> Tensor:
        return flow_levels(
            self.scheduler, num_steps, image_seq_len=image_seq_len, uniform_sigmas=self.uniform_sigmas
        )

    def model_time(self, level: Tensor) -> Tensor:
        return level * int(self.scheduler.config["num_train_timesteps"])


def _flow_scale(level: Tensor, next_level: Tensor, noise: float) -> Tensor:
    """s = a sqrt(sigma / (1 - sigma*)), sigma* = sigma' where sigma is 1."""
    patched = torch.where(level >= 1, next_level, level)
    return noise * (level / (1 - patched)).sqrt()
