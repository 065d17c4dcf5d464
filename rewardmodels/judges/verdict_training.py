"""What training a judge in words adds to the one loop: a warm-up on ratings, then verdicts rewarded by pairs.

    WarmUpTask     cross entropy of the verdict that a rating asks for
    VerdictTask    draws verdicts, rewards them (GCPO or rule), one or more policy updates on what was drawn

Legend: S prefixes, P pairs, N answers a prefix, R = S * N, L tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from mmalign.objectives import spoken
from mmalign.seeds import generator
from mmalign.shapes.pairs import PASS_BONUS, Block
from mmalign.train.distributed import Processes
from mmalign.train.loop import Report, Update
from mmalign.train.skips import Skips, problems, samples_of
from mmalign.types import Loss, PreferencePair, Sample
from rewardmodels.judges.earned import advantages, by_opponents, by_rule, decided, told
from rewardmodels.judges.verdict_model import VerdictModel, worth_to_mark
from rewardmodels.judges.verdict_recipe import JudgeRecipe
from rewardmodels.reading import distinct
from rewardmodels.sources import PairSource, ShapesSource

Examine = Callable[[VerdictModel, int], Mapping[str, float]]


def rated(block: Block) -> tuple[list[Sample], Tensor]:
    """The block's samples with their worth in [0, 1 + PASS_BONUS]; pictures under one prompt stand together."""
    samples = [
        Sample(prompt, image)
        for prompts, images in zip(block.prompts, block.images, strict=True)
        for prompt in prompts
        for image in images
    ]
    return samples, block.utility.transpose(1, 2).flatten().float()


@dataclass(eq=False)
class _Base:
    """Parameters, evaluation and saving, the same for both tasks."""

    model: VerdictModel
    recipe: JudgeRecipe
    source: PairSource
    processes: Processes
    examine: Examine | None = None
    skips: Skips | None = None

    def __post_init__(self) -> None:
        self.model = self.model.to(self.processes.device)

    def bundles(self, iteration: int) -> range:
        """The numbers of this process's bundles."""
        num = self.recipe.budget.bundles_per_iteration
        return self.processes.share(iteration, num, "budget.bundles_per_iteration")

    def parameters(self) -> list[nn.Parameter]:
        """All of the model."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def finish(self, iteration: int, num_updates: int) -> Mapping[str, float]:
        """What was left out."""
        if self.skips is None:
            return {}
        last = iteration + 1 == self.recipe.budget.iterations
        return self.skips.finish(
            self.recipe.data.pairs, last=last, num_updates=num_updates, processes=self.processes
        )

    def evaluate(self, iteration: int) -> Report:
        """Held-out pairs."""
        if self.examine is None:
            return Report()
        return Report(self.examine(self.model, self.recipe.evaluation.num_prompts))

    def state_dict(self) -> dict[str, Tensor]:
        """The weights, and what was left out."""
        state = {name: value.detach() for name, value in self.model.vlm.named_parameters()}
        return state | ({} if self.skips is None else self.skips.state())

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state_dict()`."""
        for name, value in self.model.vlm.named_parameters():
            value.copy_(state[name])
        if self.skips is not None:
            self.skips.restore(state)

    def save(self, folder: Path) -> None:
        """The model, ready to judge."""
        self.model.save(folder / "judge")


class WarmUpTask(_Base):
    """Teaches the form of a verdict, and a first idea of what it means."""

    def updates(self, iteration: int) -> Iterator[Update]:
        """Its bundles, one update."""
        lessons = [self._rated(number) for number in self.bundles(iteration)]
        yield Update(
            sum(len(felt) for _, felt in lessons), [partial(self._loss, *lesson) for lesson in lessons]
        )

    def _rated(self, number: int) -> tuple[Sequence[Sample], Tensor]:
        """Samples and what somebody who rates them feels."""
        assert isinstance(self.source, ShapesSource)
        samples, worth = rated(self.source.block(-1 - number, 0.0))  # reinforcement sees the others
        noise = torch.randn(len(worth), generator=generator("judge-ratings", self.recipe.seed, number))
        return samples, worth + self.recipe.warm_up.noise * noise

    def _loss(self, samples: Sequence[Sample], felt: Tensor) -> Loss:
        model = self.model
        if model.compares:
            marks = (felt[1::2] > felt[::2]).long()  # neighbours are pictures of one prompt
            prefix = model.read(model.inputs(samples[::2], samples[1::2]))
        else:
            marks = worth_to_mark(felt, len(model.marks), 1 + PASS_BONUS)
            prefix = model.read(model.inputs(samples))
        wanted = torch.tensor([model.answer(int(mark)) for mark in marks], device=prefix.logits.device)
        logs = model.log_probs(prefix, torch.arange(len(prefix)), wanted)
        return Loss(-logs.sum(1), {"mark": logs[:, 1].detach().exp().mean()})


@dataclass(frozen=True, eq=False)
class Drawn:
    """What was drawn in an iteration: answers, the log-probabilities they had, and what they earned."""

    samples: Sequence[Sample]
    seconds: Sequence[Sample] | None
    answers: Tensor  # (R, L)
    rows: Tensor  # (R,)
    old: Tensor  # (R, L)
    reference: Tensor | None  # (R, L)
    advantage: Tensor  # (R,), NaN is left out
    metrics: Mapping[str, float]


class VerdictTask(_Base):
    """Reinforces verdicts that agree with people's choices.

    With `skips` (the source's own) pairs that cannot be read are left out and counted.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reference = copy.deepcopy(self.model) if self.recipe.method.kl > 0 else None

    def updates(self, iteration: int) -> Iterator[Update]:
        """Answers to the bundles, drawn once, each by itself, then the updates on them."""
        budget, made = self.recipe.budget, []
        for number in self.bundles(iteration):
            pairs = self.source.bundle(number, iteration / budget.iterations)
            place = (iteration, number % budget.bundles_per_iteration)
            drawn = self._drawn(decided(pairs, one_prompt=self.model.compares), place)
            made += [] if drawn is None else [drawn]
        for _ in range(self.recipe.method.updates_per_iteration):
            yield Update(sum(len(one.answers) for one in made), [partial(self._loss, one) for one in made])

    def _drawn(self, pairs: Sequence[PreferencePair], place: tuple[int, int]) -> Drawn | None:
        """Verdicts on the pairs that can be read; None where there are none."""
        try:
            return self.draw(pairs, *place) if pairs else None
        except (ValueError, OSError):
            bad = {} if self.skips is None else problems(self._shown(pairs), self._show)
            if self.skips is None or not bad:
                raise
        kept = self.skips.leave_out(pairs, bad)
        return self.draw(kept, *place) if kept else None

    def _shown(self, pairs: Sequence[PreferencePair]) -> Sequence[PreferencePair | Sample]:
        return pairs if self.model.compares else samples_of(pairs)

    def _show(self, thing: PreferencePair | Sample) -> None:
        if isinstance(thing, PreferencePair):
            self.model.inputs([thing.a], [thing.b])
        else:
            self.model.inputs([thing])

    @torch.no_grad()
    def draw(self, pairs: Sequence[PreferencePair], iteration: int, place: int = 0) -> Drawn:
        """Verdicts on every sample (or pair) of a bundle, with rewards and advantages; `place` is that of the bundle in
        its iteration.
        """
        how, model = self.recipe.method, self.model
        stream = ("judge-answers", self.recipe.seed, iteration, place)
        if model.compares:
            turn = torch.rand(len(pairs), generator=generator(*stream, "order")) < 0.5
            shown = [
                pair.swapped() if flip else pair for pair, flip in zip(pairs, turn.tolist(), strict=True)
            ]
            samples, seconds = [pair.a for pair in shown], [pair.b for pair in shown]
            prefix = model.read(model.inputs(samples, seconds))
        else:
            samples, winners, losers = distinct(pairs)
            seconds, prefix = None, model.read(model.inputs(samples))
        answers, rows = model.draw(prefix, how.answers, *stream)
        said = model.marks_of(answers).view(-1, how.answers)
        if model.compares:  # mark 0 says the first is better, which is right unless the pair was turned
            reward = by_rule(said, turn.float(), format_weight=how.format_weight)
        else:
            reward = by_opponents(said, winners, losers, format_weight=how.format_weight)
        advantage = advantages(reward, how)
        metrics = told(reward, said, advantage)
        old, reference = model.log_probs(prefix, rows, answers), None
        if self.reference is not None:
            before = self.reference.read(model.inputs(samples, seconds))
            reference = self.reference.log_probs(before, rows, answers)
        return Drawn(samples, seconds, answers, rows, old, reference, advantage, metrics)

    def _loss(self, drawn: Drawn) -> Loss:
        how, model = self.recipe.method, self.model
        prefix = model.read(model.inputs(drawn.samples, drawn.seconds))
        made = spoken.answer_policy(
            log_prob=model.log_probs(prefix, drawn.rows, drawn.answers), old_log_prob=drawn.old,
            advantage=drawn.advantage, clip_range=how.clip_range, pre_clip=how.pre_clip,
            reference_log_prob=drawn.reference, kl=how.kl,
        )  # fmt: skip
        extra = {name: torch.tensor(value) for name, value in drawn.metrics.items()}
        return Loss(made.per_sample, {**made.metrics, **extra})
