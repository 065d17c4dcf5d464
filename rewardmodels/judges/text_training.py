"""What training a judge that writes adds to the one loop: answers from ratings, then drawn answers rewarded by pairs.

    WarmUpTask      cross entropy of the answers that ratings (or, comparing two, labels) ask for: EditScore's SFT
    ReinforceTask   draws answers, rewards what the judge's own parser reads (GCPO for marks, a rule for which of two
                    is better), policy updates on their tokens with StableReinforce's clips

All answers of one pass over a sample have the advantage of its mark. Answers are drawn at `method.temperature` from the
whole vocabulary, whatever the judge file says for judging, so that the ratio is that of the policy that drew them.

Legend: S samples or pairs, N passes each, R answers of L tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from mmalign.objectives import spoken
from mmalign.seeds import generator, seed_of
from mmalign.train.loop import Update
from mmalign.train.skips import samples_of, usable
from mmalign.types import Loss, PreferencePair, Sample
from rewardmodels.averages import Averages
from rewardmodels.judges.chat import Question, Sampling
from rewardmodels.judges.earned import advantages, by_opponents, by_rule, decided, told
from rewardmodels.judges.pairwise import PairJudge
from rewardmodels.judges.speaking import Rollout, Shown
from rewardmodels.judges.task import JudgeTask
from rewardmodels.judges.text_recipe import TextRecipe
from rewardmodels.judges.writer import Lesson, Writer
from rewardmodels.losses import RATINGS
from rewardmodels.reading import distinct
from rewardmodels.recipe import WORLDS


class WarmUpTask(JudgeTask[Writer, TextRecipe]):
    """Supervised answers, so that there is something to reinforce."""

    @property
    def num_iterations(self) -> int:
        """Updates."""
        return self.recipe.warm_up.updates

    def updates(self, iteration: int) -> Iterator[Update]:
        """The lessons of its bundles; reinforcement sees other bundles of a built-in world."""
        lessons: list[Lesson] = []
        for number in self.bundles(iteration):
            place = -1 - number if self.recipe.data.pairs in WORLDS else number
            lessons += self._of_pairs(place) if self._compares else self._of_samples(place)
        most = self.recipe.judge.batch_size
        parts = [lessons[start : start + most] for start in range(0, len(lessons), most)]
        yield Update(len(lessons), [partial(self.loss, part) for part in parts])

    @property
    def _compares(self) -> bool:
        return isinstance(self.learner.judge, PairJudge)

    def _of_samples(self, number: int) -> list[Lesson]:
        samples = self.source.rated(number, 0.0)
        stream = generator("judge-ratings", self.recipe.seed, number)
        noise = self.recipe.warm_up.noise * torch.randn(
            len(samples), len(self.recipe.rated), generator=stream
        )
        shares = {
            id(sample): self._shares(sample, row) for sample, row in zip(samples, noise.tolist(), strict=True)
        }
        made: dict[int, list[Lesson]] = {}

        def teach(sample: Sample) -> None:
            made[id(sample)] = self.learner.lessons(sample, shares[id(sample)])

        kept = usable(samples, samples, teach, self.skips)
        return [lesson for sample in kept for lesson in made[id(sample)]]

    def _shares(self, sample: Sample, noise: Sequence[float]) -> dict[str, float]:
        """Where on their scale the ratings lie, by what they rate."""
        low, high = self.recipe.scale
        ratings: Mapping[str, float] = sample.metadata[RATINGS]
        return {
            name: (ratings[dimension] - low) / (high - low) + extra
            for (name, dimension), extra in zip(self.recipe.rated.items(), noise, strict=True)
            if dimension in ratings
        }

    def _of_pairs(self, number: int) -> list[Lesson]:
        pairs = [
            pair
            for pair in self.source.bundle(number, 0.0)
            if "overall" in pair.labels and pair.a.prompt == pair.b.prompt
        ]
        made: dict[int, list[Lesson]] = {}

        def teach(pair: PreferencePair) -> None:
            made[id(pair)] = self.learner.lessons_of_pair(pair)

        kept = usable(pairs, pairs, teach, self.skips)
        return [lesson for pair in kept for lesson in made[id(pair)]]

    def loss(self, lessons: Sequence[Lesson]) -> Loss:
        """Cross entropy (R,) of the answers."""
        questions, answers = zip(*lessons, strict=True)
        logs, where = self.learner.tuned.log_probs(questions, answers)
        return spoken.answer_likelihood(log_prob=logs, where=where)


@dataclass(eq=False)
class Replies:
    """R drawn answers that share a forward pass; `old` is what they had of probability before the first update on them,
    NaN an advantage that is left out.
    """

    questions: Sequence[Question]
    answers: Sequence[Sequence[int]]
    advantage: Tensor  # (R,)
    old: Tensor | None = None  # (R, L)
    reference: Tensor | None = None  # (R, L)


@dataclass(frozen=True, eq=False)
class Drawn:
    """The answers of an iteration by forward pass, and numbers to log."""

    parts: Sequence[Replies]
    metrics: Mapping[str, float]

    def __len__(self) -> int:
        return sum(len(part.answers) for part in self.parts)


class ReinforceTask(JudgeTask[Writer, TextRecipe]):
    """Reinforces answers that agree with people's choices: bundles are drawn once an iteration, each by itself."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.reference = Averages(self.learner.vlm, 1.0 if self.recipe.method.kl else 0.0)
        """The weights as they are now, which never move."""
        self.num_drawn = 0
        """Passes so far."""

    def updates(self, iteration: int) -> Iterator[Update]:
        """Answers to the bundles, then the updates on them."""
        budget, compares = self.recipe.budget, isinstance(self.learner.judge, PairJudge)
        made = []
        for number in self.bundles(iteration):
            pairs = decided(self.source.bundle(number, iteration / budget.iterations), one_prompt=compares)
            made.append(self.draw(pairs, iteration, number % budget.bundles_per_iteration))
        for _ in range(self.recipe.method.updates_per_iteration):
            passes = [partial(self.loss, part, drawn.metrics) for drawn in made for part in drawn.parts]
            yield Update(sum(map(len, made)), passes)

    def draw(self, pairs: Sequence[PreferencePair], iteration: int, place: int = 0) -> Drawn:
        """Answers on every sample (or pair) of a bundle that can be read, with their advantages; `place` is that of the
        bundle in its iteration.
        """
        how = self.recipe.method
        seeds = [seed_of("judge-answers", self.recipe.seed, iteration, n) for n in range(how.answers)]
        num = self.learner.judge.settings.judge.draw.max_tokens  # type: ignore[union-attr]
        draws = [Sampling(num, how.temperature, seed=seed) for seed in seeds]
        if isinstance(self.learner.judge, PairJudge):
            rollouts, reward = self._compared(pairs, draws, (iteration, place))
        else:
            rollouts, reward = self._marked(pairs, draws)
        if not rollouts:
            return Drawn([], {})
        self.num_drawn += reward.numel()
        advantage = advantages(reward, how)
        return Drawn(self._parts(rollouts, advantage), told(reward, _said(rollouts), advantage))

    def _marked(
        self, pairs: Sequence[PreferencePair], draws: Sequence[Sampling]
    ) -> tuple[list[list[Rollout]], Tensor]:
        """Passes over the distinct samples (S, N), and what their marks earn."""
        shown: dict[int, Shown] = {}

        def look(sample: Sample) -> None:
            shown[id(sample)] = self.learner.show(sample)

        kept = usable(pairs, samples_of(pairs), look, self.skips)
        if not kept:
            return [], torch.empty(0, len(draws))
        samples, winners, losers = distinct(kept)
        rollouts = self.learner.marks([shown[id(sample)] for sample in samples], draws)
        weight = self.recipe.method.format_weight
        return rollouts, by_opponents(_said(rollouts), winners, losers, format_weight=weight)

    def _compared(
        self, pairs: Sequence[PreferencePair], draws: Sequence[Sampling], place: tuple[int, int]
    ) -> tuple[list[list[Rollout]], Tensor]:
        """Answers on pairs in random order (S, N), and what they earn."""
        stream = ("judge-answers", self.recipe.seed, *place, "order")
        turn = torch.rand(len(pairs), generator=generator(*stream)) < 0.5
        shown = [pair.swapped() if flip else pair for pair, flip in zip(pairs, turn.tolist(), strict=True)]
        asked: dict[int, Question] = {}

        def ask(pair: PreferencePair) -> None:
            asked[id(pair)] = self.learner.ask_both(pair)

        kept = usable(shown, shown, ask, self.skips)
        if not kept:
            return [], torch.empty(0, len(draws))
        rollouts = self.learner.winners([asked[id(pair)] for pair in kept], draws)
        truth = torch.tensor([pair.labels["overall"] > 0.5 for pair in kept]).float()
        return rollouts, by_rule(_said(rollouts), truth, format_weight=self.recipe.method.format_weight)

    def _parts(self, rollouts: Sequence[Sequence[Rollout]], advantage: Tensor) -> list[Replies]:
        """The answers by forward pass; those to one question, which may be read once, stand together."""
        rows: list[tuple[Question, Sequence[int], float]] = []
        known = advantage.view(len(rollouts), -1).tolist()
        for passes, row in zip(rollouts, known, strict=True):
            for same in zip_longest(*(one.asked for one in passes)):
                rows += [
                    (said[0], said[1].tokens, gain)
                    for said, gain in zip(same, row, strict=True)
                    if said is not None and said[1].tokens and gain == gain
                ]
        most = self.recipe.judge.batch_size
        made = []
        for start in range(0, len(rows), most):
            questions, answers, gains = zip(*rows[start : start + most], strict=True)
            made.append(Replies(questions, answers, torch.tensor(gains, device=self.learner.vlm.device)))
        return made

    def loss(self, part: Replies, metrics: Mapping[str, float]) -> Loss:
        """The policy loss (R,) of answers."""
        how = self.recipe.method
        if how.kl and part.reference is None:
            with torch.no_grad(), self.reference.swapped_in():
                part.reference = self._log_probs(part)[0]
        logs, where = self._log_probs(part)
        if part.old is None:  # nothing has been updated since they were drawn
            part.old = logs.detach()
        made = spoken.answer_policy(
            log_prob=logs, old_log_prob=part.old, advantage=part.advantage, where=where,
            clip_range=how.clip_range, pre_clip=how.pre_clip, reference_log_prob=part.reference, kl=how.kl,
        )  # fmt: skip
        extra = {name: torch.tensor(value) for name, value in metrics.items()}
        return Loss(made.per_sample, {**made.metrics, **extra})

    def _log_probs(self, part: Replies) -> tuple[Tensor, Tensor]:
        return self.learner.tuned.log_probs(
            part.questions, part.answers, temperature=self.recipe.method.temperature
        )


def _said(rollouts: Sequence[Sequence[Rollout]]) -> Tensor:
    """What was said (S, N); NaN cannot be read."""
    return torch.tensor([[one.overall for one in passes] for passes in rollouts])
