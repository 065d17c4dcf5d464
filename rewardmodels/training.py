"""What training a VLM reward adds to the task of all rewards (`rewardmodels.task`): pairs, lists or ratings to scores
to loss. A bundle becomes one forward pass (`rewardmodels.reading`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from mmalign.seeds import generator
from mmalign.train.distributed import Processes
from mmalign.train.skips import Skips
from mmalign.types import Loss, PreferencePair, Sample
from rewardmodels.calibrated import with_calibration
from rewardmodels.losses import (
    Listed,
    TieWidth,
    list_loss,
    lists_of,
    loss_of,
    rating_loss,
    with_overall,
)
from rewardmodels.reading import (
    distinct,
    read_lists,
    read_samples,
    refused,
    unreadable,
)
from rewardmodels.recipe import RewardRecipe
from rewardmodels.sources import PairSource
from rewardmodels.task import RewardTask, Seen
from rewardmodels.tuning import SpecialRows, merged, tune
from rewardmodels.vlm import VlmReward

Examine = Callable[[VlmReward, int], Mapping[str, float]]


class RewardTraining(RewardTask[VlmReward, RewardRecipe]):
    """A VLM with a head learns from pairs, lists or ratings."""

    def __init__(
        self, model: VlmReward, recipe: RewardRecipe, source: PairSource, processes: Processes,
        *, examine: Examine | None = None, skips: Skips | None = None,
    ) -> None:  # fmt: skip
        tune(model, recipe.model, seed=recipe.seed)
        super().__init__(model, recipe, source, processes, examine=examine, skips=skips)
        method = recipe.method
        self.width: TieWidth | None = None
        if method.learn_tie_width:
            self.width = TieWidth(method.loss, method.tie_width, len(method.label_dimensions)).to(
                processes.device
            )

    def parameters(self) -> list[nn.Parameter]:
        """Backbone, head, and the tie parameter if it is learned."""
        return super().parameters() + self._extra()

    def _extra(self) -> list[nn.Parameter]:
        return [] if self.width is None else [self.width.raw]

    def not_matrices(self) -> list[nn.Parameter]:
        """Embeddings and the head, which an optimiser for matrices leaves alone."""
        tables = [m for m in self.model.modules() if isinstance(m, nn.Embedding | SpecialRows)]
        return [p for module in (*tables, self.model.head) for p in module.parameters()] + self._extra()

    def _unreadable(self, samples: Sequence[Sample], seen: Seen) -> dict[int, str]:
        return unreadable(self.model, samples, seen)

    def _refused(self, samples: Sequence[Sample], seen: Seen) -> dict[int, str]:
        return refused(self.model, samples, seen)

    def _pair_loss(self, bundle: Sequence[PreferencePair], number: int, seen: Seen) -> Loss:
        samples, first, second = distinct(bundle)
        with self._draws(number):
            read = read_samples(self.model, samples, seen)
        if self.recipe.method.train_overall:
            read = with_overall(read, self.model.settings.overall)
        return loss_of(
            self.recipe.method, read, bundle, first, second,
            width=None if self.width is None else self.width(),
            generator=generator(self.recipe.seed, "uncertainty", number),
        )  # fmt: skip

    def _rating_loss(self, samples: Sequence[Sample], number: int, seen: Seen) -> Loss:
        with self._draws(number):
            read = read_samples(self.model, samples, seen)
        return rating_loss(self.recipe.method, read, samples)

    def _list_loss(self, bundle: Sequence[PreferencePair], number: int, seen: Seen) -> Loss:
        alike: dict[tuple[int, bool], list[Listed]] = {}
        for one in lists_of(bundle, self.recipe.method.dimensions[0]):
            alike.setdefault((len(one.samples), one.one_prompt), []).append(one)
        if not alike:
            return self._nothing()
        draws, parts = generator(self.recipe.seed, "candidates", number), []
        with self._draws(number):
            for members in alike.values():
                scores = read_lists(self.model, members, draws, seen)
                parts.append(list_loss(self.recipe.method, scores, members))
        metrics = {key: torch.stack([part.metrics[key] for part in parts]).mean() for key in parts[0].metrics}
        return Loss(torch.cat([part.per_sample for part in parts]), metrics)

    @contextmanager
    def result(self) -> Iterator[VlmReward]:
        """The model that is saved, within a `with`: averaged, its adapters merged, with what was learned beside it."""
        with self.averaged() as model, merged(model):
            if self.width is not None:
                with_calibration(model, tie_width=tuple(self.width().tolist()))
            yield model

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and averages, what was left out, and the tie parameter."""
        extra = {} if self.width is None else {"tie_width": self.width.raw.detach()}
        return super().state_dict() | extra

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state_dict()`."""
        super().load_state_dict(state)
        if self.width is not None:
            self.width.raw.copy_(state["tie_width"])

    def save(self, folder: Path) -> None:
        """The reward model, not yet calibrated; `pipelines.train_reward` writes it again with its calibration."""
        with self.result() as model:
            model.save(folder / "reward", dtype=getattr(torch, self.recipe.save_dtype))
