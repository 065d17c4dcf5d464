"""VideoReward (VideoAlign, arXiv 2501.13918): Qwen2-VL-2B, three reward tokens, one linear map.

Layouts: `model_config.json` with `checkpoint-*/model.pth`, a whole peft state dict; or in `checkpoint-*` the pair
`adapter_model.safetensors` and `non_lora_state_dict.pth`, for which the base model's weights are needed as well.
Positions count tokens one by one, as in its training. Scores are z-scores by its published constants.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rewardmodels.checkpoints.assemble import Parts, as_reward, state_and_head
from rewardmodels.checkpoints.files import read_base, read_json, read_state, read_states
from rewardmodels.checkpoints.keys import Adapter, adapted, merged, modern
from rewardmodels.clip.weights import locate
from rewardmodels.clips import VideoRule
from rewardmodels.golden import verify
from rewardmodels.lora_targets import require_all
from rewardmodels.settings import RewardSettings
from rewardmodels.templates import ASPECT_TOKENS
from rewardmodels.vlm import VlmReward

HUB, BASE = "KlingTeam/VideoReward", "Qwen/Qwen2-VL-2B-Instruct"
ADAPTER_CONFIG = "adapter_config.json"
FILES = ("model_config.json", "golden.json", "checkpoint-*/**")
DIMENSIONS = ("visual_quality", "motion_quality", "text_alignment")
MEAN, STD = (3.6757, 1.1646, 2.8105), (2.2476, 1.3811, 2.5121)


def load(
    *, path: str = HUB, base_config: str = BASE, template_file: str | None = None, fps: float | None = None,
    max_pixels: int | None = None, frame_rate: float | None = None, normalise: bool = True, golden: bool = False,
    batch_size: int = 8, device: str | torch.device = "cpu", dtype: str = "auto",
) -> VlmReward:  # fmt: skip
    """VideoReward from a folder or hub id; `base_config` gives configuration, pixel facts and, if needed, weights.

    The prompt is in our words unless `template_file` holds the published one, with {media} and {prompt} in it:
    without it, scores are near the published ones but not theirs. `fps` and `max_pixels` (of a frame) are those of
    its configuration unless given; `frame_rate` is that of the frames that a generator hands over (16 for Wan), of
    which all are read where it is not told. `normalise=False` gives raw scores. `golden=True` checks against
    golden.json.
    """
    folder = locate(path, FILES)
    step = last_step(folder)
    facts = read_json(found) if (found := _first(step, folder, "model_config.json")) else {}
    tokenizer = step / "tokenizer"
    base = read_base(base_config, types=("qwen2_vl",), tokenizer=tokenizer if tokenizer.is_dir() else None)
    state, num = _weights(step, facts, base_config)
    body, head = state_and_head(state, {"rm_head.": "score."})
    outputs = head["score.weight"].shape[0]
    if outputs not in (1, len(DIMENSIONS)):
        raise ValueError(f"{step}: a head of {outputs} outputs is not VideoReward's, which has 1 or 3")
    mean, std = _constants(facts) if normalise else ((0.0,) * 3, (1.0,) * 3)
    settings = RewardSettings(
        "videoreward", "videoreward/1", "sequential", "linear", DIMENSIONS, ("video",), mean, std,
        overall="sum", head_options={"shared": outputs == 1, "bias": False},
    )  # fmt: skip
    data = facts.get("data_config", {})
    video = VideoRule(
        fps or data.get("fps") or 2.0,
        max_pixels=max_pixels or data.get("max_frame_pixels") or 200704,
        always=True,
        frame_rate=frame_rate,
        from_files=True,
    )
    reward = as_reward(
        Parts(str(step), body, head, base, num), settings, rule=replace(base.rule, eight_bit=True), video=video,
        tokens=ASPECT_TOKENS, template_file=template_file, batch_size=batch_size, device=device, dtype=dtype,
    )  # fmt: skip
    return verify(reward, folder) if golden else reward


def last_step(folder: Path) -> Path:
    """The `checkpoint-*` with the highest number, or the folder itself if it is one."""
    steps = [item for item in folder.glob("checkpoint-*") if item.is_dir()]
    if (not steps and (folder / "model.pth").is_file()) or (folder / "adapter_model.safetensors").is_file():
        return folder
    if not steps:
        raise ValueError(
            f"{folder} holds no checkpoint-*/model.pth: give the folder of the VideoReward download"
        )
    return max(steps, key=lambda item: int("0" + re.sub(r"\D", "", item.name)))


def _first(step: Path, folder: Path, name: str) -> Path | None:
    return next((place / name for place in (folder, step, step.parent) if (place / name).is_file()), None)


def _weights(step: Path, facts: Mapping[str, Any], base: str) -> tuple[dict[str, Tensor], int]:
    """All weights under current names with adapters merged, and how many adapters there were."""
    adapter = _adapter(step, facts)
    if (step / "model.pth").is_file():
        return merged(read_state(step / "model.pth"), adapter)
    extra = step / "non_lora_state_dict.pth"
    if not extra.is_file():
        raise ValueError(f"{step} has an adapter but no non_lora_state_dict.pth, which holds its reward head")
    start = read_states(locate(base, ("*.safetensors", "*.safetensors.index.json")), ("model.safetensors",))
    state = {modern(name): value for name, value in start.items()}
    state |= {_inner(name): value for name, value in read_state(extra).items()}
    file = step / "adapter_model.safetensors"
    pairs = read_state(file)
    if (step / ADAPTER_CONFIG).is_file():
        maps = [modern(name).removesuffix(".weight") for name, value in start.items() if value.ndim == 2]
        require_all(file, read_json(step / ADAPTER_CONFIG), adapted(pairs), maps)
    return merged(state | pairs, adapter)


def _inner(name: str) -> str:
    return modern(name.replace(".modules_to_save.default", "").replace(".base_layer.", "."))


def _adapter(step: Path, facts: Mapping[str, Any]) -> Adapter | None:
    """The scale of the adapters, from adapter_config.json or the training's own configuration."""
    if (step / ADAPTER_CONFIG).is_file():
        found = read_json(step / ADAPTER_CONFIG)
        return Adapter(found["lora_alpha"], bool(found.get("use_rslora")))
    found = facts.get("peft_lora_config") or {}
    return Adapter(found["lora_alpha"], bool(found.get("use_rslora"))) if "lora_alpha" in found else None


def _constants(facts: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and standard deviations of VQ, MQ and TA."""
    found = facts.get("inference_config")
    if not found:
        return MEAN, STD
    names: Sequence[str] = ("VQ", "MQ", "TA")
    return tuple(found[f"{n}_mean"] for n in names), tuple(found[f"{n}_std"] for n in names)
