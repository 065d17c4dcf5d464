"""Rewards that are generated text, parsed: one or several questions a sample, K passes averaged.

An answer that cannot be read is no score: NaN, with a reason that quotes it. Sources of the overall rules:

    mean       over the numbers that are not N/A, each on its own scale        UnifiedReward-Edit (2503.05236)
    sum        mean of the numbers that are not N/A, times how many are asked  RationalRewards (2604.11626)
    sum_middle of the numbers, N/A as the middle of its range (2.5 of 1 to 4)  RationalRewards as published
    final      the field called `final`                                        UnifiedReward (2503.05236)
    editscore  sqrt(min(success, preservation) * min(naturalness, cleanness)) / 2.5      EditScore (2509.23909)
    cme        e (0.6 + 0.4 c), e = execution, c = consistency on [0, 1]       FIRM (2603.12247)
    qma        f (0.4 + 0.6 q), f = following, q = the least of the others     FIRM

Differences from the papers: N/A stays missing in its own dimension and is left out of a mean and of `sum`, as it says
nothing of the picture; details count the passes that said it (`text_rendering_na_passes`). EditScore's visual question
sees the edited picture only, as in the paper; passes that cannot be read are counted, not guessed.

Legend: B samples, D dimensions, K passes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mmalign.types import Sample, Scores
from rewardmodels.judges.chat import Answer, Engine, Question, Review, Sampling
from rewardmodels.judges.settings import Ask, JudgeFile, Points
from rewardmodels.judges.speaking import (
    Rollout,
    Shown,
    collected,
    own_modalities,
    own_name,
    own_reads_files,
    question,
    reviews,
)
from rewardmodels.judges.verdicts import Layout, Number, Unreadable, read
from rewardmodels.judges.wording import Wording

Ranges = Mapping[str, tuple[float, float]]
Values = Mapping[str, float]


def _known(values: Values) -> list[float]:
    """Those that are not N/A."""
    known = [value for value in values.values() if not math.isnan(value)]
    if not known:
        raise Unreadable("every score is N/A")
    return known


def _mean(values: Values, ranges: Ranges) -> float:
    return statistics.fmean(_known(values))


def _sum(values: Values, ranges: Ranges) -> float:
    known = _known(values)
    return math.fsum(known) * (len(values) / len(known))


def _sum_middle(values: Values, ranges: Ranges) -> float:
    _known(values)
    return math.fsum(sum(ranges[name]) / 2 if math.isnan(value) else value for name, value in values.items())


def _editscore(values: Values, ranges: Ranges) -> float:
    following = min(values["success"], values["preservation"])
    quality = min(values["naturalness"], values["cleanness"])
    return math.sqrt(following * quality) / 2.5


def _gated(values: Values, ranges: Ranges, first: str, share: float) -> float:
    """The first gates the least of the others, all brought to [0, 1]."""
    units = {
        name: (value - ranges[name][0]) / (ranges[name][1] - ranges[name][0])
        for name, value in values.items()
    }
    gate = units.pop(first)
    return gate * (1 - share + share * min(units.values()))


OVERALL: Mapping[str, Callable[[Values, Ranges], float]] = {
    "mean": _mean,
    "sum": _sum,
    "sum_middle": _sum_middle,
    "final": lambda values, ranges: values["final"],
    "editscore": _editscore,
    "cme": lambda values, ranges: _gated(values, ranges, "execution", 0.4),
    "qma": lambda values, ranges: _gated(values, ranges, "following", 0.6),
}


@dataclass
class _Pass:
    """One pass over one sample, as it fills up."""

    how: Sampling
    asked: list[tuple[Question, Answer]] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    problem: str | None = None
    overall: float = math.nan


@dataclass(eq=False)
class TextReward:
    """A judge that writes; reviews hold its answers, critiques and refined prompts too."""

    engine: Engine
    settings: JudgeFile
    points: Points
    wordings: Mapping[str, Wording]
    seed: int = 0
    differentiable: bool = False

    name, modalities, reads_files = own_name, own_modalities, own_reads_files
    review = reviews

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The numbers it asks for."""
        return tuple(field.name for ask in self.points.asks for field in ask.fields)

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Mean over the passes; with several passes log_variance is that of the mean."""
        return collected(self.review(samples=samples), self.dimensions, variances=self.points.passes > 1)

    def judge(self, shown: Sequence[Shown], samples: Sequence[Sample]) -> list[Review]:
        draw = self.points.draw
        how = Sampling(draw.max_tokens, draw.temperature, draw.top_p, draw.top_k)
        draws = [replace(how, seed=self.seed + k) for k in range(self.points.passes)]
        return [_summary(row, self.dimensions) for row in self._passes(shown, draws)]

    def rollouts(self, shown: Sequence[Shown], draws: Sequence[Sampling]) -> list[list[Rollout]]:
        """For every sample a pass a draw, answer by answer."""
        return [
            [Rollout(tuple(made.asked), made.overall) for made in row] for row in self._passes(shown, draws)
        ]

    def _passes(self, shown: Sequence[Shown], draws: Sequence[Sampling]) -> list[list[_Pass]]:
        tries = [[_Pass(how) for how in draws] for _ in shown]
        for ask in self.points.asks:
            open_tries = [
                (one, made)
                for one, row in zip(shown, tries, strict=True)
                for made in row
                if made.problem is None
            ]
            same = {} if ask.after else {id(one): self.question(ask, one, {}) for one in shown}
            questions = [same.get(id(one)) or self.question(ask, one, made.said) for one, made in open_tries]
            answers = self.engine.generate(questions, [made.how for _, made in open_tries])
            for (_, made), about, answer in zip(open_tries, questions, answers, strict=True):
                made.asked.append((about, answer))
                _take(made, ask, answer)
        ranges = {f.name: (f.low, f.high) for ask in self.points.asks for f in ask.fields}
        for made in (made for row in tries for made in row if made.problem is None):
            try:
                made.overall = OVERALL[self.points.overall](made.values, ranges)
            except Unreadable as problem:
                made.problem = str(problem)
        return tries

    def question(self, ask: Ask, shown: Shown, said: Mapping[str, str]) -> Question:
        """What is asked, after what was `said` to earlier questions."""
        critique = {"critique": said[ask.after]} if ask.after is not None else {}
        return question(self.wordings[ask.name], shown, ask.shows, system=ask.system, **critique)


def layout_of(ask: Ask) -> Layout:
    """How the answer to a question is read."""
    fields = tuple(Number(f.name, f.low, f.high, f.label, f.optional, f.step) for f in ask.fields)
    return Layout(ask.format, fields, ask.key, ask.notes)


def _take(made: _Pass, ask: Ask, answer: Answer) -> None:
    """Read one answer into its pass."""
    if answer.problem is not None:
        made.problem = answer.problem
        return
    made.said[ask.name] = answer.text
    try:
        verdict = read(answer.text, layout_of(ask))
    except Unreadable as problem:
        cut = f" (cut off after {answer.num_tokens} tokens)" if answer.cut else ""
        made.problem = f"{ask.name}: {problem}{cut}"
        return
    made.values |= verdict.scores
    made.notes |= verdict.notes
    if ask.format == "free":
        made.notes[ask.name] = answer.text.strip()


def _summary(row: Sequence[_Pass], names: Sequence[str]) -> Review:
    """Several passes as one review."""
    good = [made for made in row if made.problem is None]
    answers = tuple(answer.text for made in row for _, answer in made.asked if answer.problem is None)
    if 2 * len(good) < len(row) or not good:
        problem = next(made.problem for made in row if made.problem is not None)
        count = f"{len(row) - len(good)} of {len(row)} passes failed: " if len(row) > 1 else ""
        return Review(reason=count + problem, answers=answers)
    scores: dict[str, float] = {}
    variance: dict[str, float] = {}
    for name in names:
        known = [made.values[name] for made in good if not math.isnan(made.values[name])]
        if known:
            scores[name] = statistics.fmean(known)
        if len(known) > 1:
            variance[name] = statistics.variance(known) / len(known)
    totals = [made.overall for made in good]
    details = {"readable_passes": float(len(good)), "passes": float(len(row))}
    spread = statistics.variance(totals) if len(totals) > 1 else math.nan
    for name in names:
        if missing := sum(math.isnan(made.values[name]) for made in good):
            details[f"{name}_na_passes"] = float(missing)
    if len(totals) > 1:
        details["overall_std"] = math.sqrt(spread)
    mean, notes = statistics.fmean(totals), good[0].notes
    return Review(scores, mean, None, answers, notes, details, variance, spread / len(totals))
