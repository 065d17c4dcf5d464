"""Votes of several annotators on the same pairs, gathered from comparisons, settled, and written back.

Two comparisons are of the same candidates if their group (prompt and inputs) and the candidates' files (sha256, uri or
text) agree; who shows them in which order does not matter. The annotator of a label is named in the annotation
(`annotator`) or, for the whole comparison, in `annotator.id` or `annotator.name`; counts of votes have no names.

Legend: `N` pairs. A file is read twice and never held in memory: first the votes, then the comparisons that take them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from mmalign.data.labels import PairLabel, annotator_of, views
from mmalign.data.records import group_of
from mmalign.stats.soft_labels import soft_shares
from mmalign.stats.votes import DawidSkene, Votes, dawid_skene
from mmalign.types import Annotation, Candidate, Comparison

Method = Literal["dawid-skene", "counts"]
PairKey = tuple[str, str, str]
"""Which candidates together (`set_of`), and the two that are compared, the smaller name first."""


@dataclass
class Ballot:
    """The votes of one dimension: named ones one by one, and counts (first, second, tie) of each pair."""

    votes: list[tuple[PairKey, str, int]] = field(default_factory=list)
    counts: dict[PairKey, list[float]] = field(default_factory=dict)
    unnamed: int = 0


@dataclass(frozen=True)
class Settled:
    """What N pairs of a dimension came to: chances of first, second and tie; and the annotators, where known."""

    chances: Mapping[PairKey, tuple[float, float, float]]
    counts: Mapping[PairKey, list[float]]
    annotators: DawidSkene | None
    names: tuple[str, ...] = ()


def gather(comparisons: Iterable[Comparison]) -> dict[str, Ballot]:
    """All votes by dimension; labels masked as invalid are no votes."""
    ballots: dict[str, Ballot] = {}
    for comparison in comparisons:
        whole, names = set_of(comparison), [name_of(one) for one in comparison.candidates]
        for label in views(comparison.annotations).pairs:
            if not label.valid or label.p is None:
                continue
            ballot = ballots.setdefault(label.dim, Ballot())
            _cast(ballot, label, whole, names[label.i], names[label.j], annotator_of(comparison, label))
    return ballots


def _cast(ballot: Ballot, label: PairLabel, whole: str, i: str, j: str, who: str | None) -> None:
    turned = i > j
    key = (whole, min(i, j), max(i, j))
    counts = ballot.counts.setdefault(key, [0.0, 0.0, 0.0])
    if label.counts is not None:
        first, second, ties = label.counts
        for place, number in enumerate((second, first, ties) if turned else (first, second, ties)):
            counts[place] += number
        ballot.unnamed += 1
        return
    assert label.p is not None
    p = 1.0 - label.p if turned else label.p
    vote = 2 if p == 0.5 else int(p < 0.5)
    counts[vote] += 1.0
    if who is None:
        ballot.unnamed += 1
    else:
        ballot.votes.append((key, who, vote))


def settle(ballot: Ballot, method: Method, *, symmetric: bool = True) -> Settled:
    """One judgement a pair: annotators weighed by EM, or vote shares shrunk where votes are few."""
    if method == "counts":
        shares = soft_shares(np.asarray(list(ballot.counts.values()))).tolist()
        chances: dict[PairKey, tuple[float, float, float]] = {
            key: tuple(row) for key, row in zip(ballot.counts, shares, strict=True)
        }
        return Settled(chances, ballot.counts, None)
    if ballot.unnamed:
        raise ValueError(
            f"{ballot.unnamed} labels name no annotator: give each an 'annotator', or use --method counts"
        )
    votes = Votes.of(ballot.votes)
    found = dawid_skene(votes, symmetric=symmetric)
    rows: list[tuple[float, float, float]] = [tuple(row) for row in found.posterior.tolist()]
    keys: list[PairKey] = list(votes.pairs)  # type: ignore[arg-type]
    return Settled(
        dict(zip(keys, rows, strict=True)),
        ballot.counts,
        found,
        tuple(str(name) for name in votes.annotators),
    )


def merged(
    comparisons: Iterable[Comparison], settled: Mapping[str, Settled], method: str
) -> Iterator[Comparison]:
    """Each set of candidates once, with one pair annotation for every pair that was voted on."""
    done: set[str] = set()
    for comparison in comparisons:
        whole = set_of(comparison)
        if whole in done:
            continue
        done.add(whole)
        names = [name_of(one) for one in comparison.candidates]
        notes = [note for dim, one in settled.items() for note in _notes(dim, one, whole, names)]
        if notes:
            voters = {"type": "human", "name": f"votes settled by {method}"}
            yield replace(comparison, annotations=tuple(notes), annotator=voters)


def _notes(dim: str, settled: Settled, whole: str, names: list[str]) -> Iterator[Annotation]:
    place = {name: k for k, name in enumerate(names)}
    for i, one in enumerate(names):
        for j in range(i + 1, len(names)):
            key = (whole, min(one, names[j]), max(one, names[j]))
            if key in settled.chances:
                yield Annotation(dim, "pair", _data(settled.chances[key], place[key[1]], place[key[2]]))


def _data(chances: tuple[float, float, float], i: int, j: int) -> dict[str, Any]:
    first, second, tie = chances
    share = round(tie, 6)
    ties = {"p_tie": share} if 0 < share < 1 else {}
    if tie >= max(first, second):
        return {"i": i, "j": j, "label": "tie", **ties}
    p = round(first + tie / 2, 6)
    return {"i": i, "j": j, "label": "i" if p >= 0.5 else "j", "p": p, **ties}


def set_of(comparison: Comparison) -> str:
    """The name of a set of candidates for one prompt."""
    group = comparison.group or group_of(comparison.prompt, comparison.inputs)
    return "\x1f".join([group, *sorted(name_of(one) for one in comparison.candidates)])


def name_of(candidate: Candidate) -> str:
    """What tells a candidate from others wherever it is shown."""
    uri = (
        candidate.uri if isinstance(candidate.uri, str) or candidate.uri is None else "|".join(candidate.uri)
    )
    return candidate.sha256 or uri or candidate.text or candidate.id
