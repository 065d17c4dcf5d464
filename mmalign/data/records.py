"""The record `mmalign.pref/1`: one JSON object a comparison, read and written strictly. Needs no torch.

A record that contradicts itself (a label against its own probability or votes, an index that points nowhere, a score
outside its scale) is refused with a ValueError, by the reader and, before a byte is written, by the writer.
A field that says nothing (null) and a field that is not there mean the same.

>>> one = from_record({"id": "1", "prompt": "a dog", "candidates": [{"uri": "a.png"}, {"uri": "b.png"}],
...                    "annotations": [{"kind": "pair", "i": 0, "j": 1, "label": "i", "p": 0.2}]})
Traceback (most recent call last):
ValueError: annotation 1: label 'i' contradicts p = 0.2: p is the probability that i is better
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmalign.comparison import Annotation, Candidate, Comparison, MediaInput
from mmalign.data.labels import pair_verdict

SCHEMA = "mmalign.pref/1"
TASKS = ("t2i", "edit", "inpaint", "t2v", "i2v", "v2v", "multiref", "interleaved", "doc", "text")
ROLES = ("source", "reference", "mask", "first_frame")
KINDS = ("pair", "rank", "rating", "checklist", "critique")
TYPES = ("image", "video", "text", "images")
TIE_KINDS = ("good", "bad", "unknown")
INPUT_META = ("sha256", "width", "height", "fps", "num_frames")
_INPUT_FIELDS = ("role", "type", "uri")
_CANDIDATE_FIELDS = ("id", "type", "uri", "text", "model", "seed", "sha256")


def group_of(prompt: str, inputs: Sequence[MediaInput] = ()) -> str:
    """The name of what must stay on one side of a split: the prompt with its input media."""
    text = "\x1f".join((prompt, *(f"{item.role}:{item.uri}" for item in inputs)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_record(comparison: Comparison) -> dict[str, Any]:
    """The comparison as a `mmalign.pref/1` object; contradictions are refused before they are written."""
    validate(comparison)
    return {
        "schema": SCHEMA,
        "id": comparison.id,
        "source": comparison.source,
        "split": comparison.split,
        "license": comparison.license,
        "group": comparison.group or group_of(comparison.prompt, comparison.inputs),
        "task": comparison.task,
        "prompt": comparison.prompt,
        "prompt_parts": [dict(part) for part in comparison.prompt_parts] or None,
        "inputs": [
            {key: getattr(item, key) for key in _INPUT_FIELDS} | _known(item.meta)
            for item in comparison.inputs
        ],
        "candidates": [
            {key: getattr(one, key) for key in _CANDIDATE_FIELDS} | {"meta": dict(one.meta)}
            for one in comparison.candidates
        ],
        "annotations": [
            {"dim": note.dim, "kind": note.kind, **_known(note.data)} for note in comparison.annotations
        ],
        "annotator": _known(comparison.annotator),
        "weight": comparison.weight,
        "meta": dict(comparison.meta),
    }


def from_record(record: Mapping[str, Any]) -> Comparison:
    """A `mmalign.pref/1` object as a comparison; ValueError says what is missing or contradicts."""
    if record.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(f"schema {record.get('schema')!r} is not {SCHEMA}")
    for key in ("id", "prompt", "candidates", "annotations"):
        if record.get(key) is None:
            raise ValueError(f"'{key}' is missing")
    if not isinstance(record["prompt"], str):
        raise ValueError(f"'prompt' must be text, got {type(record['prompt']).__name__}")
    comparison = Comparison(
        id=str(record["id"]),
        prompt=record["prompt"],
        candidates=tuple(_candidate(one, n) for n, one in enumerate(_objects(record, "candidates"))),
        annotations=tuple(_annotation(note) for note in _objects(record, "annotations")),
        inputs=tuple(_input(item) for item in _objects(record, "inputs")),
        group=str(record.get("group") or ""),
        split=str(record.get("split") or "train"),
        task=str(record.get("task") or "t2i"),
        weight=float(1.0 if record.get("weight") is None else record["weight"]),
        source=str(record.get("source") or ""),
        license=record.get("license"),
        annotator=_known(record.get("annotator") or {}),
        meta=dict(record.get("meta") or {}),
        prompt_parts=tuple(_known(part) for part in _objects(record, "prompt_parts")),
    )
    validate(comparison)
    return comparison


def validate(comparison: Comparison) -> None:
    """ValueError with the place where a comparison contradicts itself or the schema."""
    if comparison.task not in TASKS:
        raise ValueError(f"task {comparison.task!r} is unknown: use one of {', '.join(TASKS)}")
    if not comparison.candidates:
        raise ValueError("a comparison needs at least one candidate")
    _validate_text(comparison)
    if not 0.0 <= comparison.weight < math.inf:
        raise ValueError(f"weight must be 0 or more and finite, got {comparison.weight}")
    for number, one in enumerate(comparison.candidates, start=1):
        if one.type not in TYPES:
            raise ValueError(f"candidate {number}: type {one.type!r} is none of {', '.join(TYPES)}")
        if one.uri is None and one.text is None:
            raise ValueError(f"candidate {number} has neither 'uri' nor 'text'")
    for item in comparison.inputs:
        if item.role not in ROLES:
            raise ValueError(f"input role {item.role!r} is none of {', '.join(ROLES)}")
    for part in comparison.prompt_parts:
        if part.get("type") != "text" and not 0 <= part.get("media", -1) < len(comparison.inputs):
            raise ValueError(f"prompt part {dict(part)} names no input: 'media' counts 'inputs' from 0")
    for number, note in enumerate(comparison.annotations, start=1):
        try:
            _validate_note(note, len(comparison.candidates))
        except (ValueError, TypeError, KeyError) as problem:
            raise ValueError(f"annotation {number}: {_words(problem)}") from problem


def _validate_text(comparison: Comparison) -> None:
    texts = [comparison.prompt, comparison.id]
    for one in comparison.candidates:
        texts += [
            text for text in (one.text, *(one.uri if isinstance(one.uri, tuple) else (one.uri,))) if text
        ]
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as problem:
        raise ValueError("its text is no UTF-8 (broken characters): save the file as UTF-8") from problem


def _validate_note(note: Annotation, num: int) -> None:
    data = note.data
    if note.kind not in KINDS:
        raise ValueError(f"kind {note.kind!r} is unknown: use one of {KINDS}")
    if note.kind == "pair":
        _validate_pair(data, num)
        return
    key = {"rank": "ranks", "rating": "scores", "checklist": "answers", "critique": "texts"}[note.kind]
    values = data[key]
    if note.kind != "critique" and len(values) != num:
        raise ValueError(f"{len(values)} {key} for {num} candidates: give one each (null where unknown)")
    if note.kind == "rating":
        low, high = data.get("min"), data.get("max")
        for score in values:
            if score is None:
                continue
            if not math.isfinite(score):
                raise ValueError(f"score {score} is no number: null where it is unknown")
            if (low is not None and score < low) or (high is not None and score > high):
                raise ValueError(f"score {score} lies outside the scale from {low} to {high}")
        if data.get("std") is not None and len(data["std"]) != num:
            raise ValueError(f"{len(data['std'])} std for {num} candidates")


def _validate_pair(data: Mapping[str, Any], num: int) -> None:
    i, j = int(data["i"]), int(data["j"])
    if not (0 <= i < num and 0 <= j < num) or i == j:
        raise ValueError(f"pair ({i}, {j}) of {num} candidates: i and j count them from 0 and differ")
    label, kind = data.get("label"), data.get("tie_kind")
    if label == "invalid":
        if any(data.get(key) is not None for key in ("p", "p_tie", "counts")):
            raise ValueError("label 'invalid' contradicts p, p_tie or counts: an invalid judgement has none")
    else:
        pair_verdict(data)
    if kind is not None and (kind not in TIE_KINDS or label != "tie"):
        raise ValueError(f"tie_kind {kind!r} needs the label 'tie' and one of {', '.join(TIE_KINDS)}")


def _candidate(record: Mapping[str, Any], position: int) -> Candidate:
    known: dict[str, Any] = {key: record.get(key) for key in _CANDIDATE_FIELDS}
    uri = known["uri"]
    known["uri"] = tuple(map(str, uri)) if isinstance(uri, (list, tuple)) else uri
    known["id"] = str(position if known["id"] is None else known["id"])
    known["type"] = known["type"] or "image"
    return Candidate(**known, meta=dict(record.get("meta") or {}))


def _annotation(record: Mapping[str, Any]) -> Annotation:
    kind = record.get("kind")
    if kind not in KINDS:
        raise ValueError(f"annotation kind {kind!r} is unknown: use one of {KINDS}")
    nested = record.get("data")
    data = dict(nested) if isinstance(nested, Mapping) else {}
    data |= {key: value for key, value in record.items() if key not in ("dim", "kind", "data")}
    return Annotation(str(record.get("dim") or "overall"), kind, _known(data))


def _input(record: Mapping[str, Any]) -> MediaInput:
    if record.get("role") is None or record.get("uri") is None:
        raise ValueError("an input needs a 'role' and a 'uri'")
    rest = {key: value for key, value in record.items() if key not in _INPUT_FIELDS}
    return MediaInput(str(record["role"]), str(record["uri"]), record.get("type") or "image", _known(rest))


def _objects(record: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    found = record.get(key) or ()
    if not isinstance(found, (list, tuple)) or not all(isinstance(one, Mapping) for one in found):
        raise ValueError(f"'{key}' must be a list of objects")
    return found


def _known(data: Mapping[str, Any]) -> dict[str, Any]:
    """Without the fields that say nothing."""
    return {key: value for key, value in data.items() if value is not None}


def _words(problem: Exception) -> str:
    return f"{problem.args[0]!r} is missing" if isinstance(problem, KeyError) else str(problem)
