"""Validation of comparisons: what is broken, what leaks, what is out of balance. One pass, records are not kept.

*Faults* must be mended: bad lines, missing and damaged media, ids used twice, comparisons that occur twice, contradict
themselves or hold a picture against a video, prompts or media that stand in two splits. *Notes* are for judgement:
prompts that are empty or longer than `LONG_PROMPT`, candidates that are the same, ties, balance of labels and
positions, win rates by model, pairs that different comparisons decide in opposite ways, and how annotators agree (raw,
and Krippendorff's alpha, from votes, from annotators by name, and from repeated judgements of a pair).

Media are the same when their bytes are (sha256); prompts when they differ in case and spaces only.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmalign import media
from mmalign.comparison import Candidate, Comparison
from mmalign.data.balance import Balance, balance, warnings
from mmalign.data.formats import read
from mmalign.data.labels import PairLabel, views
from mmalign.data.ledger import Ledger, mark
from mmalign.data.records import group_of
from mmalign.data.uris import MediaStore, is_plain
from mmalign.stats.reliability import agreement

MAX_EXAMPLES = 1000
"""Findings of one kind that are named; all are counted."""
LONG_PROMPT = 2000
"""Characters from which a prompt is called long: some 500 tokens, about what reward models read; CLIP reads 77."""
FAULTS = ("bad_lines", "missing_media", "damaged_media", "duplicate_ids", "duplicate_comparisons",
          "self_contradictions", "mixed_candidates", "leaking_prompts", "leaking_media")  # fmt: skip
NOTES = ("empty_prompts", "long_prompts", "identical_candidates", "contradicting_labels")


@dataclass
class Report:
    """What was found. Lists hold at most `MAX_EXAMPLES`; `counts` says how many there were."""

    num_comparisons: int = 0
    num_media: int = 0
    bad_lines: list[str] = field(default_factory=list)
    missing_media: list[str] = field(default_factory=list)
    damaged_media: list[str] = field(default_factory=list)
    duplicate_ids: list[str] = field(default_factory=list)
    duplicate_comparisons: list[str] = field(default_factory=list)
    self_contradictions: list[str] = field(default_factory=list)
    mixed_candidates: list[str] = field(default_factory=list)
    leaking_prompts: list[str] = field(default_factory=list)
    leaking_media: list[str] = field(default_factory=list)
    empty_prompts: list[str] = field(default_factory=list)
    long_prompts: list[str] = field(default_factory=list)
    identical_candidates: list[str] = field(default_factory=list)
    contradicting_labels: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    splits: dict[str, int] = field(default_factory=dict)
    dimensions: dict[str, Balance] = field(default_factory=dict)
    models: dict[str, dict[str, float | int]] = field(default_factory=dict)
    agreement: dict[str, dict[str, Any]] = field(default_factory=dict)
    rating_agreement: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def faults(self) -> int:
        """How many things must be mended."""
        return sum(self.counts.get(kind, 0) for kind in FAULTS)

    @property
    def notes(self) -> int:
        """How many things are for judgement."""
        return sum(self.counts.get(kind, 0) for kind in NOTES) + len(self.warnings)

    def find(self, kind: str, what: str) -> None:
        """One finding more."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        found: list[str] = getattr(self, kind)
        if len(found) < MAX_EXAMPLES:
            found.append(what)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"faults": self.faults, "notes": self.notes, **asdict(self)}


def check(
    paths: Path | Sequence[Path],
    *,
    with_media: bool = True,
    decode: bool = True,
    root: Path | None = None,
    allow_http: bool = False,
) -> Report:
    """Check files of comparisons together; media paths are relative to each file's folder, or to `root`."""
    files = [paths] if isinstance(paths, Path) else list(paths)
    report, tally = Report(), _Tally()
    with tempfile.TemporaryDirectory(prefix="mmalign-check-") as cache:
        for file in files:
            store = MediaStore(root or file.parent, Path(cache), allow_http)
            for one in read(file, on_error=lambda _, reason: report.find("bad_lines", reason)):
                report.num_comparisons += 1
                tally.add(one, report)
                digests = _check_media(one, store, report, tally, decode) if with_media else {}
                _check_candidates(one, digests, report)
    tally.finish(report)
    if report.num_comparisons == 0 and not report.bad_lines:
        raise ValueError(f"{', '.join(map(str, files))} holds no comparison")
    return report


class _Tally:
    """Counts that need all comparisons; what grows with them is in the ledger, on disk."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.splits: Counter[str] = Counter()
        self.outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self.models: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, comparison: Comparison, report: Report) -> None:
        """One comparison's words and labels."""
        self.splits[comparison.split] += 1
        self.ledger.add("ids", comparison.id)
        uris = [str(candidate.uri or candidate.text) for candidate in comparison.candidates]
        said = [(n.dim, n.kind, sorted(n.data.items(), key=str)) for n in comparison.annotations]
        self.ledger.add("contents", mark(comparison.prompt, uris, said), comparison.id)
        self._add_prompt(comparison)
        if not comparison.prompt.strip():
            report.find("empty_prompts", comparison.id)
        elif len(comparison.prompt) > LONG_PROMPT:
            report.find("long_prompts", f"{comparison.id}: {len(comparison.prompt)} characters")
        found = views(comparison.annotations)
        self._add_pairs(comparison, found.pairs, uris, report)
        for one in found.ratings:
            where = mark(comparison.prompt, uris[one.candidate])
            self.ledger.add("rated", one.dim, where, one.raw)

    def _add_prompt(self, comparison: Comparison) -> None:
        same = group_of(" ".join(comparison.prompt.casefold().split()), comparison.inputs)
        own = comparison.group or group_of(comparison.prompt, comparison.inputs)
        shown = comparison.prompt or own
        if comparison.prompt.strip() or comparison.inputs:
            self.ledger.add("prompts", mark("prompt", same), comparison.split, shown)
        if own != group_of(comparison.prompt, comparison.inputs):
            self.ledger.add("prompts", mark("group", own), comparison.split, f"{shown} (group {own})")

    def _add_pairs(
        self, comparison: Comparison, labels: Sequence[PairLabel], uris: Sequence[str], report: Report
    ) -> None:
        by_name = {(one.dim, *sorted((one.i, one.j))) for one in labels if one.annotator is not None}
        decided: dict[tuple[Any, ...], set[int]] = defaultdict(set)
        for one in labels:
            summary = one.annotator is None
            if summary:
                self._count(comparison, one)
            if one.p is None:
                continue
            low, high = sorted((one.i, one.j), key=lambda k: uris[k])
            turned = (one.i, one.j) != (low, high)
            outcome = 2 if one.p == 0.5 else int((one.p > 0.5) == turned)
            if outcome < 2:
                decided[one.dim, low, high, one.annotator].add(outcome)
            pair = mark(comparison.prompt, uris[low], uris[high])
            # a summary is no vote of its own where the annotators themselves are there (2: asked for order only)
            named = summary and (one.dim, *sorted((one.i, one.j))) in by_name
            votes = _votes(one, outcome, turned)
            for vote, n in votes:
                self.ledger.add("said", one.dim, pair, vote, n, 2 if named else int(summary), comparison.id)
        for (dim, *_), outcomes in decided.items():
            if len(outcomes) > 1:
                report.find("self_contradictions", f"{comparison.id}: '{dim}' says both i and j of one pair")

    def _count(self, comparison: Comparison, one: PairLabel) -> None:
        counts = self.outcomes[one.dim]
        if one.p is None:
            counts["invalid"] += 1
            return
        counts["tie" if one.p == 0.5 else "first" if (one.p > 0.5) == (one.i < one.j) else "second"] += 1
        counts[f"tie_{one.tie_kind}"] += one.tie_kind is not None
        for place, won in ((one.i, one.p), (one.j, 1.0 - one.p)):
            name = comparison.candidates[place].model
            if name:
                self.models[name]["n"] += 1
                self.models[name]["halves"] += round(2 * won)

    def finish(self, report: Report) -> None:
        """What only all comparisons together show."""
        report.splits = dict(self.splits)
        for name, num in self.ledger.repeated_ids():
            report.find("duplicate_ids", f"{name} ({num} times)")
        for name, first in self.ledger.repeated_contents():
            report.find("duplicate_comparisons", f"{name} repeats {first}")
        for kind, table in (("leaking_prompts", "prompts"), ("leaking_media", "media")):
            for shown, splits in self.ledger.leaks(table):
                report.find(kind, f"{shown} ({splits})")
        for dim, ids in self.ledger.contradictions():
            report.find("contradicting_labels", f"'{dim}' of one pair: {', '.join(ids.split(',')[:4])}")
        for dim, counts in self.outcomes.items():
            report.dimensions[dim] = balance(counts)
        for name, counts in sorted(self.models.items()):
            report.models[name] = {"win_rate": counts["halves"] / 2 / counts["n"], "n": counts["n"]}
        for dim in self.ledger.dimensions("said"):
            found = agreement(self.ledger.units(dim))
            if found.units:
                report.agreement[dim] = found.as_dict()
        for dim in self.ledger.dimensions("rated"):
            found = agreement(self.ledger.ratings(dim), level="ordinal")
            if found.units:
                report.rating_agreement[dim] = found.as_dict()
        report.warnings += warnings(report.dimensions, report.agreement)


def _votes(one: PairLabel, outcome: int, turned: bool) -> list[tuple[int, float]]:
    if one.counts is None:
        return [(outcome, 1.0)]
    first, second, tie = one.counts
    ordered = (second, first, tie) if turned else (first, second, tie)
    return [(k, n) for k, n in enumerate(ordered) if n > 0]


def _check_media(
    comparison: Comparison, store: MediaStore, report: Report, tally: _Tally, decode: bool
) -> dict[str, str | None]:
    """The digest of every uri of the candidates; None where it cannot be read."""
    for item in comparison.inputs:
        _look(item.uri, item.meta.get("sha256"), comparison, store, report, tally, decode)
    return {
        uri: _look(uri, candidate.sha256, comparison, store, report, tally, decode)
        for candidate in comparison.candidates
        for uri in _uris(candidate)
    }


def _check_candidates(comparison: Comparison, digests: Mapping[str, str | None], report: Report) -> None:
    """Candidates that are the same, by their bytes where these are known, otherwise by uri; and of different kinds."""
    shown = [(one, uris) for one in comparison.candidates if (uris := _uris(one))]
    own = [tuple(digests.get(uri) or uri for uri in uris) for _, uris in shown]
    if len(own) > len(set(own)):
        report.find("identical_candidates", comparison.id)
    videos = [
        candidate.id for candidate, uris in shown if candidate.type == "video" or any(map(_is_video, uris))
    ]
    if 0 < len(videos) < len(shown):
        report.find(
            "mixed_candidates", f"{comparison.id}: a video (candidate {', '.join(videos)}) against a picture"
        )


def _uris(candidate: Candidate) -> tuple[str, ...]:
    return (candidate.uri,) if isinstance(candidate.uri, str) else candidate.uri or ()


def _is_video(uri: str) -> bool:
    return media.is_video(uri.partition("?")[0])


def _look(
    uri: str, expected: str | None, comparison: Comparison, store: MediaStore, report: Report, tally: _Tally,
    decode: bool,
) -> str | None:  # fmt: skip
    """The digest of a medium that can be read; everything else is reported, once."""
    name = f"{store.root}\x1f{uri}"
    seen, digest = tally.ledger.examined(name)
    if not seen:
        report.num_media += 1
        digest = _examine(uri, comparison, store, report, decode)
        tally.ledger.note_examined(name, digest)
    if digest is not None:
        tally.ledger.add("media", mark(digest), comparison.split, uri)
        if expected is not None and expected != digest:
            report.find("damaged_media", f"{comparison.id}: {uri} has not the sha256 that its record names")
    return digest


def _examine(uri: str, comparison: Comparison, store: MediaStore, report: Report, decode: bool) -> str | None:
    try:
        digest = store.digest(uri)
    except ValueError as problem:
        report.find("missing_media", f"{comparison.id}: {' '.join(str(problem).split())}")
        return None
    if decode:
        file = store.path(uri)
        try:
            media.read(file, max_frames=4)
        except ValueError as problem:
            report.find("damaged_media", f"{comparison.id}: {' '.join(str(problem).split())}")
        if not is_plain(uri):
            file.unlink()
    return digest
