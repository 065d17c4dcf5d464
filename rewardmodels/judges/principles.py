"""Principles checked one by one: a plan of what must hold for this prompt, then a verdict on each point.

After Edit-R1's reasoning verifier (arXiv 2604.27505): the instruction is turned into checks of what must stay (keep),
what must happen (follow) and how it must look (quality); each is verified by itself, with reasons, and the score is
the share that holds.

Differences from the paper: one model may do both steps; each kind is a dimension and the overall score their weighted
mean, so that ten checks of one kind do not drown one of another.

Legend: B samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmalign.types import Sample
from rewardmodels.judges.chat import Answer, Engine, Question, Review, Sampling
from rewardmodels.judges.settings import JudgeFile, Principles
from rewardmodels.judges.speaking import (
    Rollout,
    Shown,
    own_modalities,
    own_name,
    own_reads_files,
    question,
    reviews,
    scores,
)
from rewardmodels.judges.verdicts import Check, Unreadable, checks, quote, spoken, tagged
from rewardmodels.judges.wording import Wording

Asked = Sequence[tuple[Question, Answer]]
HOLDS: Mapping[str, float] = {"yes": 1.0, "no": 0.0, "partly": 0.5}


@dataclass(eq=False)
class PrincipleReward:
    """Plans, then verifies: shares of checks that hold, by kind; a kind without checks is NaN and does not count.
    Reviews hold the plan and every verdict in words.
    """

    engine: Engine
    settings: JudgeFile
    principles: Principles
    wordings: Mapping[str, Wording]
    seed: int = 0
    differentiable: bool = False

    name, modalities, reads_files = own_name, own_modalities, own_reads_files
    review, __call__ = reviews, scores

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The kinds of checks."""
        return tuple(self.principles.kinds)

    def judge(self, shown: Sequence[Shown], samples: Sequence[Sample]) -> list[Review]:
        return [review for review, _ in self._passes(shown, [self._sampling()] * len(shown))]

    def rollouts(self, shown: Sequence[Shown], draws: Sequence[Sampling]) -> list[list[Rollout]]:
        """For every sample a pass a draw, answer by answer."""
        num = len(draws)
        made = self._passes([one for one in shown for _ in draws], list(draws) * len(shown))
        flat = [Rollout(asked, review.overall) for review, asked in made]
        return [flat[i * num : (i + 1) * num] for i in range(len(shown))]

    def _passes(self, shown: Sequence[Shown], draws: Sequence[Sampling]) -> list[tuple[Review, Asked]]:
        """A review for each sample with its draw, and what was asked and answered for it."""
        planned = [self.plan(one) for one in shown]
        plans = self.engine.generate(planned, draws)
        found: list[tuple[Check, ...] | Review] = [self._checks_of(plan) for plan in plans]
        points = [
            (i, check) for i, plan in enumerate(found) if not isinstance(plan, Review) for check in plan
        ]
        asked = [self.verify(shown[i], check.text) for i, check in points]
        verdicts = self.engine.generate(asked, [draws[i] for i, _ in points])
        mine: list[list[tuple[Check, Question, Answer]]] = [[] for _ in shown]
        for (i, check), about, verdict in zip(points, asked, verdicts, strict=True):
            mine[i].append((check, about, verdict))
        made: list[tuple[Review, Asked]] = []
        for begun, plan, drawn_up, rows in zip(planned, plans, found, mine, strict=True):
            told = [(check, verdict) for check, _, verdict in rows]
            review = drawn_up if isinstance(drawn_up, Review) else self._review(plan.text, told)
            made.append((review, [(begun, plan), *((about, verdict) for _, about, verdict in rows)]))
        return made

    def plan(self, shown: Shown) -> Question:
        """The question for checks."""
        return question(self.wordings["plan"], shown, self.principles.plan_shows)

    def verify(self, shown: Shown, check: str) -> Question:
        """The question whether one of them holds."""
        return question(self.wordings["verify"], shown, self.principles.verify_shows, check=check)

    def _checks_of(self, plan: Answer) -> tuple[Check, ...] | Review:
        try:
            return self._checks(plan)
        except Unreadable as problem:
            return Review(reason=f"plan: {problem}", answers=(plan.text,))

    def _checks(self, plan: Answer) -> tuple[Check, ...]:
        if plan.problem is not None:
            raise Unreadable(plan.problem)
        return checks(plan.text, tuple(self.principles.kinds), most=self.principles.most)

    def _review(self, plan: str, verdicts: Sequence[tuple[Check, Answer]]) -> Review:
        answers = (plan, *(answer.text for _, answer in verdicts))
        by_kind: dict[str, list[float]] = {}
        for check, answer in verdicts:
            try:
                by_kind.setdefault(check.kind, []).append(_holds(answer))
            except Unreadable as problem:
                return Review(reason=f"check {check.text!r}: {problem}", answers=answers)
        scores = {kind: math.fsum(held) / len(held) for kind, held in by_kind.items()}
        weights = self.principles.kinds
        total = math.fsum(weights[kind] * score for kind, score in scores.items())
        overall = total / math.fsum(weights[kind] for kind in scores)
        details = {"checks": float(len(verdicts))}
        return Review(scores, overall, None, answers, {"plan": spoken(plan)}, details)

    def _sampling(self) -> Sampling:
        draw = self.principles.draw
        return Sampling(draw.max_tokens, draw.temperature, draw.top_p, draw.top_k, self.seed)


def _holds(answer: Answer) -> float:
    if answer.problem is not None:
        raise Unreadable(answer.problem)
    said = tagged(answer.text, "answer").strip().rstrip(".").casefold()
    if said not in HOLDS:
        raise Unreadable(
            f"{quote(said)} is none of {', '.join(HOLDS)}; the answer starts {quote(answer.text)}"
        )
    return HOLDS[said]
