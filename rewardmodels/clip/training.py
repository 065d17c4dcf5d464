"""What training a CLIP-type reward adds to the one loop: pairs, lists or ratings to values to loss.

A bundle is one forward pass: every picture is embedded once however many prompts ask about it, every prompt once.

Legend: P pairs, B distinct samples of a bundle, G prompts with N candidates each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmalign.objectives import ranking
from mmalign.seeds import seed_of
from mmalign.train.distributed import Processes
from mmalign.train.loop import Report, Update
from mmalign.types import Loss, PreferencePair, Sample
from rewardmodels.clip.losses import triplet
from rewardmodels.clip.recipe import RATING_LOSSES, ClipMethod, ClipRecipe
from rewardmodels.clip.trained import ClipReward, Squares, looks_of, squared
from rewardmodels.clip.tuning import merged, tune
from rewardmodels.heads import Readout
from rewardmodels.losses import Listed, lists_of, loss_of, rating_loss
from rewardmodels.recipe import Method
from rewardmodels.skips import Item, Skips, samples_of, usable
from rewardmodels.sources import PairSource
from rewardmodels.training import Averaged, distinct

MakeLoss = Callable[[Sequence[Item], int, Squares], Loss]
Examine = Callable[[ClipReward, int], Mapping[str, float]]
LARGEST = math.log(100.0)
"""CLIP keeps its learned factor between 1 and 100."""


class ClipTraining:
    """The task of the loop: one iteration is one update. With `skips`, the source's own, bad media are left out."""

    def __init__(
        self, model: ClipReward, recipe: ClipRecipe, source: PairSource, processes: Processes,
        *, examine: Examine | None = None, skips: Skips | None = None,
    ) -> None:  # fmt: skip
        self.scaled = recipe.method.loss in ("bradley_terry", "choice")
        tune(model, recipe.model, scaled=self.scaled, seed=recipe.seed)
        self.model = model.to(processes.device).train()
        self.recipe, self.source, self.processes, self.examine = recipe, source, processes, examine
        self.skips = skips
        self.averages = (
            {name: p.detach().clone() for name, p in self._trained()} if recipe.method.average else {}
        )

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def parameters(self) -> list[nn.Parameter]:
        """What the recipe trains."""
        return [parameter for _, parameter in self._trained()]

    def not_matrices(self) -> list[nn.Parameter]:
        """Embeddings, positions and the head, which an optimiser for matrices leaves alone."""
        head = self.model.scorer.head
        tables = [module for module in self.model.modules() if isinstance(module, nn.Embedding)]
        found = [p for module in (*tables, *([] if head is None else [head])) for p in module.parameters()]
        return found + [
            p for name, p in self.model.named_parameters() if name.endswith("positional_embedding")
        ]

    def updates(self, iteration: int) -> Iterator[Update]:
        """The bundles of this process for one update."""
        num = self.recipe.budget.bundles_per_update
        progress = iteration / self.recipe.budget.updates
        mine = range(iteration * num + self.processes.rank, (iteration + 1) * num, self.processes.num)
        work = [self._work(number, progress) for number in mine]
        yield Update(sum(count for count, _ in work), [make for _, make in work])

    def _work(self, number: int, progress: float) -> tuple[int, Callable[[], Loss]]:
        """How many losses a bundle has, and how they are made."""
        method = self.recipe.method
        if method.loss in RATING_LOSSES:
            samples = self.source.rated(number, progress)
            return len(samples), partial(self._readable, samples, number, self._rating_loss)
        bundle = self.source.bundle(number, progress)
        if method.loss == "choice":
            num = len(lists_of(bundle, method.dimension))
            return num, partial(self._readable, bundle, number, self._choice)
        return len(bundle), partial(self._readable, bundle, number, self._pair_loss)

    def _readable(self, items: Sequence[Item], number: int, make: MakeLoss[Item]) -> Loss:
        """The loss of the items whose media can be read; with `skips` the others are left out and counted."""
        known: Squares = {}

        def look(sample: Sample) -> None:
            squared(sample, self.model.scorer.rule, self.processes.device, known)

        items = usable(items, samples_of(items), look, self.skips)
        return make(items, number, known) if items else self._nothing()

    def _nothing(self) -> Loss:
        """No losses; their sum has a gradient, which is zero."""
        return Loss(self.parameters()[0].flatten()[:0].float(), {})

    def _values(self, samples: Sequence[Sample], number: int, known: Squares) -> Tensor:
        """What the loss reads (B,): values, times the learned factor where the loss has one."""
        looks = looks_of(samples, self.model.scorer.rule, self.processes.device, known)
        with self._draws(number):
            values = self.model.values(looks)
        return values * self.model.scorer.scale() if self.scaled else values

    def _pair_loss(self, bundle: Sequence[PreferencePair], number: int, known: Squares) -> Loss:
        samples, first, second = distinct(bundle)
        return pair_loss(self.recipe.method, self._values(samples, number, known), bundle, first, second)

    def _choice(self, bundle: Sequence[PreferencePair], number: int, known: Squares) -> Loss:
        lists = lists_of(bundle, self.recipe.method.dimension)
        if not lists:
            return self._nothing()
        samples = list({id(sample): sample for one in lists for sample in one.samples}.values())
        place = {id(sample): k for k, sample in enumerate(samples)}
        return choice(self._values(samples, number, known), lists, place)

    def _rating_loss(self, samples: Sequence[Sample], number: int, known: Squares) -> Loss:
        values = self._values(samples, number, known)
        return rating_loss(as_method(self.recipe.method), Readout(values[:, None]), samples)

    @contextmanager
    def _draws(self, number: int) -> Iterator[None]:
        """Dropout that depends on the bundle alone, so that a resumed run goes on bit by bit."""
        devices = [self.processes.device] if self.processes.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed_of(self.recipe.seed, "dropout", number))
            yield

    @torch.no_grad()
    def finish(self, iteration: int, num_updates: int) -> Mapping[str, float]:
        """Keep the factor of cosines in its range, and move the average; early on it follows faster."""
        told = {}
        for name, parameter in self._trained():
            if name.endswith("logit_scale"):
                parameter.clamp_(0.0, LARGEST)
                told["scale"] = float(parameter.exp())
        decay = min(self.recipe.method.average, (1 + num_updates) / (10 + num_updates))
        if self.averages:
            for name, parameter in self._trained():
                self.averages[name].lerp_(parameter, 1 - decay)
        if self.skips is not None:
            last = iteration + 1 == self.recipe.budget.updates
            told |= self.skips.finish(self.recipe.data.pairs, last=last, processes=self.processes)
        return told

    def evaluate(self, iteration: int) -> Report:
        """Held-out agreement of the averaged weights."""
        if self.examine is None:
            return Report()
        with self.averaged() as model:
            return Report(self.examine(model, self.recipe.evaluation.num_prompts))

    @contextmanager
    def result(self) -> Iterator[ClipReward]:
        """The reward that is saved, within a `with`: averaged, its adapters merged."""
        with self.averaged() as model, merged(model):
            yield model

    def averaged(self) -> AbstractContextManager[ClipReward]:
        """The reward with its averaged weights, within a `with`."""
        return cast(AbstractContextManager[ClipReward], Averaged(cast(Any, self.model), self.averages))

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and averages."""
        state = {f"model.{name}": parameter.detach() for name, parameter in self._trained()}
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
        if self.skips is not None:
            self.skips.restore(state)

    def save(self, folder: Path) -> None:
        """The reward, not yet calibrated; `pipelines.train_clip` writes it again with its calibration."""
        with self.result() as model:
            model.save(folder / "reward")


def as_method(method: ClipMethod) -> Method:
    """The same loss as other reward training names it."""
    assert method.loss != "triplet", "other reward training has no triplets"
    return Method(
        loss=method.loss, dimensions=(method.dimension,), label_smoothing=method.label_smoothing,
        huber_delta=method.huber_delta, rating_center=method.rating_center,
    )  # fmt: skip


def pair_loss(
    method: ClipMethod, values: Tensor, pairs: Sequence[PreferencePair], first: Tensor, second: Tensor
) -> Loss:
    """The loss (P,) of every pair from the values (B,) of distinct samples; an absent label is left out."""
    if method.loss == "bradley_terry":
        return loss_of(as_method(method), values[:, None], pairs, first, second)
    nan = float("nan")
    label = torch.tensor([pair.labels.get(method.dimension, nan) for pair in pairs], device=values.device)
    first, second = first.to(values.device), second.to(values.device)
    made = triplet(cosine_a=values[first], cosine_b=values[second], label=label, margin=method.margin)
    weight = torch.tensor([pair.weight for pair in pairs], device=values.device)
    return replace(made, per_sample=made.per_sample * weight)


def choice(values: Tensor, lists: Sequence[Listed], place: Mapping[int, int]) -> Loss:
    """Cross entropy (G,) over the candidates of every list, each with its share of the votes; lengths may differ."""
    most = max(len(one.samples) for one in lists)
    rows = torch.zeros(len(lists), most, dtype=torch.long)
    wins, real = torch.zeros(len(lists), most), torch.zeros(len(lists), most, dtype=torch.bool)
    for k, one in enumerate(lists):
        num = len(one.samples)
        rows[k, :num] = torch.tensor([place[id(sample)] for sample in one.samples])
        wins[k, :num], real[k, :num] = torch.tensor(one.wins), True
    scores = values[rows.to(values.device)]
    made = ranking.choice(scores=scores, target=wins.to(scores.device), where=real.to(scores.device))
    weight = torch.tensor([one.weight for one in lists], device=values.device)
    return replace(made, per_sample=made.per_sample * weight)
