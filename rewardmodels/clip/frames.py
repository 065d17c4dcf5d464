"""Rewards that look at one square picture at a time: a video's score is the mean over its frames.

Pictures are squared as they come in, one by one, and then judged in batches whatever their first size was; equal
prompts of a batch are read once.

Legend: B samples, T frames, N pictures, S side, D dimensions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from mmalign.types import Modality, Sample, Scores
from rewardmodels.batching import Prepared, score
from rewardmodels.clip.squares import SquareRule, square

Look = Callable[[Tensor, Sequence[str]], Tensor]
"""Pictures (N, 3, S, S), normalised, and N prompts -> values (N, D)."""

LongPrompts = Literal["truncate", "refuse"]


@dataclass(frozen=True, eq=False)
class FrameReward:
    """`look` as a reward; `is_long` says which prompts it reads only in part (`truncate` warns, `refuse` is NaN)."""

    name: str
    dimensions: tuple[str, ...]
    modalities: frozenset[Modality]
    look: Look
    rule: SquareRule
    batch_size: int = 32
    device: str | torch.device = "cpu"
    is_long: Callable[[str], bool] | None = None
    long_prompts: LongPrompts = "truncate"
    differentiable: bool = True

    def __post_init__(self) -> None:
        if self.long_prompts not in ("truncate", "refuse"):
            raise ValueError(f"long_prompts must be 'truncate' or 'refuse', got {self.long_prompts!r}")

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Scores of pictures and videos of any sizes."""
        cut: set[str] = set()

        def fit(ready: Prepared) -> Prepared:
            if self.is_long is not None and self.is_long(ready.prompt):
                if self.long_prompts == "refuse":
                    raise ValueError(f"{self.name} would read only the beginning of this prompt: shorten it")
                cut.add(ready.prompt)
            return replace(ready, frames=square(ready.frames.to(self.device), self.rule), source=None)

        scores = score(
            samples, self._judge, names=self.dimensions, modalities=self.modalities,
            batch_size=self.batch_size, fit=fit,
        )  # fmt: skip
        if cut:
            warnings.warn(f"{self.name} read only the beginning of {len(cut)} long prompts", stacklevel=2)
        return scores

    def _judge(self, batch: Sequence[Prepared]) -> Tensor:
        num_frames = batch[0].frames.shape[0]
        pictures = torch.cat([one.frames for one in batch])
        prompts = [one.prompt for one in batch for _ in range(num_frames)]
        steps = range(0, len(prompts), self.batch_size)
        values = torch.cat(
            [self.look(pictures[i : i + self.batch_size], prompts[i : i + self.batch_size]) for i in steps]
        )
        return values.float().unflatten(0, (len(batch), num_frames)).mean(1)


def unique(prompts: Sequence[str]) -> tuple[list[str], Tensor]:
    """The different prompts in order, and for each prompt its position among them (N,).

    >>> unique(["b", "a", "b"])
    (['b', 'a'], tensor([0, 1, 0]))
    """
    different = list(dict.fromkeys(prompts))
    positions = {prompt: k for k, prompt in enumerate(different)}
    return different, torch.tensor([positions[prompt] for prompt in prompts], dtype=torch.long)
