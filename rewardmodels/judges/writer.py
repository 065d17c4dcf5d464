"""A judge in words whose model can be trained: the answers it should give, and those that it draws.

Legend: S samples or pairs, N draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mmalign.types import PreferencePair, Sample
from rewardmodels.judges.chat import Question, Sampling
from rewardmodels.judges.local import LocalEngine
from rewardmodels.judges.pairwise import PairJudge
from rewardmodels.judges.principles import PrincipleReward
from rewardmodels.judges.probability_recipe import Start
from rewardmodels.judges.settings import Ask
from rewardmodels.judges.speaking import Rollout, Shown, show
from rewardmodels.judges.text import TextReward, layout_of
from rewardmodels.judges.tuned import Tuned
from rewardmodels.judges.verdicts import spoken
from rewardmodels.judges.writing import holds_text, on_grid, outcome_text, plan_text, verdict_text
from rewardmodels.sources import CRITIQUE

Writing = TextReward | PrincipleReward | PairJudge
Lesson = tuple[Question, list[int]]
"""A question, and the tokens of the answer to it."""


@dataclass(eq=False)
class Writer:
    """A judge that writes, and its model."""

    judge: Writing
    settings: Start = field(default_factory=Start)
    seed: int = 0
    critique: str = ""
    """What is said before a verdict where the data hold no critique."""

    def __post_init__(self) -> None:
        assert isinstance(self.judge.engine, LocalEngine)
        self.engine = self.judge.engine
        self.tuned = Tuned(self.engine, self.settings, self.seed)
        self.vlm = self.tuned.vlm

    @contextmanager
    def finished(self) -> Iterator[Writing]:
        """The judge that will be saved, with plain weights."""
        with self.tuned.finished():
            yield self.judge

    # ------------------------------------------------------------ answers that it should give

    def lessons(self, sample: Sample, shares: Mapping[str, float]) -> list[Lesson]:
        """The answers to all questions about a sample, from the places of its ratings on their scale, 0 to 1, by what
        they rate; none where a number is lacking. ValueError or OSError for a sample that cannot be asked about.
        """
        shown, critique = self.show(sample), self._critique(sample)
        judge = self.judge
        assert not isinstance(judge, PairJudge)
        if isinstance(judge, PrincipleReward):
            if not set(judge.principles.kinds) <= set(shares):
                return []
            checks = {kind: f"{kind}: {shown.prompt}" for kind in judge.principles.kinds}
            verdicts = [
                (judge.verify(shown, text), holds_text(shares[kind], critique))
                for kind, text in checks.items()
            ]
            return self._taught([(judge.plan(shown), plan_text(checks)), *verdicts])
        made: list[tuple[Question, str]] = []
        said: dict[str, str] = {}
        for ask in judge.points.asks:
            scores = _scores(ask, shares)
            if scores is None:
                return []
            said[ask.name] = verdict_text(scores, layout_of(ask), critique)
            made.append((judge.question(ask, shown, said), said[ask.name]))
        return self._taught(made)

    def lessons_of_pair(self, pair: PreferencePair) -> list[Lesson]:
        """The answers in both orders, from the label."""
        assert isinstance(self.judge, PairJudge)
        label = pair.labels["overall"]
        first = 0.5 if label == 0.5 else float(label > 0.5)
        critique, how = self._critique(pair.a), self.judge.pair
        both = self.judge.questions(pair.a, pair.b)
        return self._taught(
            [(both[0], outcome_text(first, how, critique)), (both[1], outcome_text(1 - first, how, critique))]
        )

    def _taught(self, texts: Sequence[tuple[Question, str]]) -> list[Lesson]:
        for question, _ in texts:
            self.engine.text(question)
        return [(question, self.engine.tokens_of(text)) for question, text in texts]

    def _critique(self, sample: Sample) -> str:
        found = sample.metadata.get(CRITIQUE)
        return spoken(found) if isinstance(found, str) and spoken(found) else self.critique

    # ------------------------------------------------------------ answers that it draws

    def show(self, sample: Sample) -> Shown:
        """A sample made ready; ValueError or OSError says what is wrong with it."""
        return show(sample, self.judge.settings)

    def ask_both(self, pair: PreferencePair) -> Question:
        """The question about the first and the second of a pair; ValueError or OSError says what is wrong."""
        assert isinstance(self.judge, PairJudge)
        question = self.judge.questions(pair.a, pair.b)[0]
        self.engine.text(question)
        return question

    def marks(self, shown: Sequence[Shown], draws: Sequence[Sampling]) -> list[list[Rollout]]:
        """For each of S samples N passes with the mark of each."""
        assert not isinstance(self.judge, PairJudge)
        self.engine.forget()
        return self.judge.rollouts(shown, draws)

    def winners(self, asked: Sequence[Question], draws: Sequence[Sampling]) -> list[list[Rollout]]:
        """For each of S pairs N answers: 1 says that the first is better, 0 the second, 0.5 neither."""
        assert isinstance(self.judge, PairJudge)
        self.engine.forget()
        answers = self.engine.generate(
            [question for question in asked for _ in draws], [how for _ in asked for how in draws]
        )
        made = []
        for i, answer in enumerate(answers):
            found = self.judge.read(answer)
            said = math.nan if isinstance(found, str) else found[0].first
            side = said if math.isnan(said) or said == 0.5 else float(said > 0.5)
            made.append(Rollout(((asked[i // len(draws)], answer),), side))
        return [made[i : i + len(draws)] for i in range(0, len(made), len(draws))]


def _scores(ask: Ask, shares: Mapping[str, float]) -> dict[str, float] | None:
    """The numbers of a question; N/A where that may be said of one that was not rated, None where it may not."""
    made = {}
    for number in layout_of(ask).fields:
        if number.name in shares:
            made[number.name] = on_grid(shares[number.name], number)
        elif number.optional:
            made[number.name] = math.nan
        else:
            return None
    return made
