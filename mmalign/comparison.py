"""The record of one human (or model) judgement: N candidates for one prompt, with annotations. `mmalign.pref/1`.

Holds no tensors and needs no torch; `mmalign.types` passes these names on. Media are named by uri and read elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class MediaInput:
    """One input medium of a comparison: the source of an edit, a mask, a first frame.

    `meta` may hold sha256, width, height, fps, num_frames.
    """

    role: str
    uri: str
    type: Literal["image", "video"] = "image"
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """One of the compared outputs; `meta["prompt"]` is its own prompt where the candidates answer different ones."""

    id: str
    uri: str | tuple[str, ...] | None = None
    type: Literal["image", "video", "text", "images"] = "image"
    text: str | None = None
    model: str | None = None
    seed: int | None = None
    sha256: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Annotation:
    """One judgement on the candidates of a comparison, on one dimension.

    `data` holds the fields of its kind: pair (i, j, label, tie_kind, p, counts, strength), rank (ranks),
    rating (scores, min, max, ordinal, std), checklist (question, answers), critique (texts). Smaller ranks are better,
    equal ranks tie. `annotator` names who said it where one comparison holds the words of several.
    """

    dim: str
    kind: Literal["pair", "rank", "rating", "checklist", "critique"]
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """N candidates for one prompt with their annotations: the record `mmalign.pref/1`.

    `group` names what must never be split between train and test (the prompt with its inputs). `prompt_parts` is the
    prompt in order where pictures stand between its words: {"type": "text", "value"} or {"type": "image", "media": k},
    the k-th of `inputs`.
    """

    id: str
    prompt: str
    candidates: tuple[Candidate, ...]
    annotations: tuple[Annotation, ...]
    inputs: tuple[MediaInput, ...] = ()
    group: str = ""
    split: str = "train"
    task: str = "t2i"
    weight: float = 1.0
    source: str = ""
    license: str | None = None
    annotator: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    prompt_parts: tuple[Mapping[str, Any], ...] = ()

    @property
    def is_for_rewards(self) -> bool:
        """Whether a reward can be given its candidates: one medium each, for a prompt without reference pictures."""
        alone = all(isinstance(candidate.uri, str) for candidate in self.candidates)
        return alone and all(item.role != "reference" for item in self.inputs)
