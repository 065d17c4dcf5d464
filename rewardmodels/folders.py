"""What lies beside the weights in a reward model's folder: names, and how the files are read and written.

Legend: no tensors but those of a state dict.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_log

from rewardmodels.backbones import backbone_of
from rewardmodels.clips import VideoRule
from rewardmodels.inputs import InputBuilder
from rewardmodels.settings import RewardSettings
from rewardmodels.templates import TEMPLATES, Template

HEAD, CONFIG, PIXELS = "reward_head.safetensors", "reward_config.json", "preprocessor_config.json"
VIDEO = "reward_video.json"


def plain_state(vlm: nn.Module) -> dict[str, Tensor]:
    """The state of a merged model under the names of its stock class, without adapters."""
    return {
        name.replace(".base_layer.", "."): value
        for name, value in vlm.state_dict().items()
        if "lora_" not in name
    }


def templates_of(settings: RewardSettings) -> list[Template]:
    """The templates a model was trained with, in the order of its forward passes."""
    names = (settings.template, *settings.more_templates)
    for name in names:
        if name not in TEMPLATES:
            raise ValueError(f"template '{name}' is unknown: use one of {sorted(TEMPLATES)}")
    return [TEMPLATES[name] for name in names]


def check_placeholder(vlm: PreTrainedModel, builder: InputBuilder) -> None:
    """ValueError if model and tokenizer disagree about the placeholder of a picture."""
    name = builder.backbone.image_token
    ours, theirs = builder.tokenizer.convert_tokens_to_ids(name), vlm.config.image_token_id
    if ours != theirs:
        raise ValueError(
            f"{name} is token {ours} of the tokenizer and {theirs} of the model: take both from one folder"
        )


def pixels_record(builder: InputBuilder) -> dict[str, Any]:
    """The pixel rule as a stock `preprocessor_config.json`."""
    return {
        "image_processor_type": builder.backbone.processor, "do_resize": True, "do_rescale": True,
        "do_normalize": True, "do_convert_rgb": True, "rescale_factor": 1 / 255, "resample": 3,
        **builder.backbone.write_rule(builder.rule),
    }  # fmt: skip


def read_pixels(folder: Path, config: Any) -> Any:
    """The pixel rule in a folder's `preprocessor_config.json`, for the backbone of `config`."""
    record = json.loads((folder / PIXELS).read_text(encoding="utf-8"))
    return backbone_of(config.model_type).read_rule(record, config)


def read_video(folder: Path) -> VideoRule:
    """The video rule that was saved; the default where a folder has none."""
    path = folder / VIDEO
    return VideoRule(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else VideoRule()


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, transformers draws no loading bars."""
    shown = transformers_log.is_progress_bar_enabled()
    transformers_log.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_log.enable_progress_bar()
