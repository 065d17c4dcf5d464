"""VEFX-Reward: Qwen3-VL, three reward tokens, ordered levels 1 to 4 by CORN, for edits of videos.

Layout: `vefx_config.json` with `model.safetensors` or shards, `rm_head.weight` (3, W) among them, tokenizer and
configuration beside them. Positions have three axes, as in its training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from rewardmodels.checkpoints.assemble import Parts, as_reward, state_and_head
from rewardmodels.checkpoints.files import FACTS, read_base, read_json, read_states
from rewardmodels.checkpoints.keys import plain
from rewardmodels.clip.weights import locate
from rewardmodels.clips import VideoRule
from rewardmodels.golden import verify
from rewardmodels.settings import RewardSettings
from rewardmodels.templates import ASPECT_TOKENS, LEVEL_TOKENS
from rewardmodels.vlm import VlmReward

HUB = "xiangbog/VEFX-Reward-4B"
DIMENSIONS = ("instruction_following", "rendering_quality", "edit_exclusivity")
GEO_AGG = (2.0, 1.0, 1.0)
"""The paper's exponents of the dimensions."""


def load(
    *, path: str = HUB, base_config: str = "", template_file: str | None = None, fps: float = 4.0,
    max_pixels: int = 399360, frame_rate: float | None = None,
    overall: Literal["sum", "mean", "min", "product"] = "sum", powers: Sequence[float] = GEO_AGG, golden: bool = False,
    batch_size: int = 1, device: str | torch.device = "cpu", dtype: str = "auto",
) -> VlmReward:  # fmt: skip
    """VEFX-Reward from a folder or hub id, which brings its own configuration unless `base_config` is given.

    The prompt is in our words unless `template_file` holds the published one, with {source}, {media} and {prompt} in
    it: without it, scores are near the published ones but not theirs. `overall` is the sum, as in the published code;
    `product` is the paper's GeoAgg, (IF^2 RQ EE)^(1/4) in [1, 4], and with powers (1, 1, 1) the plain geometric mean,
    (IF RQ EE)^(1/3). `frame_rate` is that of the frames that a generator hands over. Frames are first scaled to
    multiples of 28 pixels, as its own reader does.
    """
    place = locate(path, (*FACTS, "*.safetensors"))
    if not (place / "vefx_config.json").is_file():
        raise ValueError(f"{place} holds no vefx_config.json: give the folder of the VEFX-Reward download")
    facts = read_json(place / "vefx_config.json")
    if not facts.get("use_ordinal", True):
        raise ValueError(f"{place}: only the ordinal form of VEFX-Reward is published and read")
    levels = int(facts.get("num_classes", 4))
    base = read_base(base_config or place, types=("qwen3_vl",))
    body, head = state_and_head(plain(read_states(place, ("model.safetensors",))), {"rm_head.": "score."})
    settings = RewardSettings(
        "vefx-reward", "vefx/1", "mrope", "corn", DIMENSIONS, ("edit",), (0.0,) * 3, (1.0,) * 3, overall=overall,
        overall_powers=tuple(map(float, powers)) if overall == "product" else (),
        head_options={"num_levels": levels, "tokens": True, "bias": False},
    )  # fmt: skip
    reward = as_reward(
        Parts(str(place), body, head, base), settings, tokens=(*ASPECT_TOKENS, *LEVEL_TOKENS),
        rule=replace(base.rule, eight_bit=True, first_unit=28), template_file=template_file,
        video=VideoRule(fps, max_pixels=max_pixels, always=True, frame_rate=frame_rate, from_files=True),
        batch_size=batch_size, device=device, dtype=dtype,
    )  # fmt: skip
    return verify(reward, place) if golden else reward
