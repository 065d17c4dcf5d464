"""Media inside a page: data URIs, so that reports and demos need no second file and no network.

Shapes: media is (T, C, H, W) or (C, H, W) in [0, 1]; an image has T = 1.
"""

from __future__ import annotations

import base64
import io

from PIL import Image
from torch import Tensor

from mmalign.media import to_pil

FRAME_MILLISECONDS = 125


def images(media: Tensor) -> list[Image.Image]:
    """Every frame of `media` as a Pillow image; values outside [0, 1] are clipped."""
    frames = media.unsqueeze(0) if media.ndim == 3 else media
    if frames.ndim != 4 or frames.shape[1] != 3:
        raise ValueError(f"media must be (T, 3, H, W) or (3, H, W), not {tuple(media.shape)}")
    return [to_pil(frame) for frame in frames.detach().float().clamp(0, 1)]


def data_uri(media: Tensor) -> str:
    """`media` as a PNG, animated when there is more than one frame."""
    first, *rest = images(media)
    buffer = io.BytesIO()
    if rest:
        first.save(buffer, "PNG", save_all=True, append_images=rest, duration=FRAME_MILLISECONDS, loop=0)
    else:
        first.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
