"""Variance-preserving diffusion: x_t = a x0 + b e, a^2 = abar_t, b^2 = 1 - abar_t (SD 1.5, SDXL, CogVideoX).

Shape legend: `B` samples, `...` the shape of one latent, `S` sampling steps, `T` training timesteps. Level:
the timestep T-1 ... 0 as float, scalar or (B,); -1 is the clean end, whose abar is the scheduler's
final_alpha_cumprod.

Sources: DDIM (arXiv 2010.02502) eqs. 12 and 16; log-probability as in DDPO (2305.13301). The network
predicts the noise (epsilon), v = a e - b x0, or the clean latents (sample). With abar' of the next level:

    var = (1 - abar') / (1 - abar) (1 - abar / abar'),  std = eta sqrt(var)
    mu  = sqrt(abar') x0^ + sqrt(1 - abar' - std^2) e^

v and sample never divide by a, so they stay finite at zero terminal SNR (abar = 0), where epsilon is refused.

Differences from diffusers: a step goes to the next level of the schedule. DDIMScheduler goes to t - T // S,
the same thing for leading spacing and wherever S divides T with trailing spacing; with linspace spacing, or
S not dividing T, the stock scheduler lands beside the timestep it continues from, and we do not repeat
that. Non-DDIM schedulers (PNDM, DDPM, Euler, DPM) give their alphas, spacing and prediction type to a DDIM
process: same model, DDIM's steps, latents that start at unit variance.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mmalign.process.base import Density, Generators, Prediction, Sde, expand, finish_transition, wide
from mmalign.process.schedule import diffusion_levels, draw_fractions
from mmalign.types import Transition

PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v", "sample": "sample"}


@dataclass(frozen=True, eq=False)
class Diffusion:
    """The diffusion process with the alphas and the schedule of a stock DDIM scheduler."""

    scheduler: Any
    alphas: Tensor  # (T+1,) float32: abar of the clean end, then of t = 0 ... T-1
    prediction: Prediction
    clip: float | None = None  # the range of predicted clean latents inside a step (pixel-space models)
    kind: Literal["diffusion"] = "diffusion"

    @classmethod
    def from_scheduler(cls, scheduler: Any) -> Diffusion:
        """From a pipeline's scheduler; others than DDIM are converted (see the top of this file)."""
        from diffusers import CogVideoXDDIMScheduler, DDIMScheduler

        if not isinstance(scheduler, DDIMScheduler | CogVideoXDDIMScheduler):
            clip = {} if "clip_sample" in scheduler.config else {"clip_sample": False}
            scheduler = DDIMScheduler.from_config(scheduler.config, **clip)
        config = scheduler.config
        if config.get("thresholding", False):
            raise ValueError(
                "dynamic thresholding depends on the whole image and is not supported: set it to False"
            )
        if config.prediction_type not in PREDICTIONS:
            raise ValueError(
                f"prediction_type '{config.prediction_type}' is unknown: use {', '.join(PREDICTIONS)}"
            )
        alphas = torch.cat([scheduler.final_alpha_cumprod.reshape(1), scheduler.alphas_cumprod]).float()
        prediction = PREDICTIONS[config.prediction_type]
        if prediction == "epsilon" and bool((alphas == 0).any()):
            raise ValueError(
                "an epsilon model cannot be used with zero terminal SNR (its noisiest timestep does not show "
                "the image): set rescale_betas_zero_snr to False, or use a v_prediction model"
            )
        clip_range = float(config.clip_sample_range) if config.get("clip_sample", False) else None
        return cls(copy.deepcopy(scheduler), alphas, prediction, clip_range)

    def alpha(self, level: Tensor) -> Tensor:
        """abar at a level, of its shape."""
        return self.alphas.to(level.device)[level.long() + 1]

    def _coefficients(self, level: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        alpha = expand(self.alpha(level), like)
        return alpha.sqrt(), (1 - alpha).sqrt()

    def add_noise(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        a, b = self._coefficients(level, clean)
        return a * wide(clean) + b * wide(noise)

    def target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        clean, noise = wide(clean), wide(noise)
        if self.prediction == "v":
            a, b = self._coefficients(level, clean)
            return a * noise - b * clean
        return noise if self.prediction == "epsilon" else clean

    def predict_clean(self, noisy: Tensor, prediction: Tensor, level: Tensor) -> Tensor:
        return self._split(wide(noisy), wide(prediction), level)[0]

    def predict_noise(self, noisy: Tensor, prediction: Tensor, level: Tensor) -> Tensor:
        return self._split(wide(noisy), wide(prediction), level)[1]

    def _split(self, noisy: Tensor, prediction: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """(clean, noise) that a prediction implies, in the dtype given."""
        a, b = self._coefficients(level, noisy)
        if self.prediction == "epsilon":
            return (noisy - b * prediction) / a, prediction
        if self.prediction == "v":
            return a * noisy - b * prediction, a * prediction + b * noisy
        return prediction, (noisy - a * prediction) / b

    def _mean(
        self, noisy: Tensor, prediction: Tensor, level: Tensor, next_level: Tensor, std: Tensor
    ) -> Tensor:
        clean, noise = self._split(noisy, prediction, level)
        if self.clip is not None:
            clean = clean.clamp(-self.clip, self.clip)
        next_alpha = expand(self.alpha(next_level), noisy)
        direction = (1 - next_alpha - expand(std, noisy).square()).clamp(min=0).sqrt()
        return next_alpha.sqrt() * clean + direction * noise

    def step(self, noisy: Tensor, prediction: Tensor, level: Tensor, next_level: Tensor) -> Tensor:
        level, next_level = level.to(noisy.device), next_level.to(noisy.device)
        still = torch.zeros((), device=noisy.device)
        return self._mean(noisy, prediction, level, next_level, still).to(noisy.dtype)

    def transition_std(self, level: Tensor, next_level: Tensor, *, sde: Sde) -> Tensor:
        if sde.kind != "ddim":
            raise ValueError(f"sde '{sde.kind}' is for flow models: use ddim with a diffusion model")
        alpha, next_alpha = self.alpha(level), self.alpha(next_level)
        variance = (1 - next_alpha) / (1 - alpha) * (1 - alpha / next_alpha)
        return sde.noise * variance.clamp(min=0).sqrt()

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
        level, next_level = level.to(noisy.device), next_level.to(noisy.device)
        std = self.transition_std(level, next_level, sde=sde)
        mean = self._mean(wide(noisy), wide(prediction), level, next_level, std)
        return finish_transition(mean, std, sde=sde, next=next, generator=generator)

    def sample_levels(
        self, num: int, *, density: Density, generator: torch.Generator | None, device: torch.device | str
    ) -> Tensor:
        """Timesteps 0 ... T-1."""
        num_train = self.alphas.shape[0] - 1
        fractions = draw_fractions(num, density=density, generator=generator, device=device)
        return (fractions * num_train).floor().clamp(max=num_train - 1)

    def schedule(self, num_steps: int, *, image_seq_len: int | None = None) -> Tensor:
        return diffusion_levels(self.scheduler, num_steps)

    def model_time(self, level: Tensor) -> Tensor:
        return level.long()
