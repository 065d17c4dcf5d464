"""Comparisons in the canonical form `mmalign.pref/1`: record <-> noun, and the pair view that training reads.

A comparison holds N candidates for one prompt with annotations of several kinds and dimensions; `pairs` derives
the preference pairs of all of them by one rule: p is the probability that the first is better, ties count half.

>>> note = Annotation("overall", "rank", {"ranks": [1, 2, 2]})
>>> [(i, j, verdict.p, verdict.tie) for i, j, verdict in verdicts(note)]
[(0, 1, 1.0, False), (0, 2, 1.0, False), (1, 2, 0.5, True)]
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from mmalign.types import Annotation, Candidate, Comparison, MediaInput, PreferencePair, Sample

SCHEMA = "mmalign.pref/1"
LABELS = ("i", "j", "tie", "invalid")
_KINDS = ("pair", "rank", "rating", "checklist", "critique")
_INPUT_FIELDS = ("role", "uri", "type")
_CANDIDATE_FIELDS = ("id", "uri", "type", "text", "model", "seed", "sha256")


@dataclass(frozen=True)
class Verdict:
    """What one annotation says of one pair: p(first is better), and whether it is a tie."""

    p: float
    tie: bool


def group_of(prompt: str, inputs: Sequence[MediaInput] = ()) -> str:
    """The name of what must stay on one side of a split: the prompt with its input media."""
    text = "\x1f".join((prompt, *(f"{item.role}:{item.uri}" for item in inputs)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def verdicts(note: Annotation) -> Iterator[tuple[int, int, Verdict]]:
    """The pairs (i, j) an annotation decides; checklists, critiques and invalid labels decide none."""
    data = note.data
    if note.kind == "pair":
        if data.get("label") != "invalid":
            yield int(data["i"]), int(data["j"]), pair_verdict(data)
    elif note.kind in ("rank", "rating"):
        values = data["ranks"] if note.kind == "rank" else data["scores"]
        sign = -1.0 if note.kind == "rank" else 1.0
        for i, j in combinations(range(len(values)), 2):
            if values[i] is None or values[j] is None:
                continue
            gap = sign * (values[i] - values[j])
            yield i, j, Verdict(1.0 if gap > 0 else 0.0 if gap < 0 else 0.5, gap == 0)


def pair_verdict(data: Mapping[str, Any]) -> Verdict:
    """The verdict of a pair annotation from its votes, probability or label, which must not contradict."""
    label, p, counts = data.get("label"), data.get("p"), data.get("counts")
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
    if p is None:
        if label not in ("i", "j", "tie"):
            raise ValueError(f"a pair needs a label ({', '.join(LABELS)}), p or counts")
        p = {"i": 1.0, "j": 0.0, "tie": 0.5}[label]
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p must be a probability, got {p}")
    if (label == "i" and p < 0.5) or (label == "j" and p > 0.5):
        raise ValueError(f"label {label!r} contradicts p = {p}: p is the probability that i is better")
    return Verdict(float(p), label == "tie")


def pairs(comparison: Comparison, root: Path, *, dimensions: Sequence[str] = ()) -> list[PreferencePair]:
    """All preference pairs of a comparison; `root` is the folder its media paths start from.

    Two pairs of one comparison share the `Sample` of a common candidate. `dimensions` limits what is read.
    """
    samples = [_sample(comparison, candidate, root) for candidate in comparison.candidates]
    labels: dict[tuple[int, int], dict[str, float]] = {}
    ties: dict[tuple[int, int], dict[str, bool]] = {}
    for note in comparison.annotations:
        if dimensions and note.dim not in dimensions:
            continue
        for i, j, verdict in verdicts(note):
            if not (0 <= i < len(samples) and 0 <= j < len(samples)) or i == j:
                raise ValueError(f"comparison {comparison.id}: pair ({i}, {j}) of {len(samples)} candidates")
            first, second = min(i, j), max(i, j)
            labels.setdefault((first, second), {})[note.dim] = verdict.p if i < j else 1.0 - verdict.p
            ties.setdefault((first, second), {})[note.dim] = verdict.tie
    group = comparison.group or group_of(comparison.prompt, comparison.inputs)
    return [
        PreferencePair(comparison.prompt, samples[i], samples[j], known, ties[i, j], comparison.weight, group)
        for (i, j), known in labels.items()
    ]


def _sample(comparison: Comparison, candidate: Candidate, root: Path) -> Sample:
    if candidate.uri is None or not isinstance(candidate.uri, str):
        raise ValueError(f"comparison {comparison.id}: candidate {candidate.id} has no single media uri")
    source = next((item.uri for item in comparison.inputs if item.role in ("source", "first_frame")), None)
    return Sample(
        comparison.prompt, resolve(candidate.uri, root), None if source is None else resolve(source, root),
        id=f"{comparison.id}/{candidate.id}",
    )  # fmt: skip


def resolve(uri: str, root: Path) -> Path:
    """The file a uri names: relative to `root`, and not outside of it."""
    if "://" in uri or uri.startswith("bytes:"):
        raise ValueError(f"cannot open {uri!r}: download it and give its path relative to the media folder")
    path = Path(uri)
    if path.is_absolute():
        return path
    if ".." in path.parts:
        raise ValueError(f"media path {uri!r} leaves the media folder: move the file, or name it absolutely")
    return root / path


def to_record(comparison: Comparison) -> dict[str, Any]:
    """The comparison as a `mmalign.pref/1` object; contradictions are refused before they are written."""
    for note in comparison.annotations:
        for _ in verdicts(note):
            pass
    plain: dict[str, Any] = {"schema": SCHEMA, "id": comparison.id, "source": comparison.source}
    plain |= {"split": comparison.split, "license": comparison.license, "task": comparison.task}
    plain |= {"group": comparison.group or group_of(comparison.prompt, comparison.inputs)}
    plain["prompt"] = comparison.prompt
    plain["inputs"] = [
        {key: getattr(item, key) for key in _INPUT_FIELDS} | dict(item.meta) for item in comparison.inputs
    ]
    plain["candidates"] = [
        {key: getattr(one, key) for key in _CANDIDATE_FIELDS} | {"meta": dict(one.meta)}
        for one in comparison.candidates
    ]
    plain["annotations"] = [
        {"dim": note.dim, "kind": note.kind, **dict(note.data)} for note in comparison.annotations
    ]
    plain |= {
        "annotator": dict(comparison.annotator),
        "weight": comparison.weight,
        "meta": dict(comparison.meta),
    }
    return plain


def from_record(record: Mapping[str, Any]) -> Comparison:
    """A `mmalign.pref/1` object as a comparison; ValueError says what is missing or contradicts."""
    if record.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(f"schema {record.get('schema')!r} is not {SCHEMA}")
    for key in ("id", "prompt", "candidates", "annotations"):
        if key not in record:
            raise ValueError(f"'{key}' is missing")
    comparison = Comparison(
        id=str(record["id"]),
        prompt=str(record["prompt"]),
        candidates=tuple(_candidate(one, n) for n, one in enumerate(record["candidates"])),
        annotations=tuple(_annotation(note) for note in record["annotations"]),
        inputs=tuple(_input(item) for item in record.get("inputs", ())),
        group=str(record.get("group") or ""),
        split=str(record.get("split") or "train"),
        task=str(record.get("task") or "t2i"),
        weight=float(record.get("weight", 1.0)),
        source=str(record.get("source") or ""),
        license=record.get("license"),
        annotator=dict(record.get("annotator") or {}),
        meta=dict(record.get("meta") or {}),
    )
    for note in comparison.annotations:
        for i, j, _ in verdicts(note):
            if max(i, j) >= len(comparison.candidates):
                raise ValueError(f"annotation of ({i}, {j}) but only {len(comparison.candidates)} candidates")
    return comparison


def _candidate(record: Mapping[str, Any], position: int) -> Candidate:
    known: dict[str, Any] = {key: record.get(key) for key in _CANDIDATE_FIELDS}
    uri = known["uri"]
    known["uri"] = tuple(uri) if isinstance(uri, list) else uri
    known["id"], known["type"] = str(known["id"] or position), known["type"] or "image"
    return Candidate(**known, meta=dict(record.get("meta") or {}))


def _annotation(record: Mapping[str, Any]) -> Annotation:
    kind = record.get("kind")
    if kind not in _KINDS:
        raise ValueError(f"annotation kind {kind!r} is unknown: use one of {_KINDS}")
    nested = record.get("data")
    data = dict(nested) if isinstance(nested, Mapping) else {}
    data |= {key: value for key, value in record.items() if key not in ("dim", "kind", "data")}
    return Annotation(str(record.get("dim") or "overall"), kind, data)


def _input(record: Mapping[str, Any]) -> MediaInput:
    if "role" not in record or "uri" not in record:
        raise ValueError("an input needs a 'role' and a 'uri'")
    rest = {key: value for key, value in record.items() if key not in _INPUT_FIELDS}
    return MediaInput(str(record["role"]), str(record["uri"]), record.get("type") or "image", rest)
