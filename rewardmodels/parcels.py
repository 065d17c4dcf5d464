"""Samples as they travel to a server: each packed with its files, and what must be judged together in one parcel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from mmalign.types import Sample
from rewardmodels.blobs import PART, Blob
from rewardmodels.blobs import pack as as_files


@dataclass(frozen=True, eq=False)
class Packed:
    """A sample: its row of the request and its files by name."""

    row: dict[str, Any]
    files: list[tuple[str, Blob]]

    @property
    def size(self) -> int:
        """Bytes, about."""
        return sum(len(blob.data) + 300 for _, blob in self.files) + len(json.dumps(self.row))


@dataclass(frozen=True, eq=False)
class Parcel:
    """Samples that travel in one request: each packed, or why it cannot be."""

    contents: Sequence[Packed | str]

    @property
    def packed(self) -> list[Packed]:
        """Those that travel."""
        return [one for one in self.contents if isinstance(one, Packed)]

    @property
    def reasons(self) -> list[str | None]:
        """Of each sample; None for those that travel."""
        return [one if isinstance(one, str) else None for one in self.contents]

    @property
    def num_files(self) -> int:
        """Of all that travel."""
        return sum(len(one.files) for one in self.packed)

    @property
    def size(self) -> int:
        """Bytes, about."""
        return sum(one.size for one in self.packed)


def off_device(sample: Sample) -> Sample:
    """The sample with pixels off the accelerator, so that the thread that sends never touches it."""
    media, source = sample.media, sample.source
    return replace(
        sample,
        media=media.detach().cpu() if isinstance(media, Tensor) else media,
        source=source.detach().cpu() if isinstance(source, Tensor) else source,
    )


def pack(samples: Sequence[Sample], number: int) -> Parcel:
    """What must be judged together; names of files are numbered from `number`."""
    return Parcel([_packed(sample, number + k) for k, sample in enumerate(samples)])


def _packed(sample: Sample, number: int) -> Packed | str:
    files: list[tuple[str, Blob]] = []
    row: dict[str, Any] = {"prompt": sample.prompt, "id": sample.id, "metadata": dict(sample.metadata)}
    try:
        for key, pixels in (("media", sample.media), ("source", sample.source)):
            if pixels is None:
                continue
            blobs = as_files(pixels)
            names = [f"{number}-{key}-{k}" for k in range(len(blobs))]
            files += list(zip(names, blobs, strict=True))
            texts = [f"{PART}{name}" for name in names]
            row[key] = texts if len(texts) > 1 else texts[0]
        if not isinstance(sample.prompt, str):
            raise ValueError(f"the prompt must be text, got {type(sample.prompt).__name__}")
        json.dumps(row, allow_nan=False)
    except (ValueError, TypeError, OSError) as problem:
        return f"cannot be sent: {' '.join(str(problem).split())}"
    return Packed(row, files)
