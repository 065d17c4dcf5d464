"""Judges of pairs in words: asked in both orders, and undecided where the order decides.

Text verdicts that contradict each other are a tie (0.5) and counted as inconsistent. From token probabilities the two
orders' log-odds are averaged, and so are the numbers or shares of judges that give each of two its own: that cancels a
constant liking for the first place.

`WinRate` makes such a judge a reward for groups: each sample's mean win over the others of its prompt (Pref-GRPO,
arXiv 2508.20751), and the mean of its own numbers. Its scores mean something within a call only.

Legend: P pairs, B samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean

from mmalign.types import Modality, Sample, Scores, content_of
from rewardmodels.judges.calibration import UNFITTED, Calibration
from rewardmodels.judges.chat import Answer, Engine, Question, Review, Sampling, Words, ask
from rewardmodels.judges.settings import JudgeFile, Pair
from rewardmodels.judges.speaking import (
    Shown,
    collected,
    own_modalities,
    own_name,
    own_reads_files,
    share_of,
    show,
)
from rewardmodels.judges.verdicts import Unreadable
from rewardmodels.judges.winners import PARTS, Outcome, larger, outcome
from rewardmodels.judges.wording import Wording

Compared = tuple[Sample, Sample]
_Said = tuple[Outcome, str]


@dataclass(frozen=True)
class Decision:
    """What a judge says of a pair: p(first is better), and how it came about."""

    probability: float = math.nan
    reason: str | None = None
    forward: float = math.nan
    """As asked: 1 the first, 0 the second, 0.5 a tie, or a probability or share."""
    backward: float = math.nan
    """From the swapped order, turned back."""
    answers: tuple[str, ...] = ()
    parts: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Numbers of the first and of the second, each the mean over both orders."""

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
    calibration: Calibration = UNFITTED

    name, modalities, reads_files = own_name, own_modalities, own_reads_files

    @property
    def parts(self) -> tuple[str, ...]:
        """The numbers that each of two gets beside the verdict."""
        return PARTS.get(self.pair.style, ())

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
        first, second = show(a, self.settings), show(b, self.settings)
        return self._question(first, second), self._question(second, first)

    def _question(self, first: Shown, second: Shown) -> Question:
        pictures = first.only(self.pair.shows)
        pictures |= {"first": first.pictures["media"], "second": second.pictures["media"]}
        return ask(*self.wording.fill({"prompt": first.prompt}, pictures))

    def _verdicts(self, asked: Sequence[Question]) -> list[_Said | str]:
        """What is said of the two of each question, or a problem."""
        if self.pair.style == "probability":
            return [self._share(words) for words in self.engine.first_words(asked, self.pair.words)]
        draw = self.pair.draw
        sampling = Sampling(draw.max_tokens, draw.temperature, draw.top_p, draw.top_k, self.seed)
        return [self.read(answer) for answer in self.engine.generate(asked, [sampling] * len(asked))]

    def _share(self, words: Words) -> _Said | str:
        shares = share_of(words, self.pair.min_mass)
        return shares if isinstance(shares, str) else (Outcome(shares[0]), "")

    def read(self, answer: Answer) -> _Said | str:
        """What an answer in words says of the two, or a problem."""
        assert self.pair.style != "probability"
        if answer.problem is not None:
            return answer.problem
        try:
            return outcome(answer.text, self.pair.style, self.pair.key), answer.text
        except Unreadable as problem:
            return f"{problem} (cut off)" if answer.cut else str(problem)

    def _decide(self, there: _Said | str, back: _Said | str) -> Decision:
        for name, one in (("as given", there), ("swapped", back)):
            if isinstance(one, str):
                return Decision(reason=f"{name}: {one}")
        assert not isinstance(there, str) and not isinstance(back, str)
        forward, backward = there[0].first, 1 - back[0].first
        parts = {name: _both(numbers, back[0].parts[name]) for name, numbers in there[0].parts.items()}
        if self.pair.style == "probability":
            chance = 1 / (1 + math.exp(-(_logit(forward) + _logit(backward)) / 2))
        elif self.pair.style == "scores":
            chance = larger(*parts["score"])
        elif self.pair.style != "shares" and _side(forward) * _side(backward) < 0:
            chance = 0.5
        else:
            chance = (forward + backward) / 2
        return Decision(chance, None, forward, backward, (there[1], back[1]), parts)


def _both(there: tuple[float, float], back: tuple[float, float]) -> tuple[float, float]:
    """The numbers of two, each the mean of both orders."""
    return (there[0] + back[1]) / 2, (there[1] + back[0]) / 2


def _logit(chance: float) -> float:
    bounded = min(max(chance, 1e-7), 1 - 1e-7)
    return math.log(bounded / (1 - bounded))


@dataclass(eq=False)
class WinRate:
    """A pair judge as a reward: the mean p(this is better) over all others of the same prompt and source, and the means
    of the numbers that it got beside them; `overall` is the mean of those that the judge file names.
    """

    judge: PairJudge
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

    @property
    def reads_files(self) -> bool:
        """Whether the judge chooses the frames of video files itself."""
        return self.judge.reads_files

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The win rate, and the judge's numbers."""
        return ("win_rate", *self.judge.parts)

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Means within groups; a sample without rivals, or whose every comparison failed, has a reason."""
        groups: dict[object, list[int]] = {}
        for i, sample in enumerate(samples):
            key = (sample.prompt, sample.group, content_of(sample.source))
            groups.setdefault(key, []).append(i)
        places = [pair for members in groups.values() for pair in combinations(members, 2)]
        decisions = self.judge.compare([(samples[i], samples[j]) for i, j in places])
        got: Mapping[int, list[Mapping[str, float]]] = {i: [] for i in range(len(samples))}
        problems: dict[int, str] = {}
        for (i, j), one in zip(places, decisions, strict=True):
            if one.reason is not None:
                problems |= {i: one.reason, j: one.reason}
                continue
            every = {"win_rate": (one.probability, 1 - one.probability), **one.parts}
            got[i].append({name: first for name, (first, _) in every.items()})
            got[j].append({name: second for name, (_, second) in every.items()})
        found = [self._mean(got[i], problems.get(i)) for i in range(len(samples))]
        return collected(found, self.dimensions)

    def _mean(self, got: Sequence[Mapping[str, float]], problem: str | None) -> Review:
        if not got:
            return Review(
                reason=problem or "nothing to compare with: a win rate needs several samples of one prompt"
            )
        rates = {name: fmean(one[name] for one in got) for name in self.dimensions}
        return Review(rates, fmean(rates[name] for name in self.judge.pair.overall))
