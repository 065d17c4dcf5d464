"""Validation of comparisons: what is broken, what leaks, what is out of balance. One pass, records are not kept.

*Faults* must be mended: bad lines, missing and damaged media, ids used twice, comparisons that occur twice, prompts or
media that stand in two splits. The rest is for judgement: ties, position and label balance, win rates by model, and how
repeated judgements of the same pair agree (raw, and Krippendorff's alpha for nominal labels).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmalign import media
from mmalign.comparison import Comparison
from mmalign.data.comparisons import group_of, resolve, verdicts
from mmalign.data.formats import read_jsonl


@dataclass
class Report:
    """What was found."""

    num_comparisons: int = 0
    num_media: int = 0
    bad_lines: list[str] = field(default_factory=list)
    missing_media: list[str] = field(default_factory=list)
    damaged_media: list[str] = field(default_factory=list)
    duplicate_ids: list[str] = field(default_factory=list)
    duplicate_comparisons: list[str] = field(default_factory=list)
    leaking_prompts: list[str] = field(default_factory=list)
    leaking_media: list[str] = field(default_factory=list)
    identical_candidates: list[str] = field(default_factory=list)
    splits: dict[str, int] = field(default_factory=dict)
    dimensions: dict[str, dict[str, float | int | None]] = field(default_factory=dict)
    models: dict[str, dict[str, float | int]] = field(default_factory=dict)
    repeated_judgements: dict[str, dict[str, float | int | None]] = field(default_factory=dict)

    @property
    def faults(self) -> int:
        """How many things must be mended."""
        lists = (
            *(self.bad_lines, self.missing_media, self.damaged_media, self.duplicate_ids),
            *(self.duplicate_comparisons, self.leaking_prompts, self.leaking_media),
        )
        return sum(len(found) for found in lists)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"faults": self.faults, **asdict(self)}


def check(path: Path, *, decode: bool = True) -> Report:
    """Check a file of comparisons; media paths are relative to its folder."""
    report, tally = Report(), _Tally()
    for comparison in read_jsonl(path, on_error=lambda _, reason: report.bad_lines.append(reason)):
        report.num_comparisons += 1
        tally.add(comparison, report)
        _check_media(comparison, path.parent, report, tally, decode)
    tally.finish(report)
    if report.num_comparisons == 0 and not report.bad_lines:
        raise ValueError(f"{path} holds no comparison")
    return report


class _Tally:
    """Counts that need all comparisons: a few numbers and hashes each."""

    def __init__(self) -> None:
        self.ids: Counter[str] = Counter()
        self.contents: dict[str, str] = {}
        self.group_splits: dict[str, set[str]] = defaultdict(set)
        self.group_prompts: dict[str, str] = {}
        self.media_splits: dict[str, set[str]] = defaultdict(set)
        self.media_names: dict[str, str] = {}
        self.checked: dict[Path, str | None] = {}
        self.splits: Counter[str] = Counter()
        self.outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self.models: dict[str, Counter[str]] = defaultdict(Counter)
        self.judgements: dict[str, dict[tuple[str, str], list[str]]] = defaultdict(lambda: defaultdict(list))

    def add(self, comparison: Comparison, report: Report) -> None:
        """One comparison's words and labels."""
        self.ids[comparison.id] += 1
        self.splits[comparison.split] += 1
        group = comparison.group or group_of(comparison.prompt, comparison.inputs)
        self.group_splits[group].add(comparison.split)
        self.group_prompts[group] = comparison.prompt
        uris = [str(candidate.uri or candidate.text) for candidate in comparison.candidates]
        content = repr(
            (
                comparison.prompt,
                uris,
                [(n.dim, n.kind, sorted(n.data.items(), key=str)) for n in comparison.annotations],
            )
        )
        digest = hashlib.sha256(content.encode()).hexdigest()
        if digest in self.contents:
            report.duplicate_comparisons.append(f"{comparison.id} repeats {self.contents[digest]}")
        self.contents.setdefault(digest, comparison.id)
        for note in comparison.annotations:
            for i, j, verdict in verdicts(note):
                outcome = "tie" if verdict.p == 0.5 else "first" if verdict.p > 0.5 else "second"
                self.outcomes[note.dim][outcome] += 1
                for place, won in ((i, verdict.p), (j, 1.0 - verdict.p)):
                    name = comparison.candidates[place].model
                    if name:
                        self.models[name]["n"] += 1
                        self.models[name]["halves"] += round(2 * won)
                low, high = sorted((uris[i], uris[j]))
                said = outcome if outcome == "tie" else uris[i] if outcome == "first" else uris[j]
                self.judgements[note.dim][low, high].append(said)

    def finish(self, report: Report) -> None:
        """What only all comparisons together show."""
        report.splits = dict(self.splits)
        report.duplicate_ids = [f"{name} ({num} times)" for name, num in self.ids.items() if num > 1]
        report.leaking_prompts = [
            f"{self.group_prompts[group]} ({', '.join(sorted(splits))})"
            for group, splits in self.group_splits.items()
            if len(splits) > 1
        ]
        report.leaking_media = [
            f"{self.media_names[digest]} ({', '.join(sorted(splits))})"
            for digest, splits in self.media_splits.items()
            if len(splits) > 1
        ]
        for dim, counts in self.outcomes.items():
            total, decided = counts.total(), counts["first"] + counts["second"]
            report.dimensions[dim] = {
                "pairs": total,
                "ties": counts["tie"],
                "tie_rate": counts["tie"] / total,
                "first_wins": counts["first"] / decided if decided else None,
            }
        for name, counts in sorted(self.models.items()):
            report.models[name] = {"win_rate": counts["halves"] / 2 / counts["n"], "n": counts["n"]}
        for dim, said in self.judgements.items():
            several = [labels for labels in said.values() if len(labels) > 1]
            if several:
                report.repeated_judgements[dim] = agreement(several)


def agreement(judgements: Sequence[Sequence[str]]) -> dict[str, float | int | None]:
    """Raw agreement of two judgements of a pair, and Krippendorff's alpha (nominal).

    >>> agreement([["a", "a"], ["a", "b"], ["b", "b"]])
    {'pairs': 3, 'raw': 0.6666666666666666, 'alpha': 0.4444444444444444}
    """
    weights: dict[tuple[str, str], float] = defaultdict(float)
    raw = []
    for labels in judgements:
        counts, num = Counter(labels), len(labels)
        same = sum(n * (n - 1) for n in counts.values())
        raw.append(same / (num * (num - 1)))
        for one in counts:
            for other in counts:
                both = counts[one] * (counts[other] - (one == other))
                weights[one, other] += both / (num - 1)
    totals: dict[str, float] = defaultdict(float)
    for (one, _), weight in weights.items():
        totals[one] += weight
    n = sum(totals.values())
    observed = sum(weight for (one, other), weight in weights.items() if one != other) / n
    expected = sum(a * b for x, a in totals.items() for y, b in totals.items() if x != y) / (n * (n - 1))
    alpha = 1.0 - observed / expected if expected > 0 else None
    return {"pairs": len(raw), "raw": sum(raw) / len(raw), "alpha": alpha}


def _check_media(comparison: Comparison, root: Path, report: Report, tally: _Tally, decode: bool) -> None:
    uris = [item.uri for item in comparison.inputs]
    uris += [u for c in comparison.candidates for u in ([c.uri] if isinstance(c.uri, str) else c.uri or ())]
    digests = []
    for uri in uris:
        try:
            file = resolve(uri, root)
        except ValueError as problem:
            report.missing_media.append(f"{comparison.id}: {problem}")
            continue
        if file not in tally.checked:
            report.num_media += 1
            tally.checked[file] = _examine(file, report, decode)
        digest = tally.checked[file]
        if digest is not None:
            digests.append(digest)
            tally.media_splits[digest].add(comparison.split)
            tally.media_names.setdefault(digest, uri)
    own = digests[len(comparison.inputs) :]
    if len(own) == len(comparison.candidates) > len(set(own)):
        report.identical_candidates.append(comparison.id)


def _examine(file: Path, report: Report, decode: bool) -> str | None:
    """The hash of a file that can be read; otherwise it is reported."""
    if not file.is_file():
        report.missing_media.append(str(file))
        return None
    if decode:
        try:
            media.read(file, max_frames=4)
        except ValueError as problem:
            report.damaged_media.append(" ".join(str(problem).split()))
    digest = hashlib.sha256()
    with file.open("rb") as data:
        while block := data.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
