"""What training a CLIP-type reward adds to the task of all rewards (`rewardmodels.task`): pairs, lists or ratings to
values to loss.

A bundle is one forward pass: every picture is embedded once however many prompts ask about it, every prompt once.

Legend: P pairs, B distinct samples of a bundle, G prompts with N candidates each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mmalign.objectives import ranking
from mmalign.train.distributed import Processes
from mmalign.train.skips import Skips, problems
from mmalign.types import Loss, PreferencePair, Sample
from rewardmodels.batching import require_kind
from rewardmodels.clip.losses import triplet
from rewardmodels.clip.recipe import ClipMethod, ClipRecipe
from rewardmodels.clip.trained import ClipReward, looks_of, squared
from rewardmodels.clip.tuning import merged, tune
from rewardmodels.heads import Readout
from rewardmodels.losses import Listed, lists_of, loss_of, rating_loss
from rewardmodels.reading import distinct
from rewardmodels.recipe import Method
from rewardmodels.sources import PairSource
from rewardmodels.task import RewardTask, Seen

Examine = Callable[[ClipReward, int], Mapping[str, float]]
LARGEST = math.log(100.0)
"""CLIP keeps its learned factor between 1 and 100."""


class ClipTraining(RewardTask[ClipReward, ClipRecipe]):
    """Towers or a head learn from pairs, lists or ratings."""

    def __init__(
        self, model: ClipReward, recipe: ClipRecipe, source: PairSource, processes: Processes,
        *, examine: Examine | None = None, skips: Skips | None = None,
    ) -> None:  # fmt: skip
        self.scaled = recipe.method.loss in ("bradley_terry", "choice")
        tune(model, recipe.model, scaled=self.scaled, seed=recipe.seed)
        super().__init__(model, recipe, source, processes, examine=examine, skips=skips)

    def not_matrices(self) -> list[nn.Parameter]:
        """Embeddings, positions and the head, which an optimiser for matrices leaves alone."""
        head = self.model.scorer.head
        tables = [module for module in self.model.modules() if isinstance(module, nn.Embedding)]
        found = [p for module in (*tables, *([] if head is None else [head])) for p in module.parameters()]
        return found + [
            p for name, p in self.model.named_parameters() if name.endswith("positional_embedding")
        ]

    def _unreadable(self, samples: Sequence[Sample], seen: Seen) -> dict[int, str]:
        rule, device = self.model.scorer.rule, self.processes.device

        def decode(sample: Sample) -> None:
            require_kind(sample, self.model.modalities)
            squared(sample, rule, device, seen)

        return problems(samples, decode)

    def _values(self, samples: Sequence[Sample], number: int, seen: Seen) -> Tensor:
        """What the loss reads (B,): values, times the learned factor where the loss has one."""
        looks = looks_of(samples, self.model.scorer.rule, self.processes.device, seen)
        with self._draws(number):
            values = self.model.values(looks)
        return values * self.model.scorer.scale() if self.scaled else values

    def _pair_loss(self, bundle: Sequence[PreferencePair], number: int, seen: Seen) -> Loss:
        samples, first, second = distinct(bundle)
        return pair_loss(self.recipe.method, self._values(samples, number, seen), bundle, first, second)

    def _list_loss(self, bundle: Sequence[PreferencePair], number: int, seen: Seen) -> Loss:
        lists = lists_of(bundle, self.recipe.method.dimension)
        if not lists:
            return self._nothing()
        samples = list({id(sample): sample for one in lists for sample in one.samples}.values())
        place = {id(sample): k for k, sample in enumerate(samples)}
        return choice(self._values(samples, number, seen), lists, place)

    def _rating_loss(self, samples: Sequence[Sample], number: int, seen: Seen) -> Loss:
        values = self._values(samples, number, seen)
        return rating_loss(as_method(self.recipe.method), Readout(values[:, None]), samples)

    def finish(self, iteration: int, num_updates: int) -> Mapping[str, float]:
        """Keep the factor of cosines in its range, before the average moves."""
        return {**self._bound_scale(), **super().finish(iteration, num_updates)}

    @torch.no_grad()
    def _bound_scale(self) -> dict[str, float]:
        found = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and name.endswith("logit_scale"):
                parameter.clamp_(0.0, LARGEST)
                found["scale"] = float(parameter.exp())
        return found

    @contextmanager
    def result(self) -> Iterator[ClipReward]:
        """The reward that is saved, within a `with`: averaged, its adapters merged."""
        with self.averaged() as model, merged(model):
            yield model

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
