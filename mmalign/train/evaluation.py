"""The recurring examination of a policy: fixed held-out prompts x fixed seeds, deterministic sampler.

The optimised reward (`proxy`) and rewards that are never optimised are measured on the same pictures, so
over-optimisation shows. Work is dealt out to the processes sample by sample and gathered again.

Shape legend: `B` micro-batch, `N` evaluated samples, `R` rewards, `T` frames, `C H W` pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from mmalign.config import Recipe
from mmalign.data.prompts import Prompt
from mmalign.policies.base import Policy
from mmalign.rollout import rollout
from mmalign.seeds import generators
from mmalign.train.distributed import Processes
from mmalign.train.experience import RewardFunction, as_samples, encode, judge
from mmalign.train.loop import Report

PROXY = "reward"


@dataclass(frozen=True, eq=False)
class Examination:
    """What is measured on what. `heldout` rewards are named and never optimised."""

    policy: Policy
    recipe: Recipe
    prompts: Sequence[Prompt]
    processes: Processes
    proxy: RewardFunction | None = None
    heldout: Mapping[str, RewardFunction] = field(default_factory=dict)

    def run(self, weights: str) -> Report:
        """Means with standard errors of every reward, a row a sample, and a grid of pictures."""
        settings = self.recipe.evaluation
        num = len(self.prompts) * settings.seeds_per_prompt
        if num < self.processes.num:
            raise ValueError(
                f"{num} evaluated samples cannot keep {self.processes.num} processes busy: ask for more"
            )
        mine = list(range(num))[self.processes.rank :: self.processes.num]
        size = settings.batch_size
        names: list[str] = []
        tables, pictures = [], []
        starts = range(0, len(mine), size)
        for start in tqdm(starts, desc="evaluating", leave=False, disable=not self.processes.is_main):
            columns, media = self.samples(mine[start : start + size], weights)
            names = list(columns)
            tables.append(
                torch.stack(list(columns.values()), dim=1) if columns else torch.zeros(len(media), 0)
            )
            pictures.append(media[:, 0].cpu())
        back = self.processes.gather(torch.tensor(mine)).argsort()
        table = self.processes.gather(torch.cat(tables))[back]
        picture = self.processes.gather(torch.cat(pictures))[back]
        rows, per_row = settings.grid[0], min(settings.grid[1], num)
        return Report(
            dict(_describe(names, table)), picture[: rows * per_row], per_row, tuple(self._rows(names, table))
        )

    def _rows(self, names: Sequence[str], table: Tensor) -> Iterator[dict[str, Any]]:
        """What is kept of every sample: prompt, seed and scores; null where it could not be judged."""
        for number, values in enumerate(table.tolist()):
            prompt, seed = self._asked(number)
            scores = {name: v if math.isfinite(v) else None for name, v in zip(names, values, strict=True)}
            yield {"prompt": prompt.text, "seed": seed, "scores": scores}

    def _asked(self, number: int) -> tuple[Prompt, int]:
        """Prompt and seed of a sample; a prompt that is asked again goes on with further seeds."""
        place, seed = divmod(number, self.recipe.evaluation.seeds_per_prompt)
        prompt = self.prompts[place]
        before = sum(earlier.text == prompt.text for earlier in self.prompts[:place])
        return prompt, before * self.recipe.evaluation.seeds_per_prompt + seed

    def _rewards(self) -> dict[str, RewardFunction]:
        proxy = {} if self.proxy is None else {PROXY: self.proxy}
        return {**proxy, **self.heldout}

    @torch.no_grad()
    def samples(self, index: Sequence[int], weights: str) -> tuple[dict[str, Tensor], Tensor]:
        """Rewards by name, each (B,), and media (B, T, C, H, W) of the samples numbered `index`.

        A reward of several dimensions has a column `name` for its overall score and `name/dimension` for each.
        """
        recipe, settings = self.recipe, self.recipe.evaluation
        prompts, seeds = zip(*(self._asked(i) for i in index), strict=True)
        conditions = encode(self.policy, prompts, recipe.model, guidance=settings.guidance)
        streams = [
            generators("evaluation", prompt.text, index=[seed])[0]
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        latents = self.policy.initial_latents(
            len(index), generators=streams, size=recipe.model.size, num_frames=recipe.model.num_frames
        )
        trained, negative = ("reference", weights) if recipe.method.negative else (weights, None)
        with self.policy.weights.using(trained):
            made = rollout(
                self.policy,
                conditions,
                latents,
                num_steps=settings.num_steps,
                guidance=settings.guidance,
                negative=negative,
                record=False,
            )
        names = [f"{i // settings.seeds_per_prompt}-{seed}" for i, seed in zip(index, seeds, strict=True)]
        samples, media = as_samples(self.policy, made.clean, prompts, names)
        columns: dict[str, Tensor] = {}
        for name, reward in self._rewards().items():
            scores = judge(reward, samples)
            columns[name] = scores.overall.cpu()
            if len(scores.names) > 1:
                columns |= {
                    f"{name}/{part}": scores.values[:, i].cpu() for i, part in enumerate(scores.names)
                }
        return columns, media


def _describe(names: list[str], table: Tensor) -> list[tuple[str, float]]:
    """Mean and standard error of each column over what could be judged, and how much could not."""
    rows: list[tuple[str, float]] = []
    for position, name in enumerate(names):
        column = table[:, position]
        known = column[torch.isfinite(column)].double()
        count = len(known)
        error = float(known.std(unbiased=True)) / math.sqrt(count) if count > 1 else float("nan")
        rows.append((name, float(known.mean()) if count else float("nan")))
        rows.append((f"{name}_error", error))
        if count < len(column):
            rows.append((f"{name}_not_judged", float(len(column) - count)))
    return rows
