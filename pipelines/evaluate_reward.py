"""The verb `evaluate reward`: a reward model against preference pairs, into one JSON file.

Reported with their protocols: accuracy over untied pairs (equal scores wrong), with ties at the epsilon that is best on
these very pairs (as published numbers are, which flatters) and cross-validated by prompt; where people say of
ties whether both are good or bad, four-way too (`mmalign.stats.four_way`); of comparisons of three or more, how many
are in order as a whole; intervals by prompt; pairs without a score are left out and counted. With
`conformal` also which pairs the reward may judge so that its error among them stays below a level
(`pipelines.abstention`).

Shape legend: `N` pairs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mmalign import media
from mmalign.data.comparisons import pairs as pairs_of
from mmalign.data.formats import read
from mmalign.stats import agreement, four_way, intervals
from mmalign.types import PreferencePair, Sample, Scores
from pipelines import abstention, accuracy_told, judges
from pipelines.judges import Judge
from pipelines.orders import whole_orders
from pipelines.settings import EvaluateReward
from pipelines.tables import write_json
from rewardmodels.trust.duels import Comparer, comparer_of

Answer = tuple[float, float | None] | str
"""A score and its variance, or why there is none."""


@dataclass(frozen=True)
class Judged:
    """N pairs with both scores: score(a) - score(b), the label, and whose prompt they belong to.

    `variance` is that of the difference, None where the reward reports none, `level` the mean of both scores. A judge
    of pairs has no level: its difference is p(a is better) - 1/2, and `orders` holds p(a is better) as asked and from
    the swapped order.
    """

    difference: list[float]
    label: list[int]
    groups: list[str]
    variance: list[float | None]
    left_out: Counter[str]
    orders: list[tuple[float, float]] = field(default_factory=list)
    pairs: list[PreferencePair] = field(default_factory=list)
    level: list[float] = field(default_factory=list)


def run(settings: EvaluateReward) -> dict[str, Any]:
    """The accuracies, written to `settings.output`."""
    (judge,) = judges.load([settings.reward], company="pairs")
    path = Path(settings.pairs)
    left_out: Counter[str] = Counter()
    found = read_pairs(path, settings.dimension, left_out)
    if not found:
        raise ValueError(
            f"{path} has no pair with a label on '{settings.dimension}'; set dimension=NAME to another"
        )
    judged = judge_pairs(judge, found, settings, left_out)
    judge.conclude()
    result = {
        "reward": judge.label,
        "pairs": path.name,
        "dimension": settings.dimension,
        "score": score_of(judge, settings.dimension),
        "num_pairs": len(found),
        "num_judged": len(judged.label),
        "left_out": dict(left_out),
        **accuracies(judged),
    }
    fours = four_ways(judged, settings.dimension)
    result |= {} if fours is None else {"four_way": fours}
    wholes = whole_orders(found, judged.pairs, judged.difference, judged.label)
    result |= {} if wholes is None else {"whole_orders": wholes}
    if settings.conformal is not None:
        result["conformal"] = abstention.promise(
            judged.difference, judged.label, judged.groups, judged.variance,
            alpha=settings.conformal, delta=settings.delta, orders=judged.orders,
        )  # fmt: skip
    write_json(result, Path(settings.output))
    accuracy_told.tell(result, Path(settings.output))
    return result


def score_of(judge: Judge, dimension: str) -> str:
    """Which of the reward's numbers is held against the labels: its own of that name, or overall."""
    if comparer_of(judge.model) is not None:
        return "p(a is better)"
    return dimension if dimension in judge.model.dimensions else "overall"


def read_pairs(path: Path, dimension: str, left_out: Counter[str]) -> list[PreferencePair]:
    """All pairs with a label on the dimension; bad lines, and candidates that are no single medium, are counted."""

    def complain(_: int, reason: str) -> None:
        left_out[f"bad line: {reason}"] += 1

    found: list[PreferencePair] = []
    for one in read(path, on_error=complain):
        try:
            found += pairs_of(one, path.parent, dimensions=[dimension])
        except ValueError as problem:
            left_out[str(problem)] += 1
    return found


def judge_pairs(
    judge: Judge, found: Sequence[PreferencePair], settings: EvaluateReward, left_out: Counter[str]
) -> Judged:
    """Every sample is decoded and scored once, however many pairs it is in; a judge of pairs is asked in pairs."""
    comparer = comparer_of(judge.model)
    if comparer is not None:
        return compare_pairs(comparer, found, settings, left_out)
    samples = {id(sample): sample for pair in found for sample in (pair.a, pair.b)}
    keys, scores = list(samples), {}
    size = settings.batch_size
    for start in tqdm(range(0, len(keys), size), desc="scoring", unit="batch"):
        part = keys[start : start + size]
        for key, value in zip(part, _score(judge, [samples[k] for k in part], settings), strict=True):
            scores[key] = value
    judged = Judged([], [], [], [], left_out)
    for pair in found:
        first, second = scores[id(pair.a)], scores[id(pair.b)]
        unknown = next((value for value in (first, second) if isinstance(value, str)), None)
        if unknown is not None:
            left_out[unknown] += 1
            continue
        assert not isinstance(first, str)
        assert not isinstance(second, str)
        chance = pair.labels[settings.dimension]
        judged.difference.append(first[0] - second[0])
        judged.level.append((first[0] + second[0]) / 2)
        unsure = first[1] is not None and second[1] is not None
        judged.variance.append(first[1] + second[1] if unsure else None)  # type: ignore[operator]
        judged.label.append(0 if chance == 0.5 else 1 if chance > 0.5 else -1)
        judged.groups.append(pair.group or pair.prompt)
        judged.pairs.append(pair)
    return judged


def compare_pairs(
    comparer: Comparer, found: Sequence[PreferencePair], settings: EvaluateReward, left_out: Counter[str]
) -> Judged:
    """Every pair in both orders, so many at a time."""
    judged = Judged([], [], [], [], left_out)
    for start in tqdm(range(0, len(found), settings.batch_size), desc="comparing", unit="batch"):
        decoded: list[tuple[PreferencePair, tuple[Sample, Sample]]] = []
        for pair in found[start : start + settings.batch_size]:
            try:
                decoded.append((pair, (_decoded(pair.a, settings), _decoded(pair.b, settings))))
            except ValueError as problem:
                left_out[" ".join(str(problem).split())] += 1
        verdicts = comparer.compare([both for _, both in decoded]) if decoded else ()
        for (pair, _), one in zip(decoded, verdicts, strict=True):
            if one.reason is not None:
                left_out[one.reason] += 1
                continue
            chance = pair.labels[settings.dimension]
            judged.difference.append(one.probability - 0.5)
            judged.label.append(0 if chance == 0.5 else 1 if chance > 0.5 else -1)
            judged.groups.append(pair.group or pair.prompt)
            judged.variance.append(None)
            judged.orders.append((one.forward, one.backward))
            judged.pairs.append(pair)
    return judged


def _score(judge: Judge, samples: Sequence[Sample], settings: EvaluateReward) -> list[Answer]:
    """A score a sample, or why there is none; samples of one size are judged together."""
    answers: list[Answer] = [""] * len(samples)
    groups: dict[Any, list[tuple[int, Sample]]] = {}
    for k, sample in enumerate(samples):
        try:
            decoded = _decoded(sample, settings, judge)
        except ValueError as problem:
            answers[k] = " ".join(str(problem).split())
            continue
        shape = tuple(getattr(medium, "shape", None) for medium in (decoded.media, decoded.source))
        groups.setdefault(shape, []).append((k, decoded))
    for group in groups.values():
        found: Scores = judge([sample for _, sample in group])
        overall, unsure = _dimension(found, settings.dimension)
        for (k, _), value, variance, reason in zip(group, overall, unsure, found.reasons, strict=True):
            answers[k] = (value, variance) if math.isfinite(value) else reason or "no score"
    return answers


def _decoded(sample: Sample, settings: EvaluateReward, judge: Judge | None = None) -> Sample:
    """Media as tensors, but for the video files of which the judge chooses the frames."""

    def tensor(what: Any) -> Any:
        if not isinstance(what, Path) or (judge is not None and judge.takes(what)):
            return what
        return media.read(what, fps=settings.fps, max_frames=settings.max_frames)

    return Sample(sample.prompt, tensor(sample.media), tensor(sample.source), sample.id, sample.metadata)


def _dimension(scores: Scores, dimension: str) -> tuple[list[float], list[float | None]]:
    """The reward's own dimension of that name, otherwise its overall; and the variance where it reports one."""
    values, logs = scores.of_dimension(dimension)
    if logs is None:
        return values.tolist(), [None] * len(scores)
    return values.tolist(), [None if math.isnan(one) else one for one in logs.exp().tolist()]


def accuracies(judged: Judged) -> dict[str, Any]:
    """All protocols, with an interval by prompt for the strict one."""
    if not judged.label:
        raise ValueError(f"no pair could be judged: {'; '.join(judged.left_out)}")
    delta, label = np.asarray(judged.difference), np.asarray(judged.label)
    decided = label != 0
    right = (np.sign(delta) == label)[decided].astype(float)
    groups = [group for group, kept in zip(judged.groups, decided, strict=True) if kept]
    result: dict[str, Any] = {
        "strict": agreement.strict(delta, label).as_dict(),
        "strict_interval": intervals.mean(right, groups).as_dict(),
        "equal_scores": int((delta == 0).sum()),
        "with_ties_published": agreement.published(delta, label).as_dict(),
    }
    if len(set(judged.groups)) > 1:
        result["with_ties_cross_validated"] = agreement.cross_validated(delta, label, judged.groups).as_dict()
    return result


def four_ways(judged: Judged, dimension: str) -> dict[str, Any] | None:
    """Four-way accuracy over untied pairs and ties of a known kind; None where a kind or the level is not known."""
    kinds = [pair.tie_kinds.get(dimension) for pair in judged.pairs]
    kept = [k for k, label in enumerate(judged.label) if label != 0 or kinds[k] is not None]
    if not judged.level or not any(kinds):
        return None
    delta, level, label = (
        [column[k] for k in kept] for column in (judged.difference, judged.level, judged.label)
    )
    good, groups = [kinds[k] == "good" for k in kept], [judged.groups[k] for k in kept]
    result: dict[str, Any] = {
        "published": four_way.published(delta, level, label, good).as_dict(),
        "ties_of_unknown_kind": len(judged.label) - len(kept),
    }
    if len(set(groups)) > 1:
        result["cross_validated"] = four_way.cross_validated(delta, level, label, good, groups).as_dict()
    return result
