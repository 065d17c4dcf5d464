"""VLM families that a reward model may stand on: one small file each, found by `model_type`.

qwen2_vl, qwen2_5_vl, qwen3_vl   patches of any size, video, three positions a token
idefics3, smolvlm                 square tiles with a thumbnail; SmolVLM reads videos
internvl                          square tiles; videos as numbered frames
llava_onevision                   tiles by aspect ratio, pooled video frames
"""

from __future__ import annotations

from rewardmodels.backbones.base import Backbone
from rewardmodels.backbones.idefics import IDEFICS3, SMOLVLM
from rewardmodels.backbones.internvl import INTERNVL
from rewardmodels.backbones.llava import LLAVA_ONEVISION
from rewardmodels.backbones.qwen import QWEN2, QWEN3, QWEN25

__all__ = ["BACKBONES", "Backbone", "backbone_of"]

BACKBONES: tuple[Backbone, ...] = (QWEN2, QWEN25, QWEN3, IDEFICS3, SMOLVLM, INTERNVL, LLAVA_ONEVISION)


def backbone_of(model_type: str) -> Backbone:
    """The record of a `model_type`; ValueError lists those there are."""
    for backbone in BACKBONES:
        if model_type in backbone.model_types:
            return backbone
    known = ", ".join(name for backbone in BACKBONES for name in backbone.model_types)
    raise ValueError(f"no VLM backbone of type '{model_type}': use one of {known}")
