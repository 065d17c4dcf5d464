"""Rewards that are rules, not networks: the exact judge of the shapes world, and JPEG size.

Legend: B samples, D dimensions.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from mmalign.media import to_pil
from mmalign.shapes import verify
from mmalign.types import Modality, Sample, Scores
from rewardmodels.batching import Prepared, score

KILOBYTES_PER_POINT = 500.0
"""flow_grpo's scale of JPEG compressibility."""


@dataclass(frozen=True)
class ShapesVerifier:
    """The exact judge: pixels and prompt in; `overall` is the graded score, or 1 and 0 for passed and failed."""

    score: Literal["graded", "passed"] = "graded"
    batch_size: int = 256
    name: str = "shapes-verifier"
    modalities: frozenset[Modality] = frozenset({"image"})
    dimensions: tuple[str, ...] = ("instruction_following", "visual_quality", "overall")
    differentiable: bool = False

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """A prompt outside the shapes world, or a picture that is not square, is NaN with the reason."""
        return score(
            samples, self._judge, names=self.dimensions, modalities=self.modalities,
            batch_size=self.batch_size, overall=lambda values: values[:, 2],
        )  # fmt: skip

    def passes(self, *, samples: Sequence[Sample]) -> list[bool | None]:
        """Whether each picture is right; None where that cannot be judged."""
        scores = replace(self, score="passed")(samples=samples)
        return [None if math.isnan(value) else value == 1.0 for value in scores.overall.tolist()]

    def _judge(self, batch: Sequence[Prepared]) -> Tensor:
        verdict = verify(torch.stack([one.frames[0] for one in batch]), [one.prompt for one in batch])
        overall = verdict.passed.float() if self.score == "passed" else verdict.overall
        return torch.stack([verdict.instruction_following, verdict.visual_quality, overall.float()], 1)


def shapes_verifier(
    *, score: Literal["graded", "passed"] = "graded", batch_size: int = 256
) -> ShapesVerifier:
    """The judge of the shapes world; `score` says what `overall` is."""
    if score not in ("graded", "passed"):
        raise ValueError(f"option score of shapes-verifier must be 'graded' or 'passed', got {score!r}")
    return ShapesVerifier(score, batch_size)


@dataclass(frozen=True)
class JpegSize:
    """Kilobytes of the (first) frame as JPEG, over 500, with a sign: -1 rewards small files, 1 large ones."""

    name: str
    sign: int
    quality: int = 95
    modalities: frozenset[Modality] = frozenset({"image", "edit"})
    differentiable: bool = False

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The one dimension, named after the direction."""
        return (self.name.removeprefix("jpeg-"),)

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """One number a sample; the prompt does not matter."""
        return score(samples, self._judge, names=self.dimensions, modalities=self.modalities, batch_size=64)

    def _judge(self, batch: Sequence[Prepared]) -> Tensor:
        return torch.tensor(
            [[self.sign * self.kilobytes(one.frames[0]) / KILOBYTES_PER_POINT] for one in batch]
        )

    def kilobytes(self, image: Tensor) -> float:
        """Size of (3, H, W) in [0, 1] as JPEG, in units of 1000 bytes."""
        buffer = io.BytesIO()
        to_pil(image.detach().cpu().clamp(0, 1)).save(buffer, format="JPEG", quality=self.quality)
        return buffer.tell() / 1000.0


def jpeg(*, sign: int, quality: int = 95) -> JpegSize:
    """JPEG compressibility (sign -1) or incompressibility (sign 1) at a quality from 1 to 95."""
    if not 1 <= quality <= 95:
        raise ValueError(f"option quality must be from 1 to 95, got {quality}")
    return JpegSize("jpeg-compressibility" if sign < 0 else "jpeg-incompressibility", sign, quality)
