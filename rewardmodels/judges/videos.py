"""Videos for the stock processors of judges: clips whose frames were chosen already.

Legend: T frames, C H W.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torchvision.transforms.functional import pil_to_tensor
from transformers import ProcessorMixin, Qwen3VLProcessor
from transformers.video_utils import VideoMetadata

from mmalign.media import to_pil
from rewardmodels.clips import Clip


def takes_videos(processor: ProcessorMixin) -> bool:
    """Whether it has a part for videos. That of Qwen3-VL is told to bound the pixels of each frame, as Qwen's own code
    does, and as later versions of transformers will.
    """
    part = getattr(processor, "video_processor", None)
    if part is not None and getattr(part, "cap_pixels_per_frame", True) is None:
        part.cap_pixels_per_frame = True
    return part is not None


def as_videos(clips: Sequence[Clip]) -> dict[str, Any]:
    """Clips as arguments of a processor: eight-bit frames (T, 3, H, W), and when each is shown."""
    return {
        "videos": [
            torch.stack([pil_to_tensor(to_pil(one.detach())) for one in clip.frames]) for clip in clips
        ],
        "video_metadata": [_told(clip) for clip in clips],
        "do_sample_frames": False,
    }


def _told(clip: Clip) -> VideoMetadata:
    """Places and length in seconds, as of a video of one frame a second: processors divide by the rate."""
    return VideoMetadata(
        total_num_frames=len(clip.times) * clip.step, fps=1.0, frames_indices=list(clip.times)
    )


def unframed(text: str, processor: ProcessorMixin) -> str:
    """A conversation as Qwen3-VL was trained on it: start and end stand around every temporal patch of a video, and not
    around the whole as well, where the processors of some versions of transformers leave them.
    """
    if not isinstance(processor, Qwen3VLProcessor):
        return text
    whole = f"{processor.vision_start_token}{processor.video_token}{processor.vision_end_token}"
    return text.replace(whole, processor.video_token)
