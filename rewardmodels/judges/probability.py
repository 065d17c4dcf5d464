"""Rewards that are probabilities of a few tokens: one forward pass a sample, no decoding.

    YesNoReward   P(yes) / (P(yes) + P(no))                RewardDance (arXiv 2509.08826), PaCo-Reward (2512.04784)
    DigitReward   sum_d d P(d) on [0, 1]                   UniWorld-V2 (2510.16888)
    EchoReward    mean_t log p(prompt_t | picture)         PromptEcho (2604.12652)

Probabilities are taken in float32 and renormalised over the expected words; how much of the whole they held is kept
(`details["mass"]`), and below `min_mass` there is no score. Differences from the papers: "Yes", " yes" and "YES" count
as one word unless `variants` is off; a server's failure is a reason, not 0; UniWorld-V2's missing digit is 0.

Legend: B samples, W words.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from itertools import combinations
from typing import Protocol

from mmalign.types import Sample
from rewardmodels.judges.calibration import UNFITTED, Calibration, probability
from rewardmodels.judges.chat import Echo, Engine, Question, Review, Sampling, Words
from rewardmodels.judges.settings import Digits, JudgeFile, YesNo
from rewardmodels.judges.settings import Echo as EchoSettings
from rewardmodels.judges.speaking import (
    Shown,
    own_modalities,
    own_name,
    own_reads_files,
    picture_of,
    question,
    reviews,
    scores,
    share_of,
)
from rewardmodels.judges.wording import Wording


class _Asking(Protocol):
    @property
    def asked(self) -> YesNo | Digits | EchoSettings: ...


def _one(judge: _Asking) -> tuple[str, ...]:
    """The one dimension of a judge that asks one question."""
    return (judge.asked.dimension,)


@dataclass(eq=False)
class YesNoReward:
    """How likely the answer is yes, in [0, 1]; reviews hold the captured mass and, where it reasons, its words."""

    settings: JudgeFile
    wording: Wording
    differentiable: bool = False
    _: KW_ONLY
    engine: Engine
    asked: YesNo
    seed: int = 0
    calibration: Calibration = UNFITTED

    name, modalities, reads_files = own_name, own_modalities, own_reads_files
    dimensions = property(_one)
    review, __call__, probability = reviews, scores, probability

    def judge(self, shown: Sequence[Shown], samples: Sequence[Sample]) -> list[Review]:
        made: list[Review | None] = [None] * len(shown)
        asked: list[Question] = []
        owners: list[int] = []
        for i, (one, sample) in enumerate(zip(shown, samples, strict=True)):
            try:
                questions = self.questions(one, sample)
            except (ValueError, OSError) as error:
                made[i] = Review(reason=" ".join(str(error).split()))
            else:
                asked += questions
                owners += [i] * len(questions)
        reasons = self._reason(asked)
        thought = [one for one in reasons if not isinstance(one, str)]
        words = iter(
            self.engine.first_words(thought, (self.asked.yes, self.asked.no), variants=self.asked.variants)
        )
        found = [one if isinstance(one, str) else next(words) for one in reasons]
        for i in dict.fromkeys(owners):
            mine = [k for k, owner in enumerate(owners) if owner == i]
            starts = [asked_so.start for k in mine if isinstance(asked_so := reasons[k], Question)]
            said = tuple(start for start in starts if start)
            made[i] = self._review([found[k] for k in mine], said)
        return [review for review in made if review is not None]

    def questions(self, shown: Shown, sample: Sample) -> list[Question]:
        """One question, or one for every pair of a set's pictures."""
        roles: tuple[str, ...] = self.asked.shows
        if self.asked.reference:
            beside = picture_of(sample.metadata.get("reference"), "reference")
            shown = replace(shown, pictures={"reference": beside, **shown.pictures})
            roles = ("reference", *roles)
        if not (self.asked.pairs_of_frames and len(shown.pictures["media"]) > 1):
            return [question(self.wording, shown, roles)]
        pairs = combinations(shown.pictures["media"], 2)
        return [
            question(
                self.wording, replace(shown, pictures={"source": (a,), "media": (b,)}), ("source", "media")
            )
            for a, b in pairs
        ]

    def _reason(self, asked: Sequence[Question]) -> list[Question | str]:
        """Questions that go on after the model's own reasoning; or why it did not reason."""
        if self.asked.reasoning == 0:
            return list(asked)
        answers = self.engine.generate(asked, [Sampling(self.asked.reasoning, seed=self.seed)] * len(asked))
        return [
            answer.problem
            if answer.problem is not None
            else replace(
                one, start=answer.text.partition(self.asked.verdict)[0].rstrip() + self.asked.verdict
            )
            for one, answer in zip(asked, answers, strict=True)
        ]

    def _review(self, found: Sequence[Words | str], said: tuple[str, ...]) -> Review:
        shares, masses = [], []
        for words in found:
            share = words if isinstance(words, str) else share_of(words, self.asked.min_mass)
            if isinstance(share, str):
                return Review(reason=share, answers=said)
            shares.append(share[0])
            masses.append(words.mass if isinstance(words, Words) else math.nan)
        value = statistics.fmean(shares)
        return Review({self.asked.dimension: value}, value, answers=said, details={"mass": min(masses)})


@dataclass(eq=False)
class DigitReward:
    """The expected digit, (E[digit] - low) / (high - low); reviews hold the captured mass and the deviation."""

    settings: JudgeFile
    wording: Wording
    differentiable: bool = False
    _: KW_ONLY
    engine: Engine
    asked: Digits
    calibration: Calibration = UNFITTED

    name, modalities, reads_files = own_name, own_modalities, own_reads_files
    dimensions = property(_one)
    review, __call__, probability = reviews, scores, probability

    def judge(self, shown: Sequence[Shown], samples: Sequence[Sample]) -> list[Review]:
        asked = [one for pair in zip(shown, samples, strict=True) for one in self.questions(*pair)]
        return [self._review(words) for words in self.engine.first_words(asked, list(self.asked.worths))]

    def questions(self, shown: Shown, sample: Sample) -> list[Question]:
        """The one question; a sample's requirement, where it has one, says what counts."""
        wanted = str(sample.metadata.get("requirement") or shown.prompt)
        return [question(self.wording, shown, self.asked.shows, requirement=wanted)]

    def _review(self, words: Words) -> Review:
        shares = share_of(words, self.asked.min_mass)
        if isinstance(shares, str):
            return Review(reason=shares)
        steps = list(self.asked.worths.values())
        mean = math.fsum(p * step for p, step in zip(shares, steps, strict=True))
        variance = math.fsum(p * (step - mean) ** 2 for p, step in zip(shares, steps, strict=True))
        details = {"mass": words.mass, "std": math.sqrt(variance)}
        return Review({self.asked.dimension: mean}, mean, details=details)


@dataclass(eq=False)
class EchoReward:
    """Mean log-probability of the prompt's tokens, below 0: how well the picture lets the model say the prompt.
    Comparable for one prompt only.
    """

    settings: JudgeFile
    wording: Wording
    differentiable: bool = False
    _: KW_ONLY
    engine: Echo
    asked: EchoSettings

    name, modalities, reads_files = own_name, own_modalities, own_reads_files
    dimensions = property(_one)
    review, __call__ = reviews, scores

    def judge(self, shown: Sequence[Shown], samples: Sequence[Sample]) -> list[Review]:
        asked = [question(self.wording, one, self.asked.shows) for one in shown]
        found = self.engine.echo(asked, [one.prompt for one in shown])
        return [
            Review(reason=words.problem)
            if words.problem is not None
            else Review({self.asked.dimension: words.log_probs[0]}, words.log_probs[0])
            for words in found
        ]
