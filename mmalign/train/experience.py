"""What an iteration gathers: prompts become samples, samples become rewards, all in the micro-batches of a plan.

Every sample of an iteration has a number; its first noise, its steps and its training noise come from streams
named by that number, so they are the same whichever process makes it.

Shape legend: `B` micro-batch, `T` frames, `C H W` pixels, `R` rewards, `...` the shape of one latent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mmalign.config import Model, Recipe
from mmalign.data.prompts import Prompt
from mmalign.pending import Asynchronous, Later, Pending, Ready
from mmalign.policies.base import Policy
from mmalign.policies.sources import fitted
from mmalign.process import Sde
from mmalign.rollout import rollout
from mmalign.seeds import generators
from mmalign.types import Conditions, Sample, Scores, Trajectory, as_frames

RewardFunction = Callable[[Sequence[Sample]], Scores]


@dataclass(frozen=True, eq=False)
class Batch:
    """A micro-batch of experience. `credit` is what the method makes of the rewards; pairs have a `loser`."""

    index: Tensor  # (B,) int64, numbers of the samples within the iteration
    clean: Tensor  # (B, ...)
    conditions: Conditions
    credit: Tensor  # (B,)
    trajectory: Trajectory | None = None
    loser: Tensor | None = None  # (B, ...)

    def select(self, rows: Tensor) -> Batch:
        """The samples at integer positions `rows`; a trajectory is kept whole only, so it is dropped."""
        loser = None if self.loser is None else self.loser[rows.to(self.clean.device)]
        return Batch(
            self.index[rows.to(self.index.device)],
            self.clean[rows.to(self.clean.device)],
            self.conditions.select(rows),
            self.credit[rows.to(self.credit.device)],
            loser=loser,
        )

    @classmethod
    def cat(cls, parts: Sequence[Batch]) -> Batch:
        """All samples of several batches without their trajectories."""
        losers = [part.loser for part in parts if part.loser is not None]
        return cls(
            torch.cat([part.index for part in parts]),
            torch.cat([part.clean for part in parts]),
            Conditions.cat([part.conditions for part in parts]),
            torch.cat([part.credit for part in parts]),
            loser=torch.cat(losers) if losers else None,
        )

    def split(self, size: int) -> list[Batch]:
        """In order, in micro-batches of at most `size`."""
        rows = torch.arange(self.index.shape[0])
        return [self.select(part) for part in rows.split(size)]


def sources_of(
    policy: Policy, given: Sequence[Path | Tensor | None], size: tuple[int, int] | None
) -> Tensor | None:
    """The source images (B, 1, C, H, W) of edits at a size the policy takes, or None where there are none."""
    if all(source is None for source in given):
        return None
    if any(source is None for source in given):
        raise ValueError("some prompts have a source and some have none: keep edits and generation apart")
    images = [fitted(as_frames(source)[0], policy, size) for source in given if source is not None]
    shapes = sorted({tuple(image.shape[-2:]) for image in images})
    if len(shapes) > 1:
        raise ValueError(
            f"sources of one batch differ in shape ({shapes[:3]}): bring them to one aspect ratio"
        )
    return torch.stack(images).to(policy.device)


def encode(
    policy: Policy,
    prompts: Sequence[Prompt],
    model: Model,
    *,
    guidance: float,
    sources: Sequence[Tensor | None] | None = None,
) -> Conditions:
    """Each prompt once through the text encoders; `sources` are those of the prompts, decoded already."""
    given = [prompt.source for prompt in prompts] if sources is None else sources
    return policy.encode(
        [prompt.text for prompt in prompts],
        sources=sources_of(policy, given, model.size),
        size=model.size,
        num_frames=model.num_frames,
        guidance=guidance,
    )


def sde_of(recipe: Recipe) -> Sde | None:
    """The stochastic sampler of a recipe."""
    noise = recipe.rollout.sde
    return None if noise is None else Sde(noise.kind, noise.noise)


def window_of(recipe: Recipe, iteration: int) -> range | None:
    """The stochastic steps of an iteration; without a window all steps but the last, which ends clean."""
    steps, window = recipe.rollout.num_steps, recipe.rollout.window
    if recipe.rollout.sde is None:
        return None
    if window is None:
        return range(max(1, steps - 1))
    low, high = window.range
    starts = high - low - window.size + 1
    if window.start == "progressive":
        start = (iteration // window.advance_every) % starts
    else:
        (stream,) = generators(recipe.seed, iteration, "window", index=[0])
        start = int(torch.randint(starts, (1,), generator=stream))
    return range(low + start, low + start + window.size)


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Makes the samples of micro-batches."""

    policy: Policy
    recipe: Recipe
    sampler: str = "policy"

    def draw(
        self, iteration: int, index: Sequence[int], conditions: Conditions, groups: list[int]
    ) -> Trajectory:
        """One micro-batch under the weights of the sampler; only stochastic rollouts keep their steps."""
        recipe, settings = self.recipe, self.recipe.rollout
        ids = groups if settings.same_latent else index
        latents = self.policy.initial_latents(
            len(index),
            generators=generators(recipe.seed, iteration, "latent", index=ids),
            size=recipe.model.size,
            num_frames=recipe.model.num_frames,
        )
        with self.policy.weights.using(self.sampler):
            return rollout(
                self.policy,
                conditions,
                latents,
                num_steps=settings.num_steps,
                guidance=settings.guidance,
                sde=sde_of(recipe),
                window=window_of(recipe, iteration),
                groups=torch.tensor(groups),
                generators=generators(recipe.seed, iteration, "step", index=index),
                record=recipe.method.name == "grpo",
            )


def as_samples(
    policy: Policy, clean: Tensor, prompts: Sequence[Prompt], names: Sequence[str]
) -> tuple[list[Sample], Tensor]:
    """Latents as samples to judge, and their media (B, T, C, H, W)."""
    media = policy.decode(clean)
    samples = [
        Sample(prompt.text, frames, source=prompt.source, id=name, metadata=prompt.metadata)
        for prompt, frames, name in zip(prompts, media, names, strict=True)
    ]
    return samples, media


def judge(reward: RewardFunction, samples: Sequence[Sample]) -> Scores:
    """The scores of the samples; one each, or it is an error."""
    with torch.no_grad():
        return _one_each(reward(samples), len(samples))


def judge_later(reward: RewardFunction, samples: Sequence[Sample]) -> Pending:
    """The same, begun now: a reward that can answer later (`mmalign.pending`) works while the next are sampled."""
    with torch.no_grad():
        pending = (
            reward.submit(samples=samples) if isinstance(reward, Asynchronous) else Ready(reward(samples))
        )
    return Later([pending], partial(_checked, len(samples)))


def _checked(num: int, parts: list[Scores]) -> Scores:
    return _one_each(parts[0], num)


def _one_each(scores: Scores, num: int) -> Scores:
    if len(scores) != num:
        raise ValueError(f"the reward gave {len(scores)} scores for {num} samples: it must give one each")
    return scores
