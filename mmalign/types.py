"""The nouns of mmalign, as frozen records and protocols.

Those of preference records are in `mmalign.comparison`, those of sampling in `mmalign.trajectory`.

Shape legend: `B` samples, `T` frames, `C H W` image, `D` reward dimensions. Records compare by identity: they hold
tensors.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from mmalign.comparison import Annotation, Candidate, Comparison, MediaInput
from mmalign.trajectory import Conditions, Trajectory, Transition

__all__ = [
    "Annotation",
    "Candidate",
    "Comparison",
    "Conditions",
    "Loss",
    "MediaInput",
    "Modality",
    "PreferencePair",
    "RewardModel",
    "Sample",
    "Scores",
    "Trajectory",
    "Transition",
    "as_frames",
    "content_of",
]

Modality = Literal["image", "edit", "video"]


def as_frames(media: Tensor | Path) -> Tensor:
    """Media as (T, C, H, W) float32 in [0, 1]; a path is decoded, uint8 divided by 255, an image is T = 1."""
    if not isinstance(media, Tensor):
        from mmalign import media as reader  # decoding libraries are loaded only when a file is read

        decoded: Tensor = reader.read(Path(media))
        return decoded
    if media.ndim not in (3, 4):
        raise ValueError(f"media must be (C, H, W) or (T, C, H, W), got shape {tuple(media.shape)}")
    frames = media if media.ndim == 4 else media[None]
    if frames.dtype == torch.uint8:
        return frames.float() / 255.0
    if not frames.is_floating_point():
        raise ValueError(f"media must be floating point in [0, 1] or uint8, got {frames.dtype}")
    return frames.float()


def content_of(media: Tensor | Path | None) -> str:
    """Equal for media that show the same: the file, or the pixels, however often they were decoded or copied.

    >>> content_of(torch.zeros(3, 2, 2)) == content_of(torch.zeros(3, 2, 2)) != content_of(torch.ones(3, 2, 2))
    True
    """
    if not isinstance(media, Tensor):
        return "" if media is None else str(media)
    pixels = media.detach().cpu().float().contiguous()
    digest = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
    return f"{media.dtype} {tuple(media.shape)} {digest}"


@dataclass(frozen=True, eq=False)
class Sample:
    """A prompt with generated media and, for an edit, the media it started from."""

    prompt: str
    media: Tensor | Path
    source: Tensor | Path | None = None
    id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def group(self) -> Hashable:
        """Which others it is compared with: those with an equal `metadata["group"]`; None where that says nothing."""
        said = self.metadata.get("group")
        return said if isinstance(said, Hashable) else json.dumps(said, sort_keys=True)

    def frames(self) -> Tensor:
        """The generated media as (T, C, H, W) float32 in [0, 1]."""
        return as_frames(self.media)

    def source_frames(self) -> Tensor | None:
        """The source media as (T, C, H, W) float32 in [0, 1], or None."""
        return None if self.source is None else as_frames(self.source)

    @property
    def modality(self) -> Modality:
        """`edit` with a source, `video` with several frames or a video file, otherwise `image`."""
        if self.source is not None:
            return "edit"
        return "video" if _moves(self.media) else "image"

    @property
    def kinds(self) -> frozenset[Modality]:
        """All that a reward must judge to judge it: its modality, and videos too where one was made from a still."""
        from_still = self.source is not None and _moves(self.media) and not _moves(self.source)
        return frozenset({"edit", "video"}) if from_still else frozenset({self.modality})


def _moves(media: Tensor | Path) -> bool:
    """Several frames, or a video file."""
    if isinstance(media, Tensor):
        return media.ndim == 4 and media.shape[0] > 1
    from mmalign.media import is_video

    return is_video(media)


@dataclass(frozen=True, eq=False)
class Scores:
    """What a reward model says of B samples: D named dimensions and one overall score each.

    A sample that could not be judged is not valid: its numbers are NaN (made so here) and it has a reason.
    """

    values: Tensor  # (B, D) float32
    names: tuple[str, ...]
    overall: Tensor  # (B,) float32
    valid: Tensor  # (B,) bool
    reasons: tuple[str | None, ...]
    log_variance: Tensor | None = None  # (B, D)
    details: tuple[Mapping[str, Any] | None, ...] | None = None
    """What a judge in words said of each sample, as plain values: critiques, answers, numbers about the judgement."""
    overall_log_variance: Tensor | None = None
    """(B,), NaN where unknown; of a reward that tells that of its dimensions alone it is that of their mean, which are
    taken as independent."""

    def __post_init__(self) -> None:
        num, dims = self.overall.shape[0], len(self.names)
        if self.values.shape != (num, dims) or self.overall.shape != (num,) or self.valid.shape != (num,):
            shapes = tuple(self.values.shape), tuple(self.overall.shape), tuple(self.valid.shape)
            raise ValueError(f"Scores of {dims} dimensions need (B, {dims}), (B,), (B,); got {shapes}")
        if self.log_variance is not None and self.log_variance.shape != self.values.shape:
            raise ValueError("log_variance must have the shape of values")
        if self.overall_log_variance is None and self.log_variance is not None:
            fused = self.log_variance.logsumexp(dim=1) - 2 * math.log(dims)
            object.__setattr__(self, "overall_log_variance", fused)
        if self.overall_log_variance is not None and self.overall_log_variance.shape != self.overall.shape:
            raise ValueError("overall_log_variance must have the shape of overall")
        if self.details is not None and len(self.details) != num:
            raise ValueError(f"Scores of {num} samples have {len(self.details)} details")
        valid = self.valid.bool()
        lacking = [why is None for good, why in zip(valid.tolist(), self.reasons, strict=True) if not good]
        if any(lacking):
            raise ValueError(f"{sum(lacking)} samples are not valid and have no reason")
        if not bool(torch.isfinite(self.overall.detach())[valid].all()):
            raise ValueError("a valid sample has a score that is not finite: mark it invalid, with a reason")
        nan = float("nan")
        object.__setattr__(self, "valid", valid)
        object.__setattr__(self, "values", self.values.float().masked_fill(~valid[:, None], nan))
        object.__setattr__(self, "overall", self.overall.float().masked_fill(~valid, nan))

    def __len__(self) -> int:
        return int(self.overall.shape[0])

    @classmethod
    def of(cls, values: Tensor, names: Sequence[str], overall: Tensor | None = None) -> Scores:
        """Scores that are all valid; overall is the mean over dimensions unless given."""
        total = values.float().mean(dim=1) if overall is None else overall
        valid = torch.ones(values.shape[0], dtype=torch.bool, device=values.device)
        return cls(values, tuple(names), total, valid, (None,) * values.shape[0])

    @classmethod
    def failed(cls, reasons: Sequence[str], names: Sequence[str]) -> Scores:
        """Scores of samples that could not be judged, one reason each."""
        num = len(reasons)
        valid = torch.zeros(num, dtype=torch.bool)
        return cls(torch.zeros(num, len(names)), tuple(names), torch.zeros(num), valid, tuple(reasons))

    @classmethod
    def cat(cls, parts: Sequence[Scores]) -> Scores:
        """Rows of several scores with the same dimensions, one after the other."""
        if not parts or any(part.names != parts[0].names for part in parts):
            raise ValueError(f"Scores.cat needs parts with one set of names, got {[p.names for p in parts]}")
        variance = _joined("log_variance", [part.log_variance for part in parts])
        fused = _joined("overall_log_variance", [part.overall_log_variance for part in parts])
        values, overall = torch.cat([p.values for p in parts]), torch.cat([p.overall for p in parts])
        valid, reasons = torch.cat([p.valid for p in parts]), tuple(r for p in parts for r in p.reasons)
        details = None
        if any(part.details is not None for part in parts):
            details = tuple(one for part in parts for one in part.details or (None,) * len(part))
        return cls(values, parts[0].names, overall, valid, reasons, variance, details, fused)

    def of_dimension(self, name: str) -> tuple[Tensor, Tensor | None]:
        """Scores and log variance (B,) of a dimension, or of overall where there is none of that name."""
        if name not in self.names:
            return self.overall, self.overall_log_variance
        column = self.names.index(name)
        return self.values[:, column], None if self.log_variance is None else self.log_variance[:, column]

    def select(self, index: Tensor | Sequence[int]) -> Scores:
        """The rows at integer positions `index`, in that order."""
        where = torch.as_tensor(index, dtype=torch.long, device=self.overall.device)
        variance, fused = self.log_variance, self.overall_log_variance
        reasons = tuple(self.reasons[i] for i in where.tolist())
        return replace(
            self,
            values=self.values[where],
            overall=self.overall[where],
            valid=self.valid[where],
            reasons=reasons,
            log_variance=None if variance is None else variance[where],
            details=None if self.details is None else tuple(self.details[i] for i in where.tolist()),
            overall_log_variance=None if fused is None else fused[where],
        )


def _joined(name: str, parts: Sequence[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    if len(known) not in (0, len(parts)):
        raise ValueError(f"either all parts of Scores.cat have {name} or none has")
    return torch.cat(known) if known else None


@runtime_checkable
class RewardModel(Protocol):
    """Anything that judges samples."""

    @property
    def name(self) -> str: ...

    @property
    def modalities(self) -> frozenset[Modality]: ...

    @property
    def dimensions(self) -> tuple[str, ...]: ...

    @property
    def differentiable(self) -> bool: ...

    def __call__(self, *, samples: Sequence[Sample]) -> Scores: ...


@dataclass(frozen=True, eq=False)
class PreferencePair:
    """The pair view of a comparison: per dimension the probability that `a` is the better one."""

    prompt: str
    a: Sample
    b: Sample
    labels: Mapping[str, float]  # p(a is better) in [0, 1], ties count half
    ties: Mapping[str, float] = field(default_factory=dict)  # the share of answers that say tie; True is all
    weight: float = 1.0
    group: str = ""
    tie_kinds: Mapping[str, str] = field(default_factory=dict)  # of ties: both "good" or both "bad"

    def swapped(self) -> PreferencePair:
        """The same judgement with the two samples exchanged."""
        return replace(self, a=self.b, b=self.a, labels={dim: 1.0 - p for dim, p in self.labels.items()})


@dataclass(frozen=True, eq=False)
class Loss:
    """What an objective returns: a loss per sample and scalars to log; the loop takes the mean."""

    per_sample: Tensor  # (B,)
    metrics: dict[str, Tensor] = field(default_factory=dict)
