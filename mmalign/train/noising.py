"""The draws of a denoising loss: at which level, with which noise, and what the network should have said.

Levels and noise belong to a numbered sample, a pass and a draw, never to a process; the same draw serves every
policy (trained, old, reference) and both sides of a pair.

Shape legend: `B` micro-batch, `N` samples of an iteration, `J` draws a sample, `S` steps, `...` one latent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmalign.method_options import Levels
from mmalign.process import Process
from mmalign.seeds import generator, generators, normal


@dataclass(frozen=True, eq=False)
class Draw:
    """One level and one noise for each sample of a micro-batch."""

    level: Tensor  # (B,)
    noise: Tensor  # (B, ...)
    process: Process

    def noisy(self, clean: Tensor) -> Tensor:
        """The noisy latents (B, ...)."""
        return self.process.add_noise(clean, self.noise, self.level)

    def target(self, clean: Tensor) -> Tensor:
        """What the network should predict (B, ...)."""
        return self.process.target(clean, self.noise, self.level)


def levels_for(
    settings: Levels, process: Process, schedule: Tensor, *, num: int, stream: tuple[int, ...]
) -> Tensor:
    """Levels (N, J) of all samples of an iteration, on the CPU; `schedule` (S+1,) are the rollout's own levels.

    The density `schedule` draws J different steps of the rollout for each sample.
    """
    source = generator(*stream, "levels")
    if settings.density == "schedule":
        first, last = settings.steps or (0, len(schedule) - 1)
        if last >= len(schedule):
            raise ValueError(f"method.levels.steps end after the {len(schedule) - 1} steps of the rollout")
        steps = schedule[first:last].cpu()
        if settings.per_sample > len(steps):
            raise ValueError(
                f"method.levels.per_sample {settings.per_sample} is more than the {len(steps)} steps to draw from"
            )
        order = torch.rand((num, len(steps)), generator=source).argsort(dim=1)
        return steps[order[:, : settings.per_sample]]
    drawn = process.sample_levels(
        num * settings.per_sample, density=settings.density, generator=source, device="cpu"
    )
    return drawn.reshape(num, settings.per_sample)


def dropped(num: int, share: float, *, stream: tuple[int, ...]) -> Tensor:
    """Which of the samples of an iteration lose their prompt in this pass, (N,) bool on the CPU."""
    return torch.rand(num, generator=generator(*stream, "dropout")) < share


def draw(
    process: Process, levels: Tensor, clean: Tensor, index: Tensor, *, which: int, stream: tuple[int, ...]
) -> Draw:
    """Draw number `which` for the samples numbered `index` (B,), given the levels (N, J) of the iteration."""
    streams = generators(*stream, "noise", which, index=index.tolist())
    noise = normal(clean.shape[1:], streams, clean)
    return Draw(levels[index.cpu(), which].to(clean.device), noise, process)
