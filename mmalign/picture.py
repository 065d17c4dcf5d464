"""One picture from its file: opened with care, scaled down if it is huge, as RGB in [0, 1]. See `mmalign.media`.

Shape legend: `T` frames, `C H W` colour planes and pixels.
"""

from __future__ import annotations

import math
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""What Pillow is asked to try; its JPEG includes the multi-picture files of cameras."""
MAX_PIXELS = 2**26
"""Largest picture read, 67 million pixels: 8192 x 8192."""
KEPT_PIXELS = 2**24
"""Most pixels kept of a picture, 17 million: 4096 x 4096."""

BROKEN = (
    OSError,
    SyntaxError,
    EOFError,
    ValueError,
    TypeError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise on damaged data."""


def read(file: Path | BytesIO, name: str, max_pixels: int) -> Tensor:
    """(1, 3, H, W) in [0, 1] of a file that holds one picture; `name` is how errors call it."""
    pixels = _decoded(file, name, max_pixels)  # whose file, before it was scaled down, no longer takes memory
    return from_pil(pixels, name)


def _decoded(file: Path | BytesIO, name: str, max_pixels: int) -> Image.Image:
    """The pixels, decoded here so that damage is noticed here."""
    with open_image(file, name, max_pixels) as image:
        frames = count_frames(image, name)
        if frames > 1:
            raise ValueError(
                f"{name} is an animated or multi-page picture of {frames} frames: save the frame you mean as PNG, or "
                "convert it to MP4 to have it read as a video"
            )
        try:
            size = _kept_size(*image.size)
            if size != image.size:
                image.draft(None, size)  # JPEG decodes at half, a quarter, an eighth by itself
            image.load()
            return ImageOps.exif_transpose(image if size == image.size else _smaller(image, size))
        except BROKEN as problem:
            raise ValueError(
                f"{name} is damaged or cut short ({problem}); fetch or export it again"
            ) from problem


def _kept_size(width: int, height: int) -> tuple[int, int]:
    """The size of a picture within `KEPT_PIXELS`, its shape kept.

    >>> _kept_size(640, 480), _kept_size(20_000, 3_000)
    ((640, 480), (10575, 1586))
    """
    scale = math.sqrt(KEPT_PIXELS / (width * height))
    if scale >= 1.0:
        return width, height
    if height < width:
        kept = max(1, int(height * scale))
        return min(int(width * scale), KEPT_PIXELS // kept), kept
    kept = max(1, int(width * scale))
    return kept, min(int(height * scale), KEPT_PIXELS // kept)


def _smaller(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scaled down, every pixel counting, in a kind whose values may be averaged and never beyond their range."""
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image.info.pop("transparency", None)
    elif image.mode == "1":
        image = image.convert("L")
    exif = image.getexif()
    made = image.resize(size, Image.Resampling.HAMMING)
    made.getexif().update(exif)
    return made


def from_pil(image: Image.Image, name: str = "the picture") -> Tensor:
    """(1, 3, H, W) in [0, 1] from any Pillow image; `name` is how errors call it."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image, name)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return to_tensor(np.asarray(image.convert("RGB"))[None])


def _deep_grey(image: Image.Image, name: str) -> Tensor:
    """16-bit, 32-bit and floating-point grey as RGB."""
    grey = np.asarray(image).astype(np.float32)
    if image.mode != "F":
        grey = grey / 65535.0
    if not np.isfinite(grey).all() or grey.min() < 0.0 or grey.max() > 1.0:
        raise ValueError(f"{name} holds grey values outside the range of its kind; export it as 8-bit PNG")
    return torch.from_numpy(grey)[None, None].repeat(1, 3, 1, 1)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """(T, H, W, 3) uint8 to (T, 3, H, W) float32, no copy of the whole in between."""
    num_frames, height, width, planes = pixels.shape
    made = torch.empty(num_frames, planes, height, width)
    for frame, shown in zip(made, pixels, strict=True):
        frame.copy_(torch.tensor(shown).permute(2, 0, 1))
    return made.div_(255.0)


def open_image(file: Path | BytesIO, name: str, max_pixels: int | None) -> Image.Image:
    """The header of a picture, its size within bounds."""
    try:
        image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as problem:
        raise ValueError(
            f"{name} has far more than the {(max_pixels or MAX_PIXELS) / 1e6:.3g} million pixels read: scale it down"
        ) from problem
    except UnidentifiedImageError as problem:  # whose words repeat the name, or where the bytes lie in memory
        raise ValueError(
            f"{name} is damaged or not a picture (of no known format); export it again as PNG"
        ) from problem
    except BROKEN as problem:
        raise ValueError(
            f"{name} is damaged or not a picture ({problem}); export it again as PNG"
        ) from problem
    width, height = image.size
    if max_pixels is not None and width * height > max_pixels:
        image.close()
        raise ValueError(
            f"{name} has {width} x {height} pixels, more than the {max_pixels / 1e6:.3g} million read: scale it down"
        )
    return image


def count_frames(image: Image.Image, name: str) -> int:
    """Frames of an animation, pages of a document; the further pictures of a camera's JPEG do not count."""
    try:
        return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
    except BROKEN as problem:
        raise ValueError(f"{name} is damaged or cut short ({problem}); fetch or export it again") from problem


def exif_of(image: Image.Image, name: str) -> Image.Exif:
    """What the camera noted; a PNG may have it behind the pixels, which are then decoded."""
    try:
        return image.getexif()
    except BROKEN as problem:
        raise ValueError(f"{name} is damaged or cut short ({problem}); fetch or export it again") from problem
