"""What annotations say, in the three forms that training reads: pairs, rankings and ratings. Needs no torch.

One rule for all kinds: p is the probability that i is better than j, ties count half; votes give p as their share, and
`tie_share` says how many of them were ties, so that p - tie_share / 2 said i and 1 - p - tie_share / 2 said j. A rank
or a rating decides every pair of candidates that it names. Judgements marked invalid stay in the view, masked.

Legend: i, j positions of candidates; K candidates of a comparison.

>>> note = Annotation("overall", "rank", {"ranks": [1, 2, 2]})
>>> [(one.i, one.j, one.p, one.tie) for one in views([note]).pairs]
[(0, 1, 1.0, False), (0, 2, 1.0, False), (1, 2, 0.5, True)]
>>> views([Annotation("overall", "pair", {"i": 0, "j": 1, "label": "invalid"})]).pairs[0].valid
False
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from mmalign.comparison import Annotation, Comparison

LABELS = ("i", "j", "tie", "invalid")


@dataclass(frozen=True)
class Verdict:
    """What one annotation says of one pair: p(first is better), whether it is called a tie, and the share of ties."""

    p: float
    tie: bool
    tie_share: float


@dataclass(frozen=True)
class PairLabel:
    """One judgement of candidates i and j on one dimension; `p` is None where it is masked (`valid` False)."""

    dim: str
    i: int
    j: int
    p: float | None
    tie: bool = False
    tie_kind: str | None = None
    strength: int | None = None
    valid: bool = True
    counts: tuple[float, ...] | None = None
    annotator: str | None = None
    kind: str = "pair"
    tie_share: float = 0.0


@dataclass(frozen=True)
class Ranking:
    """K candidates in order on one dimension: smaller is better, equal ties, None unknown."""

    dim: str
    ranks: tuple[float | None, ...]
    annotator: str | None = None


@dataclass(frozen=True)
class Rating:
    """The worth of one candidate on one dimension: `value` in [0, 1] where the scale is known, `raw` as given."""

    dim: str
    candidate: int
    value: float | None
    raw: float
    std: float | None = None
    annotator: str | None = None


@dataclass(frozen=True)
class Views:
    """The derived views of a comparison's annotations."""

    pairs: list[PairLabel] = field(default_factory=list)
    rankings: list[Ranking] = field(default_factory=list)
    ratings: list[Rating] = field(default_factory=list)


def views(annotations: Iterable[Annotation], *, dimensions: Sequence[str] = ()) -> Views:
    """Pairs, rankings and ratings that the annotations hold or imply; `dimensions` limits what is read.

    Rankings come from ranks and ratings, and from pairs of one annotator where they name every two candidates without
    a circle. Ratings come from ratings and from checklists (the share of yes). A critique decides nothing.
    """
    made = Views()
    loose: dict[tuple[str, str | None], list[PairLabel]] = {}
    for note in annotations:
        if dimensions and note.dim not in dimensions:
            continue
        found = list(_pairs(note))
        made.pairs.extend(found)
        who = note.data.get("annotator")
        if note.kind == "pair":
            loose.setdefault((note.dim, who), []).extend(found)
        elif note.kind == "rank":
            made.rankings.append(Ranking(note.dim, tuple(note.data["ranks"]), who))
        elif note.kind == "rating":
            made.rankings.append(Ranking(note.dim, _ranks_of(note.data["scores"]), who))
        made.ratings.extend(_ratings(note))
    for (dim, who), labels in loose.items():
        ranks = _order(labels)
        if ranks is not None:
            made.rankings.append(Ranking(dim, ranks, who))
    return made


def summarised(labels: Iterable[PairLabel]) -> list[PairLabel]:
    """The labels without those of single annotators for pairs and dimensions that a summary decides too."""
    found = list(labels)
    summed = {(one.dim, *sorted((one.i, one.j))) for one in found if one.annotator is None and one.valid}
    return [one for one in found if one.annotator is None or (one.dim, *sorted((one.i, one.j))) not in summed]


def annotator_of(comparison: Comparison, label: PairLabel) -> str | None:
    """Who said it, or None."""
    told = label.annotator or comparison.annotator.get("id") or comparison.annotator.get("name")
    return None if told is None else str(told)


def critiques_of(comparison: Comparison) -> dict[str, str]:
    """What critiques say of the candidates, by their id; one that has not a text for each says nothing of them.

    >>> from mmalign.comparison import Candidate
    >>> note = Annotation("overall", "critique", {"texts": ["It is blue.", ""]})
    >>> critiques_of(Comparison("1", "a red circle", (Candidate("a"), Candidate("b")), (note,)))
    {'a': 'It is blue.'}
    """
    said: dict[str, str] = {}
    for note in comparison.annotations:
        texts = note.data["texts"] if note.kind == "critique" else ()
        if len(texts) == len(comparison.candidates):
            said |= {c.id: text for c, text in zip(comparison.candidates, texts, strict=True) if text}
    return said


def verdicts(note: Annotation) -> Iterator[tuple[int, int, Verdict]]:
    """The pairs (i, j) an annotation decides; checklists, critiques and invalid labels decide none."""
    for one in _pairs(note):
        if one.p is not None:
            yield one.i, one.j, Verdict(one.p, one.tie, one.tie_share)


def pair_verdict(data: Mapping[str, Any]) -> Verdict:
    """The verdict of a pair annotation from its votes, probability or label, which must not contradict.

    `p_tie` is the share of ties in p; without it votes give the share, a label "tie" alone is all tie.
    """
    label, p, counts, tie = (data.get(key) for key in ("label", "p", "counts", "p_tie"))
    if label is not None and label not in LABELS:
        raise ValueError(f"label {label!r} is unknown: use one of {LABELS}")
    if counts is not None:
        if len(counts) != 3 or min(counts) < 0 or sum(counts) == 0:
            raise ValueError(
                f"counts must be [votes for i, for j, ties] with at least one vote, got {counts}"
            )
        share = (counts[0] + 0.5 * counts[2]) / sum(counts)
        if p is not None and abs(share - p) > 1e-3:
            raise ValueError(f"p {p} contradicts the votes {counts}, which say {share:.4f}: leave one out")
        p = share
        if tie is not None and abs(counts[2] / sum(counts) - tie) > 1e-3:
            raise ValueError(f"p_tie {tie} contradicts the votes {counts}: leave one out")
        tie = counts[2] / sum(counts)
    if p is None:
        if label not in ("i", "j", "tie"):
            raise ValueError(f"a pair needs a label ({', '.join(LABELS)}), p or counts")
        p = {"i": 1.0, "j": 0.0, "tie": 0.5}[label]
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p must be a probability, got {p}")
    if (label == "i" and p < 0.5) or (label == "j" and p > 0.5):
        raise ValueError(f"label {label!r} contradicts p = {p}: p is the probability that i is better")
    most_tie = counts is not None and counts[2] == max(counts)
    if label == "tie" and abs(p - 0.5) > 1e-3 and not most_tie:
        raise ValueError(f"label 'tie' contradicts p = {p}: ties count half, so p must be 0.5")
    if tie is None:
        tie = float(label == "tie")
    elif not 0.0 <= tie <= 2 * min(p, 1.0 - p) + 1e-3:
        raise ValueError(
            f"p_tie {tie} contradicts p = {p}: ties count half, so p lies from p_tie / 2 to 1 - p_tie / 2"
        )
    return Verdict(float(p), label == "tie", float(tie))


def _pairs(note: Annotation) -> Iterator[PairLabel]:
    data, who = note.data, note.data.get("annotator")
    if note.kind == "pair":
        i, j, strength = int(data["i"]), int(data["j"]), data.get("strength")
        if data.get("label") == "invalid":
            yield PairLabel(note.dim, i, j, None, valid=False, strength=strength, annotator=who)
            return
        verdict, counts = pair_verdict(data), data.get("counts")
        yield PairLabel(
            note.dim, i, j, verdict.p, verdict.tie, data.get("tie_kind"), strength,
            counts=None if counts is None else tuple(counts), annotator=who, tie_share=verdict.tie_share,
        )  # fmt: skip
    elif note.kind in ("rank", "rating"):
        values = data["ranks"] if note.kind == "rank" else data["scores"]
        sign = -1.0 if note.kind == "rank" else 1.0
        for i, j in combinations(range(len(values)), 2):
            if values[i] is None or values[j] is None:
                continue
            gap = sign * (values[i] - values[j])
            p = 1.0 if gap > 0 else 0.0 if gap < 0 else 0.5
            tie = gap == 0
            yield PairLabel(note.dim, i, j, p, tie, annotator=who, kind=note.kind, tie_share=float(tie))


def _ratings(note: Annotation) -> Iterator[Rating]:
    data, who = note.data, note.data.get("annotator")
    if note.kind == "rating":
        low, high, std = data.get("min"), data.get("max"), data.get("std")
        for k, raw in enumerate(data["scores"]):
            if raw is None:
                continue
            scaled = None if low is None or high is None or high <= low else (raw - low) / (high - low)
            yield Rating(note.dim, k, scaled, float(raw), None if std is None else std[k], who)
    elif note.kind == "checklist":
        for k, answer in enumerate(data["answers"]):
            if answer is not None:
                yield Rating(note.dim, k, float(answer), float(answer), annotator=who)


def _ranks_of(scores: Sequence[float | None]) -> tuple[float | None, ...]:
    """Competition ranks from 1: how many are better, plus one; equal scores tie."""
    known = [score for score in scores if score is not None]
    return tuple(None if s is None else float(1 + sum(other > s for other in known)) for s in scores)


def _order(labels: Sequence[PairLabel]) -> tuple[float | None, ...] | None:
    """Ranks by wins where every two named candidates are judged and the ranks say what every judgement says."""
    wins: dict[int, float] = {}
    for one in labels:
        if one.p is None:
            return None
        wins[one.i] = wins.get(one.i, 0.0) + one.p
        wins[one.j] = wins.get(one.j, 0.0) + 1.0 - one.p
    named = sorted(wins)
    if {tuple(sorted((one.i, one.j))) for one in labels} != set(combinations(named, 2)):
        return None
    ranks = _ranks_of([wins.get(k) for k in range(named[-1] + 1)])
    for one in labels:
        first, second = ranks[one.i], ranks[one.j]
        assert one.p is not None
        assert first is not None
        assert second is not None
        if (first < second) != (one.p > 0.5) or (first > second) != (one.p < 0.5):
            return None
    return ranks
