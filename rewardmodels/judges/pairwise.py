"""Judges of pairs in words: asked in both orders, and undecided where the order decides.

Text verdicts that contradict each other are a tie (0.5) and counted as inconsistent. From token probabilities the two
orders' log-odds are averaged, which cancels a constant liking for the first place.

`WinRate` makes such a judge a reward for groups: each sample's mean win over the others of its prompt (Pref-GRPO,
arXiv 2508.20751). Its scores mean something within a call only.

Legend: P pairs, B samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from mmalign.types import Modality, Sample, Scores, content_of
from rewardmodels.batching import prepare
from rewardmodels.judges.chat import Answer, Engine, Question, Review, Sampling, Words, ask
from rewardmodels.judges.settings import JudgeFile, Pair
from rewardmodels.judges.speaking import Shown, collected, own_modalities, own_name, share_of, show
from rewardmodels.judges.verdicts import Unreadable
from rewardmodels.judges.winners import winner
from rewardmodels.judges.wording import Wording

Compared = tuple[Sample, Sample]


@dataclass(frozen=True)
class Decision:
    """What a judge says of a pair: p(first is better), and how it came about."""

    probability: float = math.nan
    reason: str | None = None
    forward: float = math.nan
    """As asked: 1 the first, 0 the second, 0.5 a tie, or a probability."""
    backward: float = math.nan
    """From the swapped order, turned back."""
    answers: tuple[str, ...] = ()

    @property
    def consistent(self) -> bool:
        """Both orders name the same winner, or both a tie."""
        return _side(self.forward) == _side(self.backward)


def _side(value: float) -> int:
    return 0 if value == 0.5 else (1 if value > 0.5 else -1)


@dataclass(frozen=True)
class Consistency:
    """Over decided pairs: how often both orders agree, and how often the candidate shown first is chosen."""

    num: int
    failed: int
    agreement: float
    first_rate: float


def consistency(decisions: Sequence[Decision]) -> Consistency:
    """What a report should say beside every accuracy of a pair judge. NaN where nothing was decided.

    >>> consistency([Decision(0.5, None, 1.0, 0.0)]).first_rate
    1.0
    """
    known = [one for one in decisions if one.reason is None]
    chosen = [_side(one.forward) for one in known] + [-_side(one.backward) for one in known]
    named = [side for side in chosen if side != 0]
    return Consistency(
        len(known),
        len(decisions) - len(known),
        sum(one.consistent for one in known) / len(known) if known else math.nan,
        sum(side == 1 for side in named) / len(named) if named else math.nan,
    )


@dataclass(eq=False)
class PairJudge:
    """Compares two samples of one prompt."""

    engine: Engine
    settings: JudgeFile
    pair: Pair
    wording: Wording
    seed: int = 0

    name, modalities = own_name, own_modalities

    def compare(self, pairs: Sequence[Compared]) -> list[Decision]:
        """One decision a pair; one that cannot be judged has a reason and harms no other."""
        made: list[Decision | None] = [None] * len(pairs)
        asked: list[Question] = []
        places: list[int] = []
        for i, (a, b) in enumerate(pairs):
            try:
                both = self.questions(a, b)
            except (ValueError, OSError) as error:
                made[i] = Decision(reason=" ".join(str(error).split()))
            else:
                asked += both
                places.append(i)
        found = self._verdicts(asked)
        for k, i in enumerate(places):
            made[i] = self._decide(*found[2 * k : 2 * k + 2])
        return [one for one in made if one is not None]

    def questions(self, a: Sample, b: Sample) -> tuple[Question, Question]:
        """About the first and the second, and about the second and the first; ValueError says what is wrong."""
        if a.prompt != b.prompt:
            raise ValueError("the two samples of a pair must have one prompt")
        first, second = (
            show(prepare(sample, self.modalities), self.settings.max_frames) for sample in (a, b)
        )
        return self._question(first, second), self._question(second, first)

    def _question(self, first: Shown, second: Shown) -> Question:
        pictures = first.only(self.pair.shows)
        pictures |= {"first": first.pictures["media"], "second": second.pictures["media"]}
        return ask(*self.wording.fill({"prompt": first.prompt}, pictures))

    def _verdicts(self, asked: Sequence[Question]) -> list[tuple[float, str] | str]:
        """For each question p(first) and the words, or a problem."""
        if self.pair.style == "probability":
            return [self._share(words) for words in self.engine.first_words(asked, self.pair.words)]
        draw = self.pair.draw
        sampling = Sampling(draw.max_tokens, draw.temperature, draw.top_p, draw.top_k, self.seed)
        return [self._read(answer) for answer in self.engine.generate(asked, [sampling] * len(asked))]

    def _share(self, words: Words) -> tuple[float, str] | str:
        shares = share_of(words, self.pair.min_mass)
        return shares if isinstance(shares, str) else (shares[0], "")

    def _read(self, answer: Answer) -> tuple[float, str] | str:
        assert self.pair.style != "probability"
        if answer.problem is not None:
            return answer.problem
        try:
            return winner(answer.text, self.pair.style, self.pair.key), answer.text
        except Unreadable as problem:
            return f"{problem} (cut off)" if answer.cut else str(problem)

    def _decide(self, there: tuple[float, str] | str, back: tuple[float, str] | str) -> Decision:
        for name, one in (("as given", there), ("swapped", back)):
            if isinstance(one, str):
                return Decision(reason=f"{name}: {one}")
        assert not isinstance(there, str) and not isinstance(back, str)
        forward, backward = there[0], 1 - back[0]
        if self.pair.style == "probability":
            chance = 1 / (1 + math.exp(-(_logit(forward) + _logit(backward)) / 2))
        elif _side(forward) * _side(backward) < 0:
            chance = 0.5
        else:
            chance = (forward + backward) / 2
        return Decision(chance, None, forward, backward, (there[1], back[1]))


def _logit(chance: float) -> float:
    bounded = min(max(chance, 1e-7), 1 - 1e-7)
    return math.log(bounded / (1 - bounded))


@dataclass(eq=False)
class WinRate:
    """A pair judge as a reward: the mean p(this is better) over all others of the same prompt and source."""

    judge: PairJudge
    dimensions: tuple[str, ...] = ("win_rate",)
    differentiable: bool = False
    needs_group: bool = True

    @property
    def name(self) -> str:
        """The judge's name."""
        return f"win-rate({self.judge.name})"

    @property
    def modalities(self) -> frozenset[Modality]:
        """What the judge compares."""
        return self.judge.modalities

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Win rates in [0, 1]; a sample without rivals, or whose every comparison failed, has a reason."""
        groups: dict[object, list[int]] = {}
        for i, sample in enumerate(samples):
            key = (sample.prompt, sample.group, content_of(sample.source))
            groups.setdefault(key, []).append(i)
        places = [pair for members in groups.values() for pair in combinations(members, 2)]
        decisions = self.judge.compare([(samples[i], samples[j]) for i, j in places])
        wins: Mapping[int, list[float]] = {i: [] for i in range(len(samples))}
        problems: dict[int, str] = {}
        for (i, j), one in zip(places, decisions, strict=True):
            if one.reason is not None:
                problems |= {i: one.reason, j: one.reason}
                continue
            wins[i].append(one.probability)
            wins[j].append(1 - one.probability)
        return collected([_rate(wins[i], problems.get(i)) for i in range(len(samples))], self.dimensions)


def _rate(wins: Sequence[float], problem: str | None) -> Review:
    if not wins:
        return Review(
            reason=problem or "nothing to compare with: a win rate needs several samples of one prompt"
        )
    rate = math.fsum(wins) / len(wins)
    return Review({"win_rate": rate}, rate)
