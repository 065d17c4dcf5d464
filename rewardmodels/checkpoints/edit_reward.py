"""EditReward (arXiv 2509.26346): Qwen2.5-VL or MiMo-VL, two prompts, a Gaussian head for each.

Layout: `model.safetensors` (or shards) or `model.pth`, heads `rm_heads.head_0` (following) and `.head_1` (quality).

Differences from the published interface: it returns the fused mean and the fused log standard deviation, which are
often taken for the two aspects. Here each aspect has its own mean and variance, and `overall` is the fused mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from rewardmodels.checkpoints.assemble import Parts, as_reward, state_and_head
from rewardmodels.checkpoints.files import read_base, read_states
from rewardmodels.checkpoints.hpsv3 import sizes
from rewardmodels.checkpoints.keys import plain
from rewardmodels.clip.weights import locate
from rewardmodels.golden import verify
from rewardmodels.settings import RewardSettings
from rewardmodels.templates import REWARD_TOKEN
from rewardmodels.vlm import VlmReward

HUB = "TIGER-Lab/EditReward-MiMo-VL-7B-SFT-2508"
BASE = "XiaomiMiMo/MiMo-VL-7B-SFT-2508"
FILES = ("model.safetensors", "model.pth")
DIMENSIONS = ("instruction_following", "visual_quality")


def load(
    *, path: str = HUB, base_config: str = BASE, template_file: str | Sequence[str] | None = None,
    pixels: int = 200704, fusion: Literal["mean", "min", "sum"] = "mean", golden: bool = False, batch_size: int = 8,
    device: str | torch.device = "cpu", dtype: str = "auto",
) -> VlmReward:  # fmt: skip
    """EditReward from a folder or hub id; configuration, tokenizer and pixel facts come from `base_config`.

    The prompts are in our words unless `template_file` names two files with the published ones (following, quality),
    each with {source}, {media} and {prompt} in it: without them, scores are near the published ones but not theirs.
    A Qwen3-VL base is read with its own three positions a token, the others with plain ones, as each was trained.
    """
    place = locate(path, (*FILES, "model*.safetensors", "model.safetensors.index.json", "golden.json"))
    base = read_base(base_config, types=("qwen2_5_vl", "qwen3_vl"))
    names = {"rm_heads.head_0.": "heads.0.score.", "rm_heads.head_1.": "heads.1.score."}
    body, head = state_and_head(plain(read_states(place, FILES)), names)
    settings = RewardSettings(
        "editreward", "editreward-following/1", "mrope" if base.config.model_type == "qwen3_vl" else "sequential",
        "fused", DIMENSIONS, ("edit",), (0.0, 0.0), (1.0, 1.0), overall=fusion,
        more_templates=("editreward-quality/1",), head_options=sizes(head, "heads.0.score"),
    )  # fmt: skip
    reward = as_reward(
        Parts(str(place), body, head, base), settings, video=None, tokens=(REWARD_TOKEN,),
        rule=replace(base.rule, min_pixels=pixels, max_pixels=pixels, eight_bit=True),
        template_file=template_file, batch_size=batch_size, device=device, dtype=dtype,
    )  # fmt: skip
    return verify(reward, place if place.is_dir() else place.parent) if golden else reward
