"""What both processes share: the interface, the choice of noise, and the log-probability of a step.

Shape legend: `B` samples, `...` the shape of one latent, `S` sampling steps. A *level* is a float tensor, a
scalar or (B,): for flow the sigma in [0, 1] (1 noise, 0 clean); for diffusion the discrete timestep (T-1
... 0, and -1 is clean). Conversions and transitions are computed and returned in float32 (float64 stays
float64).

Differences from the papers: log-probabilities are the MEAN over the dimensions of a latent, not their sum,
as in all published code; clip ranges and KL weights belong to that convention. A step without noise has no
density: sampling it gives log-prob 0, and replaying it is an error (ddpo-pytorch has no such step: it clamps
prev_timestep to >= 0, so its sampler ends at t = 0 instead of at the clean end).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from mmalign.types import Transition

SdeKind = Literal["flow", "dance", "cps", "ddim"]
Prediction = Literal["velocity", "epsilon", "v", "sample"]
Density = Literal["uniform", "logit_normal"]
Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None


@dataclass(frozen=True)
class Sde:
    """How a stochastic step adds noise: `noise` is a (flow, cps), eta (dance, ddim); 0 is the plain
    sampler.
    """

    kind: SdeKind
    noise: float

    def __post_init__(self) -> None:
        if self.noise < 0 or (self.kind == "cps" and self.noise > 1):
            raise ValueError(
                f"sde noise {self.noise} of '{self.kind}' is out of range: use >= 0 (cps: 0 to 1)"
            )


class Process(Protocol):
    """How clean latents become noisy and how a network's prediction leads back."""

    @property
    def kind(self) -> Literal["flow", "diffusion"]: ...

    @property
    def prediction(self) -> Prediction: ...

    def add_noise(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """The noisy latents at a level."""

    def target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """What the network should predict."""

    def predict_clean(self, noisy: Tensor, prediction: Tensor, level: Tensor) -> Tensor:
        """The clean latents that a prediction implies."""

    def predict_noise(self, noisy: Tensor, prediction: Tensor, level: Tensor) -> Tensor:
        """The noise that a prediction implies."""

    def step(self, noisy: Tensor, prediction: Tensor, level: Tensor, next_level: Tensor) -> Tensor:
        """One deterministic step with the arithmetic, and the dtype, of the stock scheduler."""

    def transition_std(self, level: Tensor, next_level: Tensor, *, sde: Sde) -> Tensor:
        """The standard deviation of a stochastic step; 0 where the step is deterministic."""

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
        """One stochastic step; with `next` given, the log-probability of that outcome (replay)."""

    def sample_levels(
        self, num: int, *, density: Density, generator: torch.Generator | None, device: torch.device | str
    ) -> Tensor:
        """Levels (num,) to train at."""

    def schedule(self, num_steps: int, *, image_seq_len: int | None = None) -> Tensor:
        """The levels (S+1,) that the stock pipeline visits, from noise to clean."""

    def model_time(self, level: Tensor) -> Tensor:
        """A level in the units of the stock scheduler's `timesteps`."""


def wide(values: Tensor) -> Tensor:
    """In float32, or as it is if float64."""
    return values if values.dtype == torch.float64 else values.float()


def expand(level: Tensor, like: Tensor) -> Tensor:
    """A scalar or (B,) tensor shaped to multiply (B, ...); a scalar stays a scalar.

    >>> expand(torch.ones(2), torch.ones(2, 3, 4)).shape
    torch.Size([2, 1, 1])
    """
    level = level.to(like.device)
    return level if level.ndim == 0 else level.reshape(-1, *([1] * (like.ndim - 1)))


def sample_mean(values: Tensor) -> Tensor:
    """The mean over all but the first dimension, (B, ...) -> (B,)."""
    return values.flatten(1).mean(dim=1)


def gaussian_noise(like: Tensor, generator: Generators) -> Tensor:
    """Standard normal noise shaped like (B, ...), drawn where the generator lives; a list gives one per
    sample.
    """
    if generator is None or isinstance(generator, torch.Generator):
        where = like.device if generator is None else generator.device
        drawn = torch.randn(like.shape, generator=generator, device=where, dtype=like.dtype)
        return drawn.to(like.device)
    if len(generator) != like.shape[0]:
        raise ValueError(
            f"{len(generator)} generators for {like.shape[0]} samples: give one each, or a single one"
        )
    return torch.cat([gaussian_noise(row[None], one) for row, one in zip(like, generator, strict=True)])


def step_log_prob(outcome: Tensor, mean: Tensor, std: Tensor, *, kind: SdeKind) -> Tensor:
    """Log-probability (B,) of (B, ...) outcomes, mean over dimensions; a step with std 0 has 0.

    CPS uses -(x' - mu)^2 without constants and without 1 / (2 std^2), as its authors do.
    """
    error = sample_mean((outcome.detach() - mean).square())
    if kind == "cps":
        return -error
    safe = torch.where(std > 0, std, torch.ones_like(std)).to(error.device)
    density = -error / (2 * safe.square()) - safe.log() - 0.5 * math.log(2 * math.pi)
    return torch.where((std > 0).to(error.device), density, torch.zeros_like(density))


def finish_transition(
    mean: Tensor, std: Tensor, *, sde: Sde, next: Tensor | None, generator: Generators
) -> Transition:
    """Draw the outcome of a step, or judge a given one."""
    if next is None:
        outcome = mean + expand(std, mean) * gaussian_noise(mean, generator)
    else:
        if bool((std <= 0).any()):
            raise ValueError(
                f"a step of the '{sde.kind}' sampler adds no noise here (std 0), so its outcome has no "
                "log-probability: leave deterministic steps out of the recorded window, or use sde.noise > 0"
            )
        outcome = next.to(mean.dtype)
    return Transition(outcome, mean, std, step_log_prob(outcome, mean, std, kind=sde.kind))
