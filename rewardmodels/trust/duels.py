"""Judges of pairs: they score nothing alone, so each spoiled sample meets its original, and both orders are looked at.

A duel is decided for the original (1), for the spoiled one (0) or neither (1/2). What changes the prompt or the source
cannot be asked of a judge that compares two samples of one prompt.

Shape legend: `N` pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, Protocol, cast

import numpy as np
import torch

from mmalign.stats import intervals
from mmalign.stats.intervals import Interval
from mmalign.types import PreferencePair, Sample, Scores
from rewardmodels.trust import Ask
from rewardmodels.trust.pairs import JudgedPairs
from rewardmodels.trust.probes import Answers, Probe, kind_of, spoil, why_not
from rewardmodels.trust.survey import Decode, decode

ONE_PROMPT = "a judge of pairs compares two samples of one prompt and source"


class Verdict(Protocol):
    """p(the first is better), as asked, from the swapped order turned back, and why there is none."""

    @property
    def probability(self) -> float: ...
    @property
    def forward(self) -> float: ...
    @property
    def backward(self) -> float: ...
    @property
    def reason(self) -> str | None: ...


class Comparer(Protocol):
    """What judges of pairs have: one verdict a pair, both orders asked."""

    def compare(self, pairs: Sequence[tuple[Sample, Sample]], /) -> Sequence[Verdict]: ...


@dataclass(frozen=True)
class PositionBias:
    """How often what is shown first is chosen (1/2 without bias), and how often the order turns the winner."""

    first: Interval
    flipped: Interval
    num_failed: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "first": self.first.as_dict(),
            "flipped": self.flipped.as_dict(),
            "num_failed": self.num_failed,
        }


def comparer_of(model: object) -> Comparer | None:
    """The judge of pairs that this is or holds (a win rate does); None for a reward that scores samples alone."""
    for judge in (model, getattr(model, "judge", None)):
        if callable(getattr(judge, "compare", None)):
            return cast(Comparer, judge)
    return None


def win_rates(judge: Comparer) -> Ask:
    """A judge of pairs as scores: a sample's mean p(it is better) over the others of its `metadata["group"]`."""

    def ask(samples: Sequence[Sample]) -> Scores:
        members: dict[str, list[int]] = {}
        for k, sample in enumerate(samples):
            name = sample.prompt if sample.group is None else str(sample.group)
            members.setdefault(name, []).append(k)
        places = [pair for some in members.values() for pair in combinations(some, 2)]
        wins: list[list[float]] = [[] for _ in samples]
        reasons: list[str | None] = [
            "nothing to compare with: a win rate needs several samples of one prompt"
        ]
        reasons *= len(samples)
        verdicts = judge.compare([(samples[i], samples[j]) for i, j in places]) if places else ()
        for (i, j), one in zip(places, verdicts, strict=True):
            if one.reason is not None:
                reasons[i] = reasons[j] = one.reason
                continue
            wins[i].append(one.probability)
            wins[j].append(1.0 - one.probability)
        rates = torch.tensor([float(np.mean(some)) if some else 0.0 for some in wins])
        valid = torch.tensor([bool(some) for some in wins], dtype=torch.bool)
        told = tuple(None if some else why for some, why in zip(wins, reasons, strict=True))
        return Scores(rates[:, None], ("win_rate",), rates, valid, told)

    return ask


def compared_pairs(
    judge: Comparer, pairs: Sequence[PreferencePair], *, dimension: str = "overall", read: Decode = decode
) -> JudgedPairs:
    """Labelled pairs as the judge decides them: `difference` is p(a is better) - 1/2."""
    rows: list[tuple[float, float]] = []
    groups: list[str] = []
    left_out: Counter[str] = Counter()
    for pair in pairs:
        try:
            (one,) = judge.compare([(read(pair.a), read(pair.b))])
        except (ValueError, OSError) as problem:
            left_out[" ".join(str(problem).split())] += 1
            continue
        if one.reason is not None:
            left_out[kind_of(one.reason)] += 1
            continue
        rows.append((one.probability - 0.5, pair.labels[dimension]))
        groups.append(pair.group or pair.prompt)
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 2)
    return JudgedPairs(table[:, 0], table[:, 1], tuple(groups), None, left_out)


def position_bias(verdicts: Sequence[Verdict], groups: Sequence[str]) -> PositionBias:
    """From N verdicts in both orders. A bias towards the first place pushes `forward` up and `backward` down."""
    known = [one.reason is None for one in verdicts]
    there = np.asarray([one.forward if good else np.nan for one, good in zip(verdicts, known, strict=True)])
    back = np.asarray([one.backward if good else np.nan for one, good in zip(verdicts, known, strict=True)])
    turned = np.where(
        np.isfinite(there) & np.isfinite(back), (np.sign(there - 0.5) != np.sign(back - 0.5)) * 1.0, np.nan
    )
    chosen = (there + (1.0 - back)) / 2
    return PositionBias(
        intervals.mean(chosen, groups), intervals.mean(turned, groups), len(known) - sum(known)
    )


def neighbours(groups: Sequence[str], *, limit: int = 64) -> list[tuple[int, int]]:
    """Pairs of samples of one group, each with the next, spread evenly over all groups; at most `limit`."""
    members: dict[str, list[int]] = {}
    for k, group in enumerate(groups):
        members.setdefault(group, []).append(k)
    pairs = [pair for some in members.values() for pair in pairwise(some)]
    chosen = np.linspace(0, len(pairs) - 1, min(limit, len(pairs))).round().astype(int)
    return [pairs[int(k)] for k in chosen]


def order_matters(
    judge: Comparer, samples: Sequence[Sample], groups: Sequence[str], *, read: Decode = decode
) -> PositionBias | None:
    """The position bias on neighbouring samples of each prompt; None if no prompt has two."""
    pairs = neighbours(groups)
    if not pairs:
        return None
    decoded = {k: read(samples[k]) for k in sorted({k for pair in pairs for k in pair})}
    verdicts = judge.compare([(decoded[i], decoded[j]) for i, j in pairs])
    return position_bias(verdicts, [groups[i] for i, _ in pairs])


def duel(
    judge: Comparer,
    samples: Sequence[Sample],
    groups: Sequence[str],
    probes: Sequence[Probe],
    *,
    read: Decode = decode,
    limit: int = 64,
    seed: int = 0,
) -> list[Answers]:
    """Every probe of pixels as duels of up to `limit` faithful samples with their spoiled twins."""
    faithful = [k for k, sample in enumerate(samples) if sample.metadata.get("faithful") is not False]
    chosen = [faithful[int(k)] for k in np.linspace(0, len(faithful) - 1, min(limit, len(faithful))).round()]
    decoded = {k: read(samples[k]) for k in chosen}
    made = []
    for probe in probes:
        reason = why_not(probe, [samples[k] for k in chosen], [groups[k] for k in chosen])
        answers = Answers(probe, reason=reason or (None if probe.of == "pixels" else ONE_PROMPT))
        if answers.reason is None:
            _duel(answers, judge, decoded, groups, seed)
        made.append(answers)
    return made


def _duel(
    answers: Answers, judge: Comparer, decoded: dict[int, Sample], groups: Sequence[str], seed: int
) -> None:
    pairs, places = [], []
    for k, sample in decoded.items():
        if sample.modality not in answers.probe.modalities:
            continue
        spoiled = spoil(answers.probe, sample, sample, seed=seed, number=k)
        if spoiled is None:
            answers.unchanged += 1
            continue
        pairs.append((sample, spoiled))
        places.append(k)
    for k, one in zip(places, judge.compare(pairs) if pairs else (), strict=True):
        if one.reason is not None:
            answers.refused[kind_of(one.reason)] += 1
            continue
        answers.wins.append(0.5 + 0.5 * float(np.sign(one.probability - 0.5)))
        answers.groups.append(groups[k])
