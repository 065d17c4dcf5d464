"""One reader and one writer for images and videos, and nothing quietly guessed in between.

Shape legend: `T` frames, `C H W` colour planes and pixels. Everything read is (T, 3, H, W) float32 in [0, 1], RGB; an
image is T = 1. Everything written is the same, or (3, H, W).

What is done to a file (`mmalign.picture`, `mmalign.video`), so that every reward sees the same pixels:

- the EXIF orientation of photographs and the display rotation of videos are applied;
- transparency is laid over white;
- CMYK, palette, grey and 16-bit pictures become RGB (16 bit keeps its precision where Pillow keeps it: grey);
- embedded colour profiles are not applied;
- a GIF is a video; any other animated picture (WebP, APNG, multi-page TIFF) is refused, because which frame was
  meant is not for us to guess (of a camera's multi-picture JPEG the first is the photograph, and is read);
- only the formats of `FORMATS` are tried, whatever the file is called, so that no file reaches a decoder that runs
  other programs;
- a picture of more than `MAX_PIXELS` pixels is refused before a single one is decoded;
- a picture of more than `KEPT_PIXELS` pixels is scaled down to so many, which is more than any reward looks at: as
  float32 the largest picture would else be 0.8 GB, several times over in a reward.

What cannot be read is a `ValueError` that names the file and the mend.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePath
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmalign import picture, video
from mmalign.picture import BROKEN, MAX_PIXELS, count_frames, exif_of, from_pil, open_image, to_tensor

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".jfif"})
VIDEO_SUFFIXES = frozenset({".mp4", ".webm", ".mov", ".avi", ".mkv", ".m4v", ".gif"})


@dataclass(frozen=True)
class Info:
    """What the header of a media file says."""

    kind: Literal["image", "video"]
    width: int
    height: int
    num_frames: int
    fps: float | None


def is_video(path: PurePath | str) -> bool:
    """Whether the name is a video's."""
    return PurePath(path).suffix.lower() in VIDEO_SUFFIXES


def is_media(path: Path | str) -> bool:
    """Whether the name is an image's or a video's."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def read(path: Path | str, *, fps: float | None = None, max_frames: int | None = None) -> Tensor:
    """Frames (T, 3, H, W) in [0, 1]. `fps` samples a video in time, `max_frames` then thins it evenly."""
    file = _existing(path)
    if file.suffix.lower() == ".gif":
        return _read_gif(file, fps, max_frames)
    if is_video(file):
        return to_tensor(video.decode(file, fps=fps, max_frames=max_frames))
    return picture.read(file, str(file), MAX_PIXELS)


def read_bytes(data: bytes, *, name: str = "the picture", max_pixels: int = MAX_PIXELS) -> Tensor:
    """A picture (1, 3, H, W) in [0, 1] from the bytes of its file, as `read` would; `name` is how errors call it."""
    return picture.read(BytesIO(data), name, max_pixels)


def probe_bytes(data: bytes, *, name: str = "the picture") -> Info:
    """Size (as stored) and number of frames of a picture or GIF from the header in its bytes; decodes nothing."""
    with open_image(BytesIO(data), name, None) as image:
        kind: Literal["image", "video"] = "video" if image.format == "GIF" else "image"
        return Info(kind, *image.size, count_frames(image, name), None)


def probe(path: Path | str) -> Info:
    """Size and length from the header, without decoding all of it."""
    file = _existing(path)
    if is_video(file) and file.suffix.lower() != ".gif":
        index = video.index(file)
        return Info("video", index.width, index.height, len(index.times), index.fps)
    with open_image(file, str(file), MAX_PIXELS) as image:
        # Pillow reports TIFFs as turned already
        turned = image.format != "TIFF" and exif_of(image, str(file)).get(0x0112, 1) in (5, 6, 7, 8)
        width, height = reversed(image.size) if turned else image.size
        num_frames = count_frames(image, str(file))
        return Info("video" if is_video(file) else "image", width, height, num_frames, None)


def num_pixels(path: Path | str) -> int:
    """Width times height of a picture by its header; 0 where it cannot be read or is too large to be."""
    try:
        with open_image(Path(path), str(path), MAX_PIXELS) as image:
            return image.width * image.height
    except ValueError:
        return 0


def to_pil(frame: Tensor) -> Image.Image:
    """An 8-bit Pillow image from (3, H, W) or (1, 3, H, W) in [0, 1]."""
    return Image.fromarray(_to_bytes(frame, "a frame")[0])


def write(path: Path | str, frames: Tensor, *, fps: float = 8.0, quality: int = 95) -> Path:
    """Writes (3, H, W) or (T, 3, H, W) in [0, 1] as PNG, JPEG, WebP or MP4, chosen by suffix. Appears whole or not."""
    file = Path(path)
    pixels = _to_bytes(frames, str(file))
    suffix = file.suffix.lower()
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    if suffix not in formats and suffix != ".mp4":
        raise ValueError(
            f"{file}: cannot write {suffix or 'a file without a suffix'}; use .png, .jpg, .webp or .mp4"
        )
    if suffix in formats and pixels.shape[0] != 1:
        raise ValueError(f"{file}: {pixels.shape[0]} frames do not fit in a picture; name it .mp4")
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        if suffix == ".mp4":
            video.encode(partial, pixels, fps=fps)
        else:
            Image.fromarray(pixels[0]).save(partial, format=formats[suffix], quality=quality)
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    return file


def find(folder: Path | str, *, kinds: Sequence[str] = ("image", "video")) -> list[Path]:
    """Media files below a folder, sorted by name; hidden files are left out, links to nowhere are not."""
    wanted = (IMAGE_SUFFIXES if "image" in kinds else set()) | (VIDEO_SUFFIXES if "video" in kinds else set())
    root = Path(folder)
    named = (file for file in root.rglob("*") if file.suffix.lower() in wanted)
    found = (file for file in named if file.is_file() or not file.exists())
    return sorted(file for file in found if not any(p.startswith(".") for p in file.relative_to(root).parts))


def _existing(path: Path | str) -> Path:
    file = Path(path)
    try:
        there, astray = file.is_file(), file.is_symlink()
    except (OSError, ValueError):  # a name that no file can have: too long, or with a zero byte
        there = astray = False
    if not there:
        nowhere = f": it is a link to {os.readlink(file)}, which is not there" if astray else ""
        raise ValueError(f"{file}: no such file{nowhere}")
    if not is_media(file):
        known = " ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
        raise ValueError(f"{file}: not a media file by its name; known are {known}")
    if file.stat().st_size == 0:
        raise ValueError(f"{file} is empty (0 bytes): fetch or export it again")
    return file


def _read_gif(file: Path, fps: float | None, max_frames: int | None) -> Tensor:
    """All chosen frames of a GIF, each at its own time, transparency over white."""
    with open_image(file, str(file), MAX_PIXELS) as image:
        try:
            times, clock = [], 0.0
            for position in range(getattr(image, "n_frames", 1)):
                image.seek(position)
                times.append(clock)
                clock += max(int(image.info.get("duration", 100)), 10) / 1000.0
            chosen = video.choose(times, fps=fps, max_frames=max_frames, end=clock)
            video.check_size(file, len(set(chosen)), image.height, image.width)
            frames = []
            for position in chosen:
                image.seek(position)
                frames.append(from_pil(image.convert("RGBA")))
        except BROKEN as problem:
            raise ValueError(f"{file} could not be read as a GIF ({problem})") from problem
    return torch.cat(frames)


def _to_bytes(frames: Tensor, name: str) -> np.ndarray:
    """(T, H, W, 3) uint8 from (3, H, W) or (T, 3, H, W) in [0, 1]."""
    if frames.ndim == 3:
        frames = frames[None]
    if frames.ndim != 4 or frames.shape[1] != 3 or 0 in frames.shape:
        raise ValueError(f"{name}: expected (3, H, W) or (T, 3, H, W), got {tuple(frames.shape)}")
    values = frames.detach().to("cpu", torch.float32)
    if not bool(torch.isfinite(values).all()):
        raise ValueError(
            f"{name}: the picture holds NaN or infinite values; lower the guidance or learning rate"
        )
    low, high = float(values.min()), float(values.max())
    if low < -1e-3 or high > 1.0 + 1e-3:
        raise ValueError(
            f"{name}: pixels lie in [{low:.3g}, {high:.3g}] and must lie in [0, 1]; divide or clamp first"
        )
    array = values.clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    return np.asarray(array)
