"""Videos of the shapes world: prompts in which something happens, their words, and seeded clips.

Legend: B clips, T frames, H W side; a video is (B, T, 3, H, W) in [0, 1].

>>> parse_video("a red circle moves right while a blue square stays still").value
'right'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from mmalign.shapes.drawing import draw
from mmalign.shapes.edits import DIRECTIONS
from mmalign.shapes.layout import place
from mmalign.shapes.prompts import read_noun_phrase
from mmalign.shapes.scene import COLORS, MARGIN, PIXEL, RADIUS_BANDS, SHAPES, Scene, Thing
from mmalign.shapes.specs import Requirement, split_by_hash

VIDEO_KINDS: tuple[str, ...] = ("move", "resize", "recolor")
LEAST_PATH = 8 * PIXEL
"""How far a moving thing goes at least in a true clip."""

_VERBS: dict[str, dict[str, tuple[str, ...]]] = {
    "move": {way: (f"moves {way}", f"goes {way}", f"slides {way}") for way in DIRECTIONS},
    "resize": {
        "larger": ("grows", "gets larger", "becomes larger"),
        "smaller": ("shrinks", "gets smaller", "becomes smaller"),
    },
    "recolor": {color: (f"turns {color}", f"becomes {color}") for color in COLORS},
}
_JOINS = ("while", "and")
_STILL = "stays still"
_ACTS = {
    tuple(verb.split()): (kind, value)
    for kind, values in _VERBS.items()
    for value, verbs in values.items()
    for verb in verbs
}


@dataclass(frozen=True)
class VideoSpec:
    """`subject` moves some way, becomes larger or smaller, or turns a colour; perhaps beside
    `still`, a thing of another shape and colour that does not change."""

    kind: str
    subject: Requirement
    value: str
    still: Requirement | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject} {self.value} beside {self.still}"


@dataclass(frozen=True)
class Clip:
    """The first and the last scene, the same things in the same order; between them all is even."""

    start: Scene
    end: Scene
    num_frames: int

    def frame(self, share: float) -> Scene:
        """The scene after a `share` of the clip in [0, 1], in the colours of the start."""
        pairs = zip(self.start, self.end, strict=True)
        return Scene(
            tuple(
                replace(
                    a,
                    x=a.x + share * (b.x - a.x),
                    y=a.y + share * (b.y - a.y),
                    radius=a.radius + share * (b.radius - a.radius),
                )
                for a, b in pairs
            )
        )

    def frames(self) -> list[Scene]:
        """The `num_frames` scenes in the colours of the start."""
        return [self.frame(share) for share in np.linspace(0, 1, self.num_frames).tolist()]


@lru_cache(maxsize=1)
def all_video_specs() -> tuple[VideoSpec, ...]:
    """Every video spec, each once, in a fixed order: alone, or (if coloured) beside a still thing."""
    subjects = [Requirement(1, color, shape) for shape in SHAPES for color in (None, *COLORS)]
    specs = []
    for kind in VIDEO_KINDS:
        for subject, value in product(subjects, _VERBS[kind]):
            if value == subject.color:
                continue
            specs.append(VideoSpec(kind, subject, value))
            specs += [
                VideoSpec(kind, subject, value, still)
                for still in subjects
                if subject.color and still.color and still.shape != subject.shape
                if still.color not in (subject.color, value)
            ]
    return tuple(specs)


@lru_cache(maxsize=2)
def video_specs(split: str) -> tuple[VideoSpec, ...]:
    """The video specs of "train" (about 85 % of each kind) or "heldout"."""
    return split_by_hash(all_video_specs(), VIDEO_KINDS, lambda spec: spec.kind, split)


def video_phrasings(spec: VideoSpec) -> tuple[str, ...]:
    """Every prompt that says `spec`; all are read back by `parse_video`."""
    bodies = [f"{_noun(spec.subject)} {verb}" for verb in _VERBS[spec.kind][spec.value]]
    if spec.still is None:
        return tuple(bodies)
    still = f"{_noun(spec.still)} {_STILL}"
    return tuple(f"{body} {join} {still}" for body in bodies for join in _JOINS)


def _noun(need: Requirement) -> str:
    words = " ".join(word for word in (need.color, need.shape) if word)
    return ("an " if words[0] in "aeiou" else "a ") + words


def parse_video(prompt: str) -> VideoSpec:
    """The spec that `prompt` says; the exact inverse of every phrasing.

    Raises ValueError naming the word that cannot be read.
    """
    subject, words = read_noun_phrase(prompt.split(), prompt)
    act = next((verb for verb in _ACTS if tuple(words[: len(verb)]) == verb), None)
    if act is None:
        raise ValueError(
            f"cannot read '{' '.join(words[:2])}' in '{prompt}': expected moves, goes or slides and "
            f"one of {', '.join(DIRECTIONS)}; grows, shrinks; or turns and a colour"
        )
    words, still = words[len(act) :], None
    if words:
        if words[0] not in _JOINS:
            raise ValueError(f"cannot read '{words[0]}' in '{prompt}': expected while, and, or its end")
        still, words = read_noun_phrase(words[1:], prompt)
        if words != _STILL.split():
            raise ValueError(f"cannot read '{' '.join(words)}' in '{prompt}': expected '{_STILL}'")
    kind, value = _ACTS[act]
    spec = VideoSpec(kind, subject, value, still)
    if spec not in _known():
        raise ValueError(
            f"'{prompt}' is outside this world: single things without a size, a colour other than the "
            "thing's own, and beside a coloured thing only a still one of another shape and colour"
        )
    return spec


@lru_cache(maxsize=1)
def _known() -> frozenset[VideoSpec]:
    return frozenset(all_video_specs())


def sample_clip(spec: VideoSpec, rng: np.random.Generator, num_frames: int = 8) -> Clip:
    """A clip of 2 or more frames (8 to 16 are judged well) in which `spec` happens evenly."""
    for _ in range(300):
        clip = _attempt(spec, rng, num_frames)
        if clip is not None and all(clip.frame(share).valid() for share in np.linspace(0, 1, 9).tolist()):
            return clip
    raise ValueError(f"no room to draw the video '{spec}'")


def sample_clips(
    split: str, num: int, seed: int = 0, num_frames: int = 8
) -> tuple[list[str], list[VideoSpec], list[Clip]]:
    """`num` prompts of a split with their specs and true clips, balanced over kinds."""
    rng = np.random.default_rng(seed)
    pools = [
        [spec for spec in video_specs(split) if spec.kind == kind and (spec.still is None) == alone]
        for kind in VIDEO_KINDS
        for alone in (True, False)
    ]
    order = np.resize(rng.permutation(len(pools)), num)
    rng.shuffle(order)
    specs = [pools[i][int(rng.integers(len(pools[i])))] for i in order]
    texts = [video_phrasings(spec) for spec in specs]
    prompts = [text[int(rng.integers(len(text)))] for text in texts]
    return prompts, specs, [sample_clip(spec, rng, num_frames) for spec in specs]


def draw_clips(clips: Sequence[Clip], size: int = 32) -> Tensor:
    """Videos (B, T, 3, size, size) of clips of equally many frames; colours change evenly."""
    lengths = {clip.num_frames for clip in clips}
    if len(lengths) != 1:
        raise ValueError(f"clips of one length make a batch, got the lengths {sorted(lengths)}")
    frames = lengths.pop()
    scenes = [scene for clip in clips for scene in clip.frames()]
    video = draw(scenes, size).view(len(clips), frames, 3, size, size)
    turning = [
        i
        for i, clip in enumerate(clips)
        if any(a.color != b.color for a, b in zip(clip.start, clip.end, strict=True))
    ]
    if turning:
        final = [_recolored(scene, clips[i].end) for i in turning for scene in clips[i].frames()]
        last = draw(final, size).view(len(turning), frames, 3, size, size)
        share = torch.linspace(0, 1, frames).view(1, -1, 1, 1, 1)
        video[turning] = torch.lerp(video[turning], last, share)
    return video


def _recolored(scene: Scene, like: Scene) -> Scene:
    return Scene(tuple(replace(a, color=b.color) for a, b in zip(scene, like, strict=True)))


def _attempt(spec: VideoSpec, rng: np.random.Generator, num_frames: int) -> Clip | None:
    """One random clip, perhaps with things too close; None where no room was found."""
    free = [color for color in COLORS if color != spec.value]
    color = spec.subject.color or free[int(rng.integers(len(free)))]
    size = "large" if rng.random() < 0.35 else "small"
    if spec.kind == "resize":
        size = "small" if spec.value == "larger" else "large"
    subject = Thing(color, spec.subject.shape, size, 0.5, 0.5, _radius(size, rng))
    others: list[Thing] = []
    if spec.still is not None:
        others = [Thing(str(spec.still.color), spec.still.shape, "small", 0.5, 0.5, _radius("small", rng))]
    final = subject
    if spec.kind == "resize":
        size = "large" if size == "small" else "small"
        final = replace(subject, size=size, radius=_radius(size, rng))
    if spec.kind == "recolor":
        final = replace(subject, color=spec.value)
    try:
        places = place([max(subject.radius, final.radius), *(t.radius for t in others)], rng)
    except ValueError:
        return None
    (x, y), rest = places[0], places[1:]
    kept = tuple(replace(t, x=a, y=b) for t, (a, b) in zip(others, rest, strict=True))
    end_x, end_y = x, y
    if spec.kind == "move":
        room = 1 - 2 * (MARGIN + subject.radius)
        length = LEAST_PATH + (room - LEAST_PATH) * float(rng.random())
        near = MARGIN + subject.radius + (room - length) * float(rng.random())
        ways_x, ways_y = DIRECTIONS[spec.value]
        ends = (near, near + length) if ways_x + ways_y > 0 else (near + length, near)
        (x, end_x), (y, end_y) = (ends, (y, y)) if ways_x else ((x, x), ends)
    start = Scene((replace(subject, x=x, y=y), *kept))
    return Clip(start, Scene((replace(final, x=end_x, y=end_y), *kept)), num_frames)


def _radius(size: str, rng: np.random.Generator) -> float:
    return float(rng.uniform(*RADIUS_BANDS[size]))
