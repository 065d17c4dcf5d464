"""What judges in words share: samples made ready one by one, their pictures, and reviews collected to scores.

A judge that is `Speaking` becomes a reward by taking over five members as they are:

    name, modalities, reads_files = own_name, own_modalities, own_reads_files
    review, __call__ = reviews, scores

Legend: B samples, D dimensions, T frames, C H W.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from mmalign.types import Modality, Sample, Scores, as_frames
from rewardmodels.batching import prepare
from rewardmodels.clips import Clip, VideoRule, read_sample
from rewardmodels.judges.chat import Answer, Medium, Part, Question, Review, Words, ask
from rewardmodels.judges.settings import JudgeFile
from rewardmodels.judges.wording import Wording

NO_VARIANCE = 1e-6
"""The least variance that is reported, so that its logarithm is finite."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A sample that was decoded and checked: its words, and its pictures or clips by role."""

    prompt: str
    pictures: Mapping[str, tuple[Medium, ...]]

    def only(self, names: Sequence[str]) -> dict[str, tuple[Medium, ...]]:
        """The pictures of these roles; a role the sample lacks (the source of no edit) is left out."""
        return {name: self.pictures[name] for name in names if name in self.pictures}


@dataclass(frozen=True, eq=False)
class Rollout:
    """One pass over a sample: what was asked and answered in turn, and the score; NaN where an answer says none."""

    asked: Sequence[tuple[Question, Answer]]
    overall: float


def spread(frames: Tensor, most: int) -> tuple[Tensor, ...]:
    """At most so many of T frames, evenly from first to last, each (3, H, W)."""
    if frames.shape[0] <= most:
        return tuple(frames)
    places = torch.linspace(0, frames.shape[0] - 1, most).round().long()
    return tuple(frames[places])


def show(sample: Sample, settings: JudgeFile, modalities: frozenset[Modality] | None = None) -> Shown:
    """A sample as a judge sees it, of the kinds of the judge file unless said; ValueError or OSError says what is wrong
    with it.
    """
    most = settings.max_frames
    read = None
    if settings.videos == "clip":
        rule = VideoRule(min_frames=min(VideoRule.min_frames, most), max_frames=most)
        read = partial(read_sample, rule=rule)
    ready = prepare(sample, frozenset(settings.modalities) if modalities is None else modalities, read)
    pictures = {"media": _media(ready.frames, ready.clip, most)}
    if ready.source is not None:
        pictures = {"source": _media(ready.source, ready.source_clip, most), **pictures}
    return Shown(ready.prompt, pictures)


def _media(frames: Tensor, clip: Clip | None, most: int) -> tuple[Medium, ...]:
    """A video that is shown as such, or frames (T, 3, H, W) as pictures."""
    return (clip,) if clip is not None and clip.is_video else spread(frames, most)


def reviewed(
    samples: Sequence[Sample], settings: JudgeFile,
    judge: Callable[[Sequence[Shown], Sequence[Sample]], Sequence[Review]],
    modalities: frozenset[Modality] | None = None,
) -> list[Review]:  # fmt: skip
    """A review of every sample; those that cannot be decoded get a reason and are not asked about."""
    made: list[Review | None] = [None] * len(samples)
    shown: list[Shown] = []
    places: list[int] = []
    for i, sample in enumerate(samples):
        try:
            shown.append(show(sample, settings, modalities))
        except (ValueError, OSError) as error:
            made[i] = Review(reason=" ".join(str(error).split()))
        else:
            places.append(i)
    if places:
        for i, review in zip(places, judge(shown, [samples[i] for i in places]), strict=True):
            made[i] = review
    return [review for review in made if review is not None]


def collected(reviews: Sequence[Review], names: Sequence[str], *, variances: bool = False) -> Scores:
    """Scores (B, D). A dimension that a valid review lacks is NaN; `variances` fills log_variance (NaN: unknown)."""
    nan = math.nan
    values = torch.tensor([[review.scores.get(name, nan) for name in names] for review in reviews])
    overall = torch.tensor([review.overall for review in reviews], dtype=torch.float32)
    reasons = tuple(
        review.reason or (None if math.isfinite(review.overall) else "the judge gave no finite score")
        for review in reviews
    )
    valid = torch.tensor([reason is None for reason in reasons], dtype=torch.bool)
    log_variance, fused = None, None
    if variances:
        totals = torch.tensor([review.overall_variance for review in reviews], dtype=torch.float32)
        fused = totals.clamp(min=NO_VARIANCE).log()
        table = [[review.variance.get(name, nan) for name in names] for review in reviews]
        log_variance = torch.tensor(table).reshape(len(reviews), len(names)).clamp(min=NO_VARIANCE).log()
    return Scores(
        values.reshape(len(reviews), len(names)),
        tuple(names),
        overall,
        valid,
        reasons,
        log_variance,
        said(reviews),
        fused,
    )


def said(reviews: Sequence[Review]) -> tuple[dict[str, Any] | None, ...]:
    """What the judge said of each sample beside its scores, as plain values for a file; None for nothing."""
    told = []
    for review in reviews:
        numbers = {name: value if math.isfinite(value) else None for name, value in review.details.items()}
        every = {"notes": dict(review.notes), "answers": list(review.answers), "numbers": numbers}
        told.append({name: what for name, what in every.items() if what} or None)
    return tuple(told)


# ---------------------------------------------------------------- the members of a reward


class Described(Protocol):
    """Whatever a judge file describes."""

    settings: JudgeFile


class Speaking(Described, Protocol):
    """A judge in words: what it is, and how it reviews samples that were made ready."""

    @property
    def dimensions(self) -> tuple[str, ...]: ...

    def judge(self, shown: Sequence[Shown], samples: Sequence[Sample]) -> Sequence[Review]:
        """A review a sample; one that cannot be judged has a reason and harms no other."""
        ...


def _name(judge: Described) -> str:
    """The judge's own name."""
    return judge.settings.name


def _modalities(judge: Described) -> frozenset[Modality]:
    """What its questions fit."""
    return frozenset(judge.settings.modalities)


def _reads_files(judge: Described) -> bool:
    """Whether it is given video files as they are: the frames that others choose come without their times."""
    return judge.settings.videos == "clip"


own_name, own_modalities, own_reads_files = property(_name), property(_modalities), property(_reads_files)


def reviews(judge: Speaking, *, samples: Sequence[Sample]) -> list[Review]:
    """What the judge says of every sample: scores, its words, and notes."""
    return reviewed(samples, judge.settings, judge.judge)


def scores(judge: Speaking, *, samples: Sequence[Sample]) -> Scores:
    """The reviews as scores."""
    return collected(reviews(judge, samples=samples), judge.dimensions)


# ---------------------------------------------------------------- questions and what comes back


def question(
    wording: Wording, shown: Shown, roles: Sequence[str], *, system: str | None = None, start: str = "",
    **texts: str,
) -> Question:  # fmt: skip
    """The wording filled with a sample's prompt, pictures and further texts."""
    parts: tuple[Part, ...] = wording.fill({"prompt": shown.prompt, **texts}, shown.only(roles))
    return ask(*parts, system=system, start=start)


def picture_of(value: object, name: str) -> tuple[Tensor, ...]:
    """A picture in a sample's metadata (pixels or a file) as (3, H, W); ValueError says what is wrong."""
    if value is None:
        raise ValueError(f"this judge needs a picture in metadata['{name}']")
    media = Path(value) if isinstance(value, str) else value
    if not isinstance(media, Tensor | Path):
        raise ValueError(f"metadata['{name}'] must be a picture or its file, got {type(value).__name__}")
    frames = prepare(Sample("", as_frames(media)[:1]), frozenset({"image"})).frames
    return tuple(frames)


def share_of(words: Words, min_mass: float) -> tuple[float, ...] | str:
    """The words' shares; or why they say nothing: the model did not mean to answer in these words."""
    if words.problem is not None:
        return words.problem
    if not words.mass >= max(min_mass, 1e-30):
        return (
            f"the expected words have probability {words.mass:.2g} together, below {min_mass:g}: the model "
            "answers in other words"
        )
    return words.shares()
