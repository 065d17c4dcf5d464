"""The task of the loop that every reward with weights is trained by: bundles of pairs, lists or ratings to losses.

A subclass knows its model: how decoded media are kept (`Seen`), what cannot be read, and its three losses. Here is what
does not depend on it: the bundles of an update, what is left out (`mmalign.train.skips`), averaged weights,
examination, checkpoints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from mmalign.seeds import seed_of
from mmalign.train.distributed import Processes
from mmalign.train.loop import Report, Update
from mmalign.train.skips import Item, Skips, samples_of
from mmalign.types import Loss, PreferencePair, Sample
from rewardmodels.averages import Averages
from rewardmodels.clip.recipe import ClipRecipe
from rewardmodels.losses import lists_of
from rewardmodels.recipe import LIST_LOSSES, RATING_LOSSES, RewardRecipe
from rewardmodels.sources import PairSource

Model = TypeVar("Model", bound=nn.Module)
Recipe = TypeVar("Recipe", RewardRecipe, ClipRecipe)
Seen = dict[object, Any]
"""Decoded media by path, or by the id() of a tensor."""
MakeLoss = Callable[[Sequence[Item], int, Seen], Loss]
"""From pairs or samples, the number of their bundle, and their media."""


class RewardTask(ABC, Generic[Model, Recipe]):
    """One iteration is one update.

    With `skips` (the source's own) samples that cannot be read weigh nothing: their losses are left out as if they
    were zero, and what was left out is in the metrics.
    """

    def __init__(
        self, model: Model, recipe: Recipe, source: PairSource, processes: Processes,
        *, examine: Callable[[Model, int], Mapping[str, float]] | None = None, skips: Skips | None = None,
    ) -> None:  # fmt: skip
        self.model = model.to(processes.device).train()
        self.recipe: Recipe = recipe
        self.source, self.processes, self.examine, self.skips = source, processes, examine, skips
        self.averages: Averages[Model] = Averages(self.model, recipe.method.average)

    # ------------------------------------------------------------ what a subclass knows

    @abstractmethod
    def not_matrices(self) -> list[nn.Parameter]:
        """What an optimiser for matrices leaves alone."""

    @abstractmethod
    def _pair_loss(self, bundle: Sequence[PreferencePair], number: int, seen: Seen) -> Loss: ...

    @abstractmethod
    def _list_loss(self, bundle: Sequence[PreferencePair], number: int, seen: Seen) -> Loss: ...

    @abstractmethod
    def _rating_loss(self, samples: Sequence[Sample], number: int, seen: Seen) -> Loss: ...

    @abstractmethod
    def _unreadable(self, samples: Sequence[Sample], seen: Seen) -> dict[int, str]:
        """Why samples (by their id()) cannot be decoded; fills `seen`."""

    def _refused(self, samples: Sequence[Sample], seen: Seen) -> dict[int, str]:
        """Why samples (by their id()) that were decoded make no input, after a loss that could not be computed."""
        return {}

    @abstractmethod
    def result(self) -> AbstractContextManager[Model]:
        """The model that is saved, within a `with`: averaged, its adapters merged."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """The reward, not yet calibrated; the pipeline writes it again with its calibration."""

    # ------------------------------------------------------------ updates

    def parameters(self) -> list[nn.Parameter]:
        """What the recipe trains."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def updates(self, iteration: int) -> Iterator[Update]:
        """The bundles of this process for one update."""
        num, progress = self.recipe.budget.bundles_per_update, iteration / self.recipe.budget.updates
        mine = self.processes.share(iteration, num, "budget.bundles_per_update")
        work = [self._work(number, progress) for number in mine]
        yield Update(sum(count for count, _ in work), [make for _, make in work])

    def _work(self, number: int, progress: float) -> tuple[int, Callable[[], Loss]]:
        """How many losses a bundle has, and how they are made."""
        method = self.recipe.method
        if method.loss in RATING_LOSSES:
            samples = self.source.rated(number, progress)
            return len(samples), partial(self._readable, samples, number, self._rating_loss)
        bundle = self.source.bundle(number, progress)
        if method.loss in LIST_LOSSES:
            num = len(lists_of(bundle, method.dimensions[0]))
            return num, partial(self._readable, bundle, number, self._list_loss)
        return len(bundle), partial(self._readable, bundle, number, self._pair_loss)

    def _readable(self, items: Sequence[Item], number: int, make: MakeLoss[Item]) -> Loss:
        """The loss of the items whose samples can be read."""
        seen: Seen = {}
        if self.skips is None:
            return make(items, number, seen) if items else self._nothing()
        kept = self.skips.leave_out(items, self._unreadable(samples_of(items), seen))
        try:
            return make(kept, number, seen) if kept else self._nothing()
        except ValueError:
            bad = self._refused(samples_of(kept), seen)
            if not bad:
                raise
            kept = self.skips.leave_out(kept, bad)
        return make(kept, number, seen) if kept else self._nothing()

    def _nothing(self) -> Loss:
        """No losses; their sum has a gradient, which is zero."""
        return Loss(self.parameters()[0].flatten()[:0].float(), {})

    @contextmanager
    def _draws(self, number: int) -> Iterator[None]:
        """Dropout that depends on the bundle alone, so that a resumed run goes on bit by bit."""
        devices = [self.processes.device] if self.processes.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed_of(self.recipe.seed, "dropout", number))
            yield

    # ------------------------------------------------------------ between updates

    def finish(self, iteration: int, num_updates: int) -> Mapping[str, float]:
        """Move the average, and say what was left out."""
        self.averages.follow(num_updates)
        if self.skips is None:
            return {}
        last = iteration + 1 == self.recipe.budget.updates
        return self.skips.finish(
            self.recipe.data.pairs, last=last, num_updates=num_updates, processes=self.processes
        )

    def evaluate(self, iteration: int) -> Report:
        """Held-out agreement of the averaged weights."""
        if self.examine is None:
            return Report()
        with self.averaged() as model:
            return Report(self.examine(model, self.recipe.evaluation.num_prompts))

    def averaged(self) -> AbstractContextManager[Model]:
        """The model with its averaged weights, within a `with`."""
        return self.averages.swapped_in()

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and averages, and what was left out."""
        return self.averages.state_dict() | ({} if self.skips is None else self.skips.state())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state_dict()`."""
        self.averages.load_state_dict(state)
        if self.skips is not None:
            self.skips.restore(state)
