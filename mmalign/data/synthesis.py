"""Preference pairs out of scores: which pairs of a generator's samples are sure enough to learn from. Needs no torch.

Pairs of one prompt (and source) pass, in this order:

1. *rank*: every two samples, only the best against the worst (`extremes`), or the best k against the worst k;
2. *margin*: their scores differ by at least so much;
3. *floor*: the better one is good in itself; *top_share*: it is among the best so-and-so share of all better ones
   (EditReward keeps the best part of a data set by its own score, arXiv 2509.26346);
4. *pairwise*: a judge of pairs names the same winner (UnifiedReward ranks pairs, then takes the best-scored winner and
   the worst-scored loser, arXiv 2503.05236: here `extremes` with a pairwise judge);
5. *helpers*: further rewards order them alike, all or a number of them (after Anyprefer's tools, arXiv 2504.19276).

Differences from the papers: the order of filters is fixed, cheapest first, and every pair that is dropped is counted
under the first reason; Anyprefer feeds its tools' findings to the judge, here they vote.

Legend: i the better, j the worse sample of a pair; gap = score i - score j > 0.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from mmalign.comparison import Annotation, Candidate, Comparison, MediaInput

Rank = Literal["all", "extremes"] | int


@dataclass(frozen=True)
class Scored:
    """A sample with its score (None: why not is in `reason`) and what helpers say of it."""

    id: str
    uri: str
    prompt: str
    score: float | None
    reason: str | None = None
    helpers: Mapping[str, float | None] = field(default_factory=dict)
    source: str | None = None
    model: str | None = None
    seed: int | None = None
    video: bool = False


@dataclass(frozen=True)
class Rules:
    """What a pair must pass; see the module for the order."""

    rank: Rank = "all"
    margin: float = 0.0
    floor: float | None = None
    top_share: float = 1.0
    helper_margin: float = 0.0
    helpers_needed: int | None = None  # all of them without
    pair_confidence: float = 0.5  # p(i better) by the pairwise judge must be above
    temperature: float | None = None  # labels become p = sigmoid(gap / temperature)

    def __post_init__(self) -> None:
        if isinstance(self.rank, int) and self.rank < 1:
            raise ValueError(f"rank must be all, extremes or a number from 1, got {self.rank}")
        if not 0.0 < self.top_share <= 1.0:
            raise ValueError(f"top_share must lie in (0, 1], got {self.top_share}")
        if self.margin < 0.0 or self.helper_margin < 0.0:
            raise ValueError("margins must be 0 or more")
        if not 0.5 <= self.pair_confidence < 1.0:
            raise ValueError(f"pair_confidence must lie in [0.5, 1), got {self.pair_confidence}")
        if self.temperature is not None and not self.temperature > 0.0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")


@dataclass(frozen=True)
class Proposal:
    """A pair that its scores alone let pass."""

    i: Scored
    j: Scored
    gap: float


@dataclass
class Account:
    """What came of everything: counts by reason, and what the judges thought of each other."""

    num_samples: int = 0
    unscored: Counter[str] = field(default_factory=Counter)
    num_groups: int = 0
    lonely_groups: int = 0
    num_pairs: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    gaps: list[float] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    agreed: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; gaps of kept pairs as quantiles, agreement of each further judge with the reward."""
        ordered = sorted(self.gaps)
        shown = {f"{q:.0%}": ordered[round(q * (len(ordered) - 1))] for q in (0.0, 0.25, 0.5, 0.75, 1.0)}
        return {
            "num_samples": self.num_samples,
            "unscored": dict(self.unscored),
            "num_groups": self.num_groups,
            "lonely_groups": self.lonely_groups,
            "num_pairs": self.num_pairs,
            "dropped": dict(self.dropped),
            "kept": self.kept,
            "kept_gap": shown if ordered else {},
            "agreement": {name: self.agreed[name] / n for name, n in self.asked.items()},
            "asked": dict(self.asked),
        }


def groups_of(samples: Sequence[Scored], account: Account) -> list[list[Scored]]:
    """The scored samples of each prompt and source that has two or more."""
    found: dict[tuple[str, str | None], list[Scored]] = {}
    for sample in samples:
        account.num_samples += 1
        group = found.setdefault((sample.prompt, sample.source), [])
        if sample.score is None:
            account.unscored[sample.reason or "no score"] += 1
        else:
            group.append(sample)
    account.num_groups = len(found)
    account.lonely_groups = sum(len(group) < 2 for group in found.values())
    return [group for group in found.values() if len(group) > 1]


def propose(groups: Sequence[Sequence[Scored]], rules: Rules, account: Account) -> list[Proposal]:
    """The pairs that pass by rank, margin, floor and top share."""
    passed: list[Proposal] = []
    for group in groups:
        account.num_pairs += len(group) * (len(group) - 1) // 2
        considered = list(_ranked(group, rules.rank))
        skipped = len(group) * (len(group) - 1) // 2 - len(considered)
        if skipped:
            account.dropped["not the best against the worst"] += skipped
        for one in considered:
            if one.gap <= 0.0 or one.gap < rules.margin:
                account.dropped["scores too close"] += 1
            elif rules.floor is not None and _score(one.i) < rules.floor:
                account.dropped["even the better one is below the floor"] += 1
            else:
                passed.append(one)
    return _top(passed, rules.top_share, account)


def settle(
    proposals: Sequence[Proposal],
    rules: Rules,
    account: Account,
    *,
    verdicts: Sequence[float | str] | None = None,
    judge: str = "pairwise judge",
) -> list[Proposal]:
    """The proposals that a judge of pairs (p(i better), or why it cannot say) and the helpers confirm."""
    kept = []
    for number, one in enumerate(proposals):
        reason = None
        if verdicts is not None:
            reason = _by_pair(verdicts[number], rules, account, judge)
        reason = reason or _by_helpers(one, rules, account)
        if reason is not None:
            account.dropped[reason] += 1
            continue
        kept.append(one)
        account.kept += 1
        account.gaps.append(one.gap)
    return kept


def comparisons(
    kept: Sequence[Proposal], *, rules: Rules, reward: str, split: str, source: str
) -> Iterator[Comparison]:
    """One comparison a prompt (and source): the samples of its kept pairs in an order that tells nothing."""
    grouped: dict[tuple[str, str | None], list[Proposal]] = {}
    for one in kept:
        grouped.setdefault((one.i.prompt, one.i.source), []).append(one)
    for (prompt, start), pairs in grouped.items():
        named = {sample.id: sample for one in pairs for sample in (one.i, one.j)}
        # by a hash of the name: neither scores nor the order of generation show in the place
        order = sorted(named, key=lambda name: hashlib.sha256(f"{prompt}\x1f{name}".encode()).digest())
        place = {name: k for k, name in enumerate(order)}
        key = hashlib.sha256(f"{prompt}\x1f{start}".encode()).hexdigest()[:16]
        video = any(sample.video for sample in named.values())
        yield Comparison(
            id=f"synthetic-{key}",
            prompt=prompt,
            inputs=() if start is None else (MediaInput("source", start),),
            candidates=tuple(_candidate(named[name]) for name in order),
            annotations=tuple(_note(one, place, rules) for one in pairs),
            split=split,
            task="t2v"
            if video and start is None
            else "v2v"
            if video
            else "edit"
            if start is not None
            else "t2i",
            source=source,
            annotator={"type": "rule", "name": reward},
        )


def _ranked(group: Sequence[Scored], rank: Rank) -> Iterator[Proposal]:
    ordered = sorted(group, key=_score, reverse=True)
    if rank == "all":
        couples = list(combinations(ordered, 2))
    else:
        num = 1 if rank == "extremes" else min(int(rank), len(ordered) // 2)
        couples = [(i, j) for i in ordered[:num] for j in ordered[len(ordered) - num :]]
    for i, j in couples:
        yield Proposal(i, j, _score(i) - _score(j))


def _top(passed: list[Proposal], share: float, account: Account) -> list[Proposal]:
    if share >= 1.0 or not passed:
        return passed
    best = sorted((_score(one.i) for one in passed), reverse=True)
    limit = best[max(1, math.ceil(share * len(best))) - 1]
    kept = [one for one in passed if _score(one.i) >= limit]
    account.dropped[f"the better one is not in the top {share:.0%}"] += len(passed) - len(kept)
    return kept


def _by_pair(verdict: float | str, rules: Rules, account: Account, judge: str) -> str | None:
    if isinstance(verdict, str):
        return f"{judge} cannot say: {verdict}"
    account.asked[judge] += 1
    account.agreed[judge] += verdict > 0.5
    return None if verdict > rules.pair_confidence else f"{judge} does not confirm"


def _by_helpers(one: Proposal, rules: Rules, account: Account) -> str | None:
    names = list(one.i.helpers)
    agreeing, silent = 0, []
    for name in names:
        first, second = one.i.helpers[name], one.j.helpers.get(name)
        if first is None or second is None:
            silent.append(name)
            continue
        account.asked[name] += 1
        agrees = first - second > 0.0 and first - second >= rules.helper_margin
        account.agreed[name] += agrees
        agreeing += agrees
    needed = len(names) if rules.helpers_needed is None else rules.helpers_needed
    if agreeing >= needed:
        return None
    return (
        f"helper {silent[0]} has no score"
        if silent and agreeing + len(silent) >= needed
        else "helpers disagree"
    )


def _note(one: Proposal, place: Mapping[str, int], rules: Rules) -> Annotation:
    i, j, won = place[one.i.id], place[one.j.id], True
    if i > j:
        i, j, won = j, i, False
    data: dict[str, Any] = {"i": i, "j": j, "label": "i" if won else "j", "gap": round(one.gap, 6)}
    if rules.temperature is not None:
        p = 1.0 / (1.0 + math.exp(-one.gap / rules.temperature))
        data["p"] = p if won else 1.0 - p
    return Annotation("overall", "pair", data)


def _candidate(sample: Scored) -> Candidate:
    meta: dict[str, Any] = {"score": sample.score}
    if sample.helpers:
        meta["helpers"] = dict(sample.helpers)
    kind: Literal["image", "video"] = "video" if sample.video else "image"
    return Candidate(sample.id, sample.uri, kind, model=sample.model, seed=sample.seed, meta=meta)


def _score(sample: Scored) -> float:
    assert sample.score is not None
    return sample.score
