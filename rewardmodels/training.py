"""What reward training adds to the one loop: pairs to scores to loss, averaged weights, the held-out examination.

A bundle of pairs becomes one forward: every sample is scored once however many pairs it is in, every picture is
read once however many prompts ask about it.

Legend: P pairs, S distinct samples of a bundle, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from mmalign.objectives import reward as objectives
from mmalign.train.distributed import Processes
from mmalign.train.loop import Report, Update
from mmalign.types import Loss, PreferencePair, Sample
from rewardmodels.inputs import VlmInputs
from rewardmodels.recipe import Method, RewardRecipe
from rewardmodels.sources import PairSource
from rewardmodels.vlm import VlmReward

Examine = Callable[[VlmReward, int], Mapping[str, float]]


def distinct(pairs: Sequence[PreferencePair]) -> tuple[list[Sample], Tensor, Tensor]:
    """The samples of all pairs, each once, and where a and b of every pair stand among them, (P,) each."""
    places: dict[int, int] = {}
    samples: list[Sample] = []
    for pair in pairs:
        for sample in (pair.a, pair.b):
            if id(sample) not in places:
                places[id(sample)] = len(samples)
                samples.append(sample)
    first = torch.tensor([places[id(pair.a)] for pair in pairs])
    second = torch.tensor([places[id(pair.b)] for pair in pairs])
    return samples, first, second


def inputs_of(model: VlmReward, samples: Sequence[Sample]) -> VlmInputs:
    """One batch for all samples; a picture that several samples share is decoded and read once."""
    decoded: dict[object, Tensor] = {}

    def frames(sample: Sample) -> Tensor:
        key = id(sample.media) if isinstance(sample.media, Tensor) else sample.media
        if key not in decoded:
            decoded[key] = sample.frames()
        return decoded[key]

    sources = [source for sample in samples if (source := sample.source_frames()) is not None]
    return model.builder(
        [sample.prompt for sample in samples], [frames(sample) for sample in samples], sources or None,
        share=model.vlm.config._attn_implementation == "sdpa",
    )  # fmt: skip


def loss_of(
    method: Method, raw: Tensor, pairs: Sequence[PreferencePair], first: Tensor, second: Tensor
) -> Loss:
    """The loss of every pair from the scores (S, D), summed over dimensions; an absent label is left out."""
    nan = float("nan")
    table = [[pair.labels.get(dim, nan) for dim in method.dimensions] for pair in pairs]
    labels = torch.tensor(table, device=raw.device)
    a, b = raw[first.to(raw.device)], raw[second.to(raw.device)]
    if method.loss == "bradley_terry":
        made = objectives.bradley_terry(
            score_a=a, score_b=b, label=labels, label_smoothing=method.label_smoothing, centre=method.center
        )
    else:
        flags = [[float(pair.ties.get(dim, False)) for dim in method.dimensions] for pair in pairs]
        ties = torch.tensor(flags, device=raw.device)
        if method.loss == "rao_kupper":
            made = objectives.rao_kupper(score_a=a, score_b=b, label=labels, tie=ties, theta=method.tie_width)
        else:
            made = objectives.davidson(score_a=a, score_b=b, label=labels, tie=ties, nu=method.tie_width)
    weight = torch.tensor([pair.weight for pair in pairs], device=raw.device)
    return Loss(made.per_sample * weight, made.metrics)


class RewardTraining:
    """The task of the loop: one iteration is one update."""

    def __init__(
        self, model: VlmReward, recipe: RewardRecipe, source: PairSource, processes: Processes,
        *, examine: Examine | None = None,
    ) -> None:  # fmt: skip
        self.model = model.to(processes.device).train()
        self.recipe, self.source, self.processes, self.examine = recipe, source, processes, examine
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("lm_head" not in name or _is_tied(self.model))
        self.averages = (
            {name: p.detach().clone() for name, p in self._trained()} if recipe.method.average else {}
        )

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def parameters(self) -> list[nn.Parameter]:
        """Backbone and head."""
        return [parameter for _, parameter in self._trained()]

    def not_matrices(self) -> list[nn.Parameter]:
        """Embeddings and the head, which an optimiser for matrices leaves alone."""
        tables = [m for m in self.model.modules() if isinstance(m, nn.Embedding)]
        return [p for module in (*tables, self.model.head) for p in module.parameters()]

    def updates(self, iteration: int) -> Iterator[Update]:
        """The bundles of this process for one update."""
        num = self.recipe.budget.bundles_per_update
        progress = iteration / self.recipe.budget.updates
        mine = range(iteration * num + self.processes.rank, (iteration + 1) * num, self.processes.num)
        bundles = [self.source.bundle(number, progress) for number in mine]
        yield Update(
            sum(len(bundle) for bundle in bundles), [partial(self._loss, bundle) for bundle in bundles]
        )

    def _loss(self, bundle: Sequence[PreferencePair]) -> Loss:
        samples, first, second = distinct(bundle)
        raw = self.model.raw(inputs_of(self.model, samples))
        return loss_of(self.recipe.method, raw, bundle, first, second)

    @torch.no_grad()
    def finish(self, iteration: int, num_updates: int) -> Mapping[str, float]:
        """Move the average; early on it follows faster."""
        decay = min(self.recipe.method.average, (1 + num_updates) / (10 + num_updates))
        if self.averages:
            for name, parameter in self._trained():
                self.averages[name].lerp_(parameter, 1 - decay)
        return {}

    def evaluate(self, iteration: int) -> Report:
        """Held-out agreement of the averaged weights."""
        if self.examine is None:
            return Report()
        with self.averaged() as model:
            return Report(self.examine(model, self.recipe.evaluation.num_prompts))

    def averaged(self) -> Averaged:
        """The model with its averaged weights, within a `with`."""
        return Averaged(self.model, self.averages)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and averages."""
        state = {f"model.{name}": parameter.detach() for name, parameter in self._trained()}
        return state | {f"average.{name}": value for name, value in self.averages.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state_dict()`."""
        for name, parameter in self._trained():
            parameter.copy_(state[f"model.{name}"])
        for name, value in self.averages.items():
            value.copy_(state[f"average.{name}"])

    def save(self, folder: Path) -> None:
        """The reward model, not yet calibrated; `pipelines.train_reward` writes it again with its calibration."""
        with self.averaged() as model:
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


def _is_tied(model: VlmReward) -> bool:
    return bool(getattr(model.vlm.config, "tie_word_embeddings", False))


def with_calibration(model: VlmReward, **fields: object) -> None:
    """Replace fields of the model's settings."""
    model.settings = replace(model.settings, **fields)  # type: ignore[arg-type]
