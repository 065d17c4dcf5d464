"""What reward training adds to the one loop: pairs, lists or ratings to scores to loss, averaged weights, examination.

A bundle of pairs becomes one forward (`rewardmodels.reading`). What cannot be read is left out (`rewardmodels.skips`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from mmalign.seeds import generator, seed_of
from mmalign.train.distributed import Processes
from mmalign.train.loop import Report, Update
from mmalign.types import Loss, PreferencePair, Sample
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
    Clips,
    distinct,
    read_lists,
    read_samples,
    refused,
    unreadable,
)
from rewardmodels.recipe import LIST_LOSSES, RATING_LOSSES, RewardRecipe
from rewardmodels.skips import Item, Skips, samples_of
from rewardmodels.sources import PairSource
from rewardmodels.tuning import SpecialRows, merged, tune
from rewardmodels.vlm import VlmReward

Examine = Callable[[VlmReward, int], Mapping[str, float]]


MakeLoss = Callable[[Sequence[Item], int, Clips], Loss]
"""From pairs or samples, the number of their bundle, and their media."""


class RewardTraining:
    """The task of the loop: one iteration is one update.

    With `skips` (the source's own) samples that cannot be read weigh nothing: their losses are left out as if they
    were zero, and what was left out is in the metrics.
    """

    def __init__(
        self, model: VlmReward, recipe: RewardRecipe, source: PairSource, processes: Processes,
        *, examine: Examine | None = None, skips: Skips | None = None,
    ) -> None:  # fmt: skip
        tune(model, recipe.model, seed=recipe.seed)
        self.model = model.to(processes.device).train()
        self.recipe, self.source, self.processes, self.examine = recipe, source, processes, examine
        self.skips = skips
        method = recipe.method
        self.width: TieWidth | None = None
        if method.learn_tie_width:
            self.width = TieWidth(method.loss, method.tie_width, len(method.label_dimensions)).to(
                processes.device
            )
        self.averages = (
            {name: p.detach().clone() for name, p in self._trained()} if recipe.method.average else {}
        )

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def parameters(self) -> list[nn.Parameter]:
        """Backbone, head, and the tie parameter if it is learned."""
        return [parameter for _, parameter in self._trained()] + self._extra()

    def _extra(self) -> list[nn.Parameter]:
        return [] if self.width is None else [self.width.raw]

    def not_matrices(self) -> list[nn.Parameter]:
        """Embeddings and the head, which an optimiser for matrices leaves alone."""
        tables = [m for m in self.model.modules() if isinstance(m, nn.Embedding | SpecialRows)]
        return [p for module in (*tables, self.model.head) for p in module.parameters()] + self._extra()

    def updates(self, iteration: int) -> Iterator[Update]:
        """The bundles of this process for one update."""
        num = self.recipe.budget.bundles_per_update
        progress = iteration / self.recipe.budget.updates
        mine = range(iteration * num + self.processes.rank, (iteration + 1) * num, self.processes.num)
        work = [self._work(number, progress) for number in mine]
        yield Update(sum(count for count, _ in work), [make for _, make in work])

    def _work(self, number: int, progress: float) -> tuple[int, Callable[[], Loss]]:
        """How many losses a bundle has, and how they are made."""
        loss = self.recipe.method.loss
        if loss in RATING_LOSSES:
            samples = self.source.rated(number, progress)
            return len(samples), partial(self._readable, samples, number, self._rating_loss)
        bundle = self.source.bundle(number, progress)
        if loss in LIST_LOSSES:
            num = len(lists_of(bundle, self.recipe.method.dimensions[0]))
            return num, partial(self._readable, bundle, number, self._list_loss)
        return len(bundle), partial(self._readable, bundle, number, self._pair_loss)

    def _readable(self, items: Sequence[Item], number: int, make: MakeLoss[Item]) -> Loss:
        """The loss of the items whose samples can be read."""
        clips: Clips = {}
        if self.skips is None:
            return make(items, number, clips) if items else self._nothing()
        kept = self.skips.leave_out(items, unreadable(self.model, samples_of(items), clips))
        try:
            return make(kept, number, clips) if kept else self._nothing()
        except ValueError:
            bad = refused(self.model, samples_of(kept), clips)
            if not bad:
                raise
            kept = self.skips.leave_out(kept, bad)
        return make(kept, number, clips) if kept else self._nothing()

    def _nothing(self) -> Loss:
        """No losses; their sum has a gradient, which is zero."""
        return Loss(self.parameters()[0].flatten()[:0].float(), {})

    def _pair_loss(self, bundle: Sequence[PreferencePair], number: int, clips: Clips) -> Loss:
        samples, first, second = distinct(bundle)
        with self._draws(number):
            read = read_samples(self.model, samples, clips)
        if self.recipe.method.train_overall:
            read = with_overall(read, self.model.settings.overall)
        return loss_of(
            self.recipe.method, read, bundle, first, second,
            width=None if self.width is None else self.width(),
            generator=generator(self.recipe.seed, "uncertainty", number),
        )  # fmt: skip

    def _rating_loss(self, samples: Sequence[Sample], number: int, clips: Clips) -> Loss:
        with self._draws(number):
            read = read_samples(self.model, samples, clips)
        return rating_loss(self.recipe.method, read, samples)

    def _list_loss(self, bundle: Sequence[PreferencePair], number: int, clips: Clips) -> Loss:
        alike: dict[tuple[int, bool], list[Listed]] = {}
        for one in lists_of(bundle, self.recipe.method.dimensions[0]):
            alike.setdefault((len(one.samples), one.one_prompt), []).append(one)
        if not alike:
            return self._nothing()
        draws, parts = generator(self.recipe.seed, "candidates", number), []
        with self._draws(number):
            for members in alike.values():
                scores = read_lists(self.model, members, draws, clips)
                parts.append(list_loss(self.recipe.method, scores, members))
        metrics = {key: torch.stack([part.metrics[key] for part in parts]).mean() for key in parts[0].metrics}
        return Loss(torch.cat([part.per_sample for part in parts]), metrics)

    @contextmanager
    def _draws(self, number: int) -> Iterator[None]:
        """Dropout that depends on the bundle alone, so that a resumed run goes on bit by bit."""
        devices = [self.processes.device] if self.processes.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed_of(self.recipe.seed, "dropout", number))
            yield

    @torch.no_grad()
    def finish(self, iteration: int, num_updates: int) -> Mapping[str, float]:
        """Move the average; early on it follows faster."""
        decay = min(self.recipe.method.average, (1 + num_updates) / (10 + num_updates))
        if self.averages:
            for name, parameter in self._trained():
                self.averages[name].lerp_(parameter, 1 - decay)
        if self.skips is None:
            return {}
        last = iteration + 1 == self.recipe.budget.updates
        return self.skips.finish(self.recipe.data.pairs, last=last, processes=self.processes)

    def evaluate(self, iteration: int) -> Report:
        """Held-out agreement of the averaged weights."""
        if self.examine is None:
            return Report()
        with self.averaged() as model:
            return Report(self.examine(model, self.recipe.evaluation.num_prompts))

    @contextmanager
    def result(self) -> Iterator[VlmReward]:
        """The model that is saved, within a `with`: averaged, its adapters merged, with what was learned beside it."""
        with self.averaged() as model, merged(model):
            if self.width is not None:
                with_calibration(model, tie_width=tuple(self.width().tolist()))
            yield model

    def averaged(self) -> Averaged:
        """The model with its averaged weights, within a `with`."""
        return Averaged(self.model, self.averages)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and averages."""
        state = {f"model.{name}": parameter.detach() for name, parameter in self._trained()}
        if self.width is not None:
            state["tie_width"] = self.width.raw.detach()
        if self.skips is not None:
            state |= self.skips.state()
        return state | {f"average.{name}": value for name, value in self.averages.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state_dict()`."""
        for name, parameter in self._trained():
            parameter.copy_(state[f"model.{name}"])
        for name, value in self.averages.items():
            value.copy_(state[f"average.{name}"])
        if self.width is not None:
            self.width.raw.copy_(state["tie_width"])
        if self.skips is not None:
            self.skips.restore(state)

    def save(self, folder: Path) -> None:
        """The reward model, not yet calibrated; `pipelines.train_reward` writes it again with its calibration."""
        with self.result() as model:
            model.save(folder / "reward", dtype=getattr(torch, self.recipe.save_dtype))


class Averaged:
    """Swaps averaged weights in and out of a model, and its mode with them."""

    def __init__(self, model: VlmReward, averages: Mapping[str, Tensor]) -> None:
        self.model, self.averages = model, averages

    def __enter__(self) -> VlmReward:
        self.kept = {
            name: p.detach().clone() for name, p in self.model.named_parameters() if name in self.averages
        }
        self._set(self.averages)
        return self.model.eval()

    def __exit__(self, *_: object) -> None:
        self._set(self.kept)
        self.model.train()

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            if name in values:
                parameter.copy_(values[name])


def with_calibration(model: VlmReward, **fields: object) -> None:
    """Replace fields of the model's settings."""
    model.settings = replace(model.settings, **fields)  # type: ignore[arg-type]
