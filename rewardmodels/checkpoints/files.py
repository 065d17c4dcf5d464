"""The files of a published checkpoint: found, read without running code, and the base model's facts beside them."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from rewardmodels.backbones import backbone_of
from rewardmodels.clip.weights import locate

FACTS = ("*.json", "*.txt", "*.jinja", "*.model")
PIXELS = "preprocessor_config.json"


@dataclass(frozen=True, eq=False)
class Base:
    """What is known of a VLM without its weights."""

    config: Any
    tokenizer: PreTrainedTokenizerBase
    pixels: Mapping[str, Any]
    folder: Path

    @property
    def rule(self) -> Any:
        """Its pixel rule."""
        return backbone_of(self.config.model_type).read_rule(self.pixels, self.config)


def read_base(base: str | Path, *, types: tuple[str, ...], tokenizer: Path | None = None) -> Base:
    """Configuration, tokenizer and pixel facts of a folder or hub id; ValueError if it is of another kind."""
    folder = locate(base, FACTS)
    for need in ("config.json", PIXELS):
        if not (folder / need).is_file():
            raise ValueError(
                f"{folder} holds no {need}: give the folder or hub id of the base model as base_config"
            )
    config = AutoConfig.from_pretrained(folder)
    if config.model_type not in types:
        raise ValueError(f"{base} is a {config.model_type}, this checkpoint stands on {' or '.join(types)}")
    words = AutoTokenizer.from_pretrained(tokenizer or folder)
    return Base(config, words, read_json(folder / PIXELS), folder)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object."""
    found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{file} must hold a JSON object")
    return found


def read_state(file: Path) -> dict[str, Tensor]:
    """Names and tensors of a safetensors or PyTorch file, out of the wrapping that trainers put around them."""
    if file.suffix == ".safetensors":
        return load_file(file)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{file} is not a plain file of tensors ({str(error).splitlines()[0][:120]})"
        ) from error
    for wrapper in ("model", "state_dict", "module"):
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"{file} holds more than named tensors: it is no state dict")
    return dict(found)


def read_states(place: Path, names: tuple[str, ...]) -> dict[str, Tensor]:
    """The weights at a file, or in a folder under the first of the names that is there, in one file or in shards."""
    if place.is_file():
        return read_state(place)
    for name in names:
        file = place / name
        index = place / f"{name}.index.json"
        if file.is_file():
            return read_state(file)
        if index.is_file():
            shards = sorted(set(read_json(index)["weight_map"].values()))
            return {key: value for shard in shards for key, value in read_state(place / shard).items()}
    raise ValueError(
        f"{place} holds none of {', '.join(names)}: give the folder of the published checkpoint as path"
    )
