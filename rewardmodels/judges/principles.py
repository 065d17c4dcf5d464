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
from rewardmodels.judges.chat import Answer, Engine, Review, Sampling
from rewardmodels.judges.settings import JudgeFile, Principles
from rewardmodels.judges.speaking import Shown, own_modalities, own_name, question, reviews, scores
from rewardmodels.judges.verdicts import Check, Unreadable, checks, quote, spoken, tagged
from rewardmodels.judges.wording import Wording

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

    name, modalities = own_name, own_modalities
    review, __call__ = reviews, scores

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The kinds of checks."""
        return tuple(self.principles.kinds)

    def judge(self, shown: Sequence[Shown], samples: Sequence[Sample]) -> list[Review]:
        how = self.principles
        plans = self.engine.generate(
            [question(self.wordings["plan"], one, how.plan_shows) for one in shown],
            [self._sampling()] * len(shown),
        )
        made: list[Review | None] = [None] * len(shown)
        points: list[tuple[int, Check]] = []
        for i, plan in enumerate(plans):
            try:
                points += [(i, check) for check in self._checks(plan)]
            except Unreadable as problem:
                made[i] = Review(reason=f"plan: {problem}", answers=(plan.text,))
        asked = [
            question(self.wordings["verify"], shown[i], how.verify_shows, check=check.text)
            for i, check in points
        ]
        verdicts = self.engine.generate(asked, [self._sampling()] * len(asked))
        for i in range(len(shown)):
            if made[i] is None:
                mine = [(c, v) for (owner, c), v in zip(points, verdicts, strict=True) if owner == i]
                made[i] = self._review(plans[i].text, mine)
        return [review for review in made if review is not None]

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
