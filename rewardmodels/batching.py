"""What every reward shares: samples are prepared one by one, judged in batches, and a bad one harms no other.

Legend: B samples, T frames, C H W, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmalign.types import Modality, Sample, Scores
from rewardmodels.clips import Clip


@dataclass(frozen=True, eq=False)
class Prepared:
    """A sample that was decoded and checked."""

    prompt: str
    frames: Tensor  # (T, 3, H, W) in [0, 1]
    source: Tensor | None = None
    clip: Clip | None = None
    """Media and source with their times, where the reward reads videos in time."""
    source_clip: Clip | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """What must agree for samples to be stacked."""
        return (*self.frames.shape, *(self.source.shape if self.source is not None else ()))


Judge = Callable[[Sequence[Prepared]], Tensor]
"""Samples of one shape -> values (B, D), or values and their log variance (B, 2, D); a row that is not finite could
not be judged."""

Fit = Callable[[Prepared], Prepared]
"""One sample as the model wants it, e.g. resized, so that pictures of all sizes share a batch."""


Read = Callable[[Sample], tuple[Clip, Clip | None]]
"""How a reward reads media and source of a sample; without it all frames are read."""


def require_kind(sample: Sample, modalities: frozenset[Modality]) -> None:
    """ValueError for a sample of a kind that is not judged."""
    if lacking := sample.kinds - modalities:
        raise ValueError(f"this reward judges {', '.join(sorted(modalities))}, not {min(lacking)}")


def prepare(sample: Sample, modalities: frozenset[Modality], read: Read | None = None) -> Prepared:
    """Decode and check one sample; ValueError says what is wrong with it."""
    if not isinstance(sample.prompt, str):
        raise ValueError(f"the prompt must be text, got {type(sample.prompt).__name__}")
    require_kind(sample, modalities)
    clip, source_clip = (None, None) if read is None else read(sample)
    frames = sample.frames() if clip is None else clip.frames
    source = sample.source_frames() if clip is None else None if source_clip is None else source_clip.frames
    for name, pixels in (("media", frames), ("source", source)):
        if pixels is None:
            continue
        if pixels.ndim != 4 or pixels.shape[1] != 3 or min(pixels.shape) < 1:
            raise ValueError(f"{name} must be RGB frames (T, 3, H, W), got {tuple(pixels.shape)}")
        low, high = (float(end) for end in torch.aminmax(pixels.detach()))
        if not (low >= -1e-3 and high <= 1.0 + 1e-3):  # also false for NaN
            raise ValueError(f"{name} has pixels outside [0, 1] or not finite (from {low:.3g} to {high:.3g})")
    return Prepared(sample.prompt, frames, source, clip, source_clip, sample.metadata)


def score(
    samples: Sequence[Sample],
    judge: Judge,
    *,
    names: Sequence[str],
    modalities: frozenset[Modality],
    batch_size: int,
    overall: Callable[[Tensor], Tensor] | None = None,
    unsure: Callable[[Tensor, Tensor], Tensor] | None = None,
    fit: Fit | None = None,
    read: Read | None = None,
) -> Scores:
    """Judge all samples in batches of one shape; `overall` (B, D) -> (B,) is the mean unless given, and `unsure` makes
    its log variance (B,) from values and their log variance (B, D).

    A ValueError of `fit` or of the judge is the reason of its sample.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    reasons: list[str | None] = [None] * len(samples)
    by_shape: dict[tuple[int, ...], list[tuple[int, Prepared]]] = {}
    for i, sample in enumerate(samples):
        try:
            ready = prepare(sample, modalities, read)
            ready = ready if fit is None else fit(ready)
        except (ValueError, OSError) as error:
            reasons[i] = " ".join(str(error).split())
            continue
        by_shape.setdefault(ready.shape, []).append((i, ready))
    rows: list[Tensor | None] = [None] * len(samples)
    for members in by_shape.values():
        for start in range(0, len(members), batch_size):
            batch = members[start : start + batch_size]
            for (i, _), row in zip(batch, _judge(judge, batch, reasons), strict=True):
                rows[i] = row
    return _collect(rows, reasons, names, overall, unsure)


def _judge(
    judge: Judge, batch: Sequence[tuple[int, Prepared]], reasons: list[str | None]
) -> Sequence[Tensor | None]:
    """A batch at once; if it is refused, each sample alone, so that only the bad one is lost."""
    try:
        return list(judge([ready for _, ready in batch]))
    except ValueError as error:
        if len(batch) == 1:
            reasons[batch[0][0]] = " ".join(str(error).split())
            return [None]
    return [_judge(judge, [one], reasons)[0] for one in batch]


def _collect(
    rows: Sequence[Tensor | None],
    reasons: list[str | None],
    names: Sequence[str],
    overall: Callable[[Tensor], Tensor] | None,
    unsure: Callable[[Tensor, Tensor], Tensor] | None,
) -> Scores:
    blank = torch.full((len(names),), float("nan"))
    for i, row in enumerate(rows):
        if row is not None and not bool(torch.isfinite(row.detach()).all()):
            reasons[i] = "the reward gave a score that is not finite"
    valid = torch.tensor([reason is None for reason in reasons], dtype=torch.bool)
    if not rows:
        return Scores(torch.empty(0, len(names)), tuple(names), torch.empty(0), valid, ())
    with_variance = any(row is not None and row.ndim == 2 for row in rows)
    blank = blank.expand(2, -1) if with_variance else blank
    table = torch.stack([blank if row is None else row.float().cpu() for row in rows])
    values, log_variance = (table[:, 0], table[:, 1]) if with_variance else (table, None)
    total = values.mean(1) if overall is None else overall(values)
    fused = None if log_variance is None or unsure is None else unsure(values, log_variance)
    return Scores(
        values, tuple(names), total, valid, tuple(reasons), log_variance, overall_log_variance=fused
    )
