"""What reward training adds to the one loop: pairs, lists or ratings to scores to loss, averaged weights, examination.

A bundle of pairs becomes one forward: every sample is scored once however many pairs it is in, every picture is
read once however many prompts ask about it.

Legend: P pairs, S distinct samples of a bundle, D dimensions, G prompts with N candidates each.
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
from rewardmodels.clips import Clip, read_clip
from rewardmodels.heads import Readout
from rewardmodels.heads.scalar import CandidateHead
from rewardmodels.inputs import InputBuilder, VlmInputs
from rewardmodels.losses import (
    Listed,
    TieWidth,
    list_loss,
    lists_of,
    loss_of,
    rating_loss,
    with_overall,
)
from rewardmodels.recipe import LIST_LOSSES, RATING_LOSSES, RewardRecipe
from rewardmodels.sources import PairSource
from rewardmodels.tuning import SpecialRows, merged, tune
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


def inputs_of(model: VlmReward, samples: Sequence[Sample], builder: InputBuilder | None = None) -> VlmInputs:
    """One batch for all samples; a picture that several samples share is decoded and read once."""
    media, sources = _decoded(model, samples)
    return (builder or model.builder)(
        [sample.prompt for sample in samples], media, sources,
        share=model.vlm.config._attn_implementation == "sdpa",
    )  # fmt: skip


def _decoded(model: VlmReward, samples: Sequence[Sample]) -> tuple[list[Clip], list[Clip] | None]:
    """Media and sources (or None), every medium decoded once, however many samples share it."""
    decoded: dict[object, Clip] = {}

    def clip(media: Tensor | Path, sample: Sample) -> Clip:
        key = id(media) if isinstance(media, Tensor) else media
        if key not in decoded:
            decoded[key] = read_clip(media, model.builder.video, sample.metadata)
        return decoded[key]

    sources = [clip(sample.source, sample) for sample in samples if sample.source is not None]
    if sources and len(sources) != len(samples):
        raise ValueError("all samples of a bundle must have a source, or none: split the data by task")
    return [clip(sample.media, sample) for sample in samples], sources or None


def read_samples(model: VlmReward, samples: Sequence[Sample]) -> Readout:
    """What the head says of every sample, one by one."""
    if isinstance(model.head, CandidateHead):
        media, sources = _decoded(model, samples)
        prompts = [sample.prompt for sample in samples]
        return model.read(model.builder.together(prompts, [[one] for one in media], sources))
    return model.read(*(inputs_of(model, samples, builder) for builder in model.builders))


def read_lists(model: VlmReward, lists: Sequence[Listed], generator: torch.Generator) -> Tensor:
    """Scores (G, N) of the candidates of G prompts, or of G media under N prompts; all lists are of one kind.

    Candidates that share a forward pass stand in a random order, and in companies of a random size (1, 2, 4 ... up to
    `num_together`): so scores do not depend on the place, and those of different companies can be compared.
    """
    num = len(lists[0].samples)
    if not isinstance(model.head, CandidateHead):
        samples = list({id(s): s for one in lists for s in one.samples}.values())
        place = {id(sample): i for i, sample in enumerate(samples)}
        values = read_samples(model, samples).values[:, 0]
        return values[
            torch.tensor([[place[id(s)] for s in one.samples] for one in lists], device=values.device)
        ]
    most = min(num, model.head.num_together) if lists[0].one_prompt else 1
    sizes = [size for size in range(1, most + 1) if num % size == 0]
    size = sizes[int(torch.randint(len(sizes), (), generator=generator))]
    orders = torch.stack([torch.randperm(num, generator=generator) for _ in lists])
    rows = [
        [one.samples[i] for i in part]
        for one, order in zip(lists, orders, strict=True)
        for part in order.view(-1, size).tolist()
    ]
    media, sources = _decoded(model, [sample for row in rows for sample in row])
    inputs = model.builder.together(
        [row[0].prompt for row in rows],
        [media[n * size : (n + 1) * size] for n in range(len(rows))],
        None if sources is None else sources[::size],
    )
    scores = model.read(inputs).values.view(len(lists), num)
    return scores.gather(1, orders.argsort(dim=1).to(scores.device))


class RewardTraining:
    """The task of the loop: one iteration is one update."""

    def __init__(
        self, model: VlmReward, recipe: RewardRecipe, source: PairSource, processes: Processes,
        *, examine: Examine | None = None,
    ) -> None:  # fmt: skip
        tune(model, recipe.model, seed=recipe.seed)
        self.model = model.to(processes.device).train()
        self.recipe, self.source, self.processes, self.examine = recipe, source, processes, examine
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
            return len(samples), partial(self._rating_loss, samples, number)
        bundle = self.source.bundle(number, progress)
        if loss in LIST_LOSSES:
            lists = lists_of(bundle, self.recipe.method.dimensions[0])
            return len(lists), partial(self._list_loss, lists, number)
        return len(bundle), partial(self._pair_loss, bundle, number)

    def _pair_loss(self, bundle: Sequence[PreferencePair], number: int) -> Loss:
        samples, first, second = distinct(bundle)
        with self._draws(number):
            read = read_samples(self.model, samples)
        if self.recipe.method.train_overall:
            read = with_overall(read, self.model.settings.overall)
        return loss_of(
            self.recipe.method, read, bundle, first, second,
            width=None if self.width is None else self.width(),
            generator=generator(self.recipe.seed, "uncertainty", number),
        )  # fmt: skip

    def _rating_loss(self, samples: Sequence[Sample], number: int) -> Loss:
        with self._draws(number):
            read = read_samples(self.model, samples)
        return rating_loss(self.recipe.method, read, samples)

    def _list_loss(self, lists: Sequence[Listed], number: int) -> Loss:
        alike: dict[tuple[int, bool], list[Listed]] = {}
        for one in lists:
            alike.setdefault((len(one.samples), one.one_prompt), []).append(one)
        draws, parts = generator(self.recipe.seed, "candidates", number), []
        with self._draws(number):
            for members in alike.values():
                parts.append(list_loss(self.recipe.method, read_lists(self.model, members, draws), members))
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
        return {}

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
