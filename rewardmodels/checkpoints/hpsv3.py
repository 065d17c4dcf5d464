"""HPSv3 (arXiv 2508.03789): Qwen2-VL-7B, one reward token, an MLP to mean and log standard deviation.

Layout: `HPSv3.safetensors`, the whole state dict under the names of older transformers, head `rm_head.0 .3 .5`.
The score is the mean, unbounded (about -10 to 15); every picture is scaled to 200704 pixels.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from rewardmodels.checkpoints.assemble import Parts, as_reward, state_and_head
from rewardmodels.checkpoints.files import read_base, read_states
from rewardmodels.checkpoints.keys import plain
from rewardmodels.clip.weights import locate
from rewardmodels.golden import verify
from rewardmodels.settings import RewardSettings
from rewardmodels.templates import REWARD_TOKEN
from rewardmodels.vlm import VlmReward

HUB, BASE, FILE = "MizzenAI/HPSv3", "Qwen/Qwen2-VL-7B-Instruct", "HPSv3.safetensors"


def load(
    *, path: str = HUB, base_config: str = BASE, template_file: str | None = None, pixels: int = 200704,
    golden: bool = False, batch_size: int = 8, device: str | torch.device = "cpu", dtype: str = "auto",
) -> VlmReward:  # fmt: skip
    """HPSv3 from a folder, file or hub id; configuration, tokenizer and pixel facts come from `base_config`.

    The prompt is in our words unless `template_file` holds the published one, with {media} and {prompt} in it:
    without it, scores are near the published ones but not theirs. Other `pixels` than 200704 give other scores.
    """
    place = locate(path, (FILE, "golden.json"))
    base = read_base(base_config, types=("qwen2_vl",))
    body, head = state_and_head(
        plain(read_states(place, (FILE, "model.safetensors"))), {"rm_head.": "score."}
    )
    settings = RewardSettings(
        "hpsv3",
        "hpsv3/1",
        "sequential",
        "gaussian",
        ("preference",),
        ("image",),
        head_options=sizes(head, "score"),
    )
    reward = as_reward(
        Parts(str(place), body, head, base), settings, video=None, tokens=(REWARD_TOKEN,),
        rule=replace(base.rule, min_pixels=pixels, max_pixels=pixels, eight_bit=True),
        template_file=template_file, batch_size=batch_size, device=device, dtype=dtype,
    )  # fmt: skip
    return verify(reward, place if place.is_dir() else place.parent) if golden else reward


def sizes(head: dict[str, torch.Tensor], prefix: str) -> dict[str, list[int]]:
    """The inner widths of a RankNet MLP (1024 and 16 as published)."""
    inner = [head.get(f"{prefix}.{layer}.weight") for layer in (0, 3)]
    found = [len(weight) for weight in inner if weight is not None]
    if len(found) != 2 or f"{prefix}.5.weight" not in head:
        raise ValueError(
            f"the reward head is no RankNet MLP (layers 0, 3, 5): it has {', '.join(sorted(head))}"
        )
    return {"hidden": found}
