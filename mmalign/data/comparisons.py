"""Comparisons as training reads them: preference pairs of samples, in an order that tells nothing.

A comparison holds N candidates for one prompt with annotations of several kinds and dimensions; `pairs` derives the
preference pairs of all of them by one rule (`labels.views`): p is the probability that the first is better, ties count
half (their share is kept beside p), several judgements of a pair count alike, and a summary (a judgement that names no
annotator) stands for the annotators it sums up.

The record itself is in `records`, the places of media in `uris`; both need no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from mmalign.data.labels import LABELS, Verdict, pair_verdict, summarised, verdicts, views
from mmalign.data.records import SCHEMA, from_record, group_of, to_record
from mmalign.data.uris import MediaStore, resolve
from mmalign.media import is_video
from mmalign.seeds import seed_of
from mmalign.types import Annotation, Candidate, Comparison, MediaInput, Modality, PreferencePair, Sample

__all__ = [
    "LABELS",
    "SCHEMA",
    "Verdict",
    "from_record",
    "group_of",
    "kinds",
    "pair_verdict",
    "pairs",
    "permuted",
    "resolve",
    "samples",
    "shuffled",
    "to_record",
    "verdicts",
]


def pairs(
    comparison: Comparison, root: Path, *, dimensions: Sequence[str] = (), store: MediaStore | None = None
) -> list[PreferencePair]:
    """All preference pairs of a comparison; `root` is the folder its media paths start from.

    Two pairs of one comparison share the `Sample` of a common candidate. `dimensions` limits what is read. Invalid
    judgements are left out: a dimension that has no other is absent from a pair's labels.
    """
    shares: dict[tuple[int, int], dict[str, list[float]]] = {}
    ties: dict[tuple[int, int], dict[str, list[float]]] = {}
    kinds: dict[tuple[int, int], dict[str, set[str | None]]] = {}
    for one in summarised(views(comparison.annotations, dimensions=dimensions).pairs):
        if one.p is None:
            continue
        key = (min(one.i, one.j), max(one.i, one.j))
        shares.setdefault(key, {}).setdefault(one.dim, []).append(one.p if one.i < one.j else 1.0 - one.p)
        ties.setdefault(key, {}).setdefault(one.dim, []).append(one.tie_share)
        kinds.setdefault(key, {}).setdefault(one.dim, set()).add(one.tie_kind)
    if not shares:
        return []
    made = samples(comparison, root, store=store)
    group = comparison.group or group_of(comparison.prompt, comparison.inputs)
    return [
        PreferencePair(
            comparison.prompt,
            made[i],
            made[j],
            _means(known),
            _means(ties[i, j]),
            comparison.weight,
            group,
            _agreed(kinds[i, j]),
        )
        for (i, j), known in shares.items()
    ]


def _agreed(kinds: dict[str, set[str | None]]) -> dict[str, str]:
    """The kind of tie by dimension, where all who judged say the same known one."""
    known = {dim: next(iter(said)) for dim, said in kinds.items() if len(said) == 1}
    return {dim: kind for dim, kind in known.items() if kind in ("good", "bad")}


def _means(said: dict[str, list[float]]) -> dict[str, float]:
    return {dim: sum(values) / len(values) for dim, values in said.items()}


def samples(comparison: Comparison, root: Path, *, store: MediaStore | None = None) -> list[Sample]:
    """The candidates as samples, in order; media are files, decoded when they are read. ValueError where the prompt
    shows further pictures: a sample holds one source, and without what it is about nothing can be judged.
    """
    if any(item.role == "reference" for item in comparison.inputs):
        raise ValueError(
            f"comparison {comparison.id}: its prompt shows reference pictures, which no reward is given; leave it out"
        )
    place = store or MediaStore(root)
    source = _source(comparison)
    start = None if source is None else place.path(source.uri)
    return [_sample(comparison, candidate, place, start) for candidate in comparison.candidates]


def kinds(comparison: Comparison) -> frozenset[Modality]:
    """What `samples` would be, told without opening their media.

    >>> pair = from_record({"id": 1, "prompt": "a dog", "candidates": [{"uri": "a.mp4"}], "annotations": []})
    >>> sorted(kinds(pair))
    ['video']
    """
    shown = frozenset(_kind(one, one.uri) for one in comparison.candidates if isinstance(one.uri, str))
    source = _source(comparison)
    if source is None:
        return shown
    from_still = "video" in shown and _kind(source, source.uri) == "image"
    return frozenset({"edit", "video"}) if from_still else frozenset({"edit"})


def _source(comparison: Comparison) -> MediaInput | None:
    return next((item for item in comparison.inputs if item.role in ("source", "first_frame")), None)


def _kind(candidate: Candidate | MediaInput, uri: str) -> Modality:
    """By the name of the medium; by what the record says where it has none, as in a table."""
    name = PurePosixPath(uri.partition("?")[0])
    named = bool(name.suffix) and not uri.startswith("table://")
    return "video" if (is_video(name) if named else candidate.type == "video") else "image"


def shuffled(comparison: Comparison, *, seed: int = 0) -> Comparison:
    """The same judgements with the candidates in an order drawn by (seed, id).

    Published pairs often name the winner first; whoever reads them in order learns the position instead.
    """
    order = list(range(len(comparison.candidates)))
    for k in range(len(order) - 1, 0, -1):
        other = seed_of(seed, "candidates", comparison.id, k) % (k + 1)
        order[k], order[other] = order[other], order[k]
    return permuted(comparison, order)


def permuted(comparison: Comparison, order: Sequence[int]) -> Comparison:
    """The comparison with candidate `order[k]` at place k, and its annotations following."""
    if sorted(order) != list(range(len(comparison.candidates))):
        raise ValueError(f"{list(order)} is no order of {len(comparison.candidates)} candidates")
    place = {old: new for new, old in enumerate(order)}
    return replace(
        comparison,
        candidates=tuple(comparison.candidates[k] for k in order),
        annotations=tuple(_follow(note, order, place) for note in comparison.annotations),
    )


def _follow(note: Annotation, order: Sequence[int], place: dict[int, int]) -> Annotation:
    data: dict[str, Any] = dict(note.data)
    if note.kind == "pair":
        i, j = place[int(data["i"])], place[int(data["j"])]
        if i > j:
            i, j = j, i
            data["label"] = {"i": "j", "j": "i"}.get(str(data.get("label")), data.get("label"))
            if data.get("p") is not None:
                data["p"] = 1.0 - data["p"]
            if data.get("counts") is not None:
                first, second, tie = data["counts"]
                data["counts"] = [second, first, tie]
        return replace(note, data={**{k: v for k, v in data.items() if v is not None}, "i": i, "j": j})
    for key in ("ranks", "scores", "std", "answers", "texts"):
        values = data.get(key)
        if values is not None and len(values) == len(order):
            data[key] = [values[k] for k in order]
    return replace(note, data=data)


def _sample(comparison: Comparison, candidate: Candidate, store: MediaStore, source: Path | None) -> Sample:
    if candidate.uri is None or not isinstance(candidate.uri, str):
        raise ValueError(f"comparison {comparison.id}: candidate {candidate.id} has no single media uri")
    prompt = str(candidate.meta.get("prompt") or comparison.prompt)
    return Sample(prompt, store.path(candidate.uri), source, id=f"{comparison.id}/{candidate.id}")
