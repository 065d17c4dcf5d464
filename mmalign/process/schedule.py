"""The levels that stock diffusers pipelines visit, and the levels to train at.

Shape legend: `S` sampling steps; schedules are (S+1,) float32 on the CPU, from noise to clean.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.process.base import Density


def dynamic_shift(image_seq_len: int, config: Any) -> float:
    """The `mu` by which FLUX, SD3 and Qwen-Image pipelines shift the schedule: linear in the number of
    tokens.

    >>> dynamic_shift(256, {"base_shift": 0.5, "max_shift": 1.15})
    0.5
    """
    base_len, max_len = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    base_shift, max_shift = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (max_shift - base_shift) / (max_len - base_len)
    return float(image_seq_len * slope + (base_shift - slope * base_len))


def flow_levels(
    scheduler: Any, num_steps: int, *, image_seq_len: int | None = None, uniform_sigmas: bool = False
) -> Tensor:
    """The sigmas of a FlowMatchEulerDiscreteScheduler, set the way its pipeline does.

    `uniform_sigmas`: the pipeline hands linspace(1, 1/S, S) to the scheduler (FLUX, Kontext, Qwen-Image);
    otherwise the scheduler makes its own (SD3, Wan).
    """
    scheduler = copy.deepcopy(scheduler)
    options: dict[str, Any] = {}
    if scheduler.config.get("use_dynamic_shifting", False):
        if image_seq_len is None:
            raise ValueError("this scheduler shifts by image size (use_dynamic_shifting): pass image_seq_len")
        options["mu"] = dynamic_shift(image_seq_len, scheduler.config)
    if uniform_sigmas:
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / num_steps, num_steps), **options)
    else:
        scheduler.set_timesteps(num_steps, **options)
    return torch.as_tensor(scheduler.sigmas, dtype=torch.float32).cpu()


def diffusion_levels(scheduler: Any, num_steps: int) -> Tensor:
    """The timesteps of a DDIM scheduler, and -1 for the clean end."""
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(num_steps)
    timesteps = torch.as_tensor(scheduler.timesteps).float().cpu()
    return torch.cat([timesteps, torch.tensor([-1.0])])


def shift_level(sigma: Tensor, shift: float) -> Tensor:
    """Move mass toward noise (shift > 1): sigma' = s sigma / (1 + (s - 1) sigma).

    >>> shift_level(torch.tensor(0.5), 3.0)
    tensor(0.7500)
    """
    return shift * sigma / (1 + (shift - 1) * sigma)


def draw_fractions(
    num: int, *, density: Density, generator: torch.Generator | None, device: torch.device | str
) -> Tensor:
    """Fractions (num,) in [0, 1): uniform, or the sigmoid of a standard normal."""
    if density not in ("uniform", "logit_normal"):
        raise ValueError(f"density '{density}' is unknown: use uniform or logit_normal")
    where = device if generator is None else generator.device
    if density == "uniform":
        drawn = torch.rand(num, generator=generator, device=where)
    else:
        drawn = torch.randn(num, generator=generator, device=where).sigmoid()
    return drawn.to(device)
