"""CLIP's two towers behind one interface, from transformers or open_clip.

Detected by what lies at the path: a folder with a transformers `config.json` of a CLIPModel; a folder with
`open_clip_config.json`; or a file of open_clip names (the names of OpenAI's own checkpoints, too) with its
architecture said by name or by the path of an open_clip configuration.

Legend: N pictures or prompts, E embedding width, L tokens, S side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rewardmodels.clip import prompt_ids
from rewardmodels.clip.prompt_ids import PromptReader
from rewardmodels.clip.squares import SquareRule
from rewardmodels.clip.weights import find_file, load_strictly, locate, read_tensors
from rewardmodels.folders import PIXELS, plain_state, quiet

OPEN_CLIP_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "*.safetensors",
    "*.pt",
    "*.bin",
)
HF_FILES = ("*.json", "*.txt", "*.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Stack:
    """Where the weights of a tower lie, by the beginnings of their names: its blocks are numbered after `blocks`.

    What is neither in a block nor `before` them comes after.
    """

    inside: tuple[str, ...]
    blocks: str
    before: tuple[str, ...]


class Towers(Protocol):
    """Pictures and prompts in one space; embeddings are not normalised."""

    rule: SquareRule
    reader: PromptReader
    width: int

    def images(self, pictures: Tensor) -> Tensor:
        """(N, 3, S, S) normalised -> (N, E)."""

    def texts(self, prompts: Sequence[str]) -> Tensor:
        """N prompts -> (N, E)."""

    def scale(self) -> Tensor:
        """The learned factor of cosines, exp(logit_scale)."""


class OpenClipTowers(nn.Module):
    """An open_clip `CLIP` model."""

    model: Any
    stacks: ClassVar[Mapping[str, Stack]] = {
        "images": Stack(
            ("model.visual.",), "model.visual.transformer.resblocks.",
            ("model.visual.conv1.", "model.visual.class_embedding", "model.visual.positional_embedding",
             "model.visual.ln_pre."),
        ),
        "texts": Stack(
            ("model.transformer.", "model.token_embedding.", "model.positional_embedding", "model.ln_final.",
             "model.text_projection"),
            "model.transformer.resblocks.", ("model.token_embedding.", "model.positional_embedding"),
        ),
    }  # fmt: skip

    def __init__(self, model: Any, rule: SquareRule, reader: PromptReader, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.rule, self.reader, self.config = model, rule, reader, dict(config)
        self.width = int(config["embed_dim"])

    def images(self, pictures: Tensor) -> Tensor:
        weight = self.model.logit_scale
        return self.model.encode_image(pictures.to(weight.device, weight.dtype)).float()

    def texts(self, prompts: Sequence[str]) -> Tensor:
        ids, _ = self.reader(prompts)
        return self.model.encode_text(ids.to(self.model.logit_scale.device)).float()

    def scale(self) -> Tensor:
        return self.model.logit_scale.float().exp()

    def save(self, folder: Path) -> None:
        """Write an open_clip folder, which `load_towers` and open_clip read."""
        folder.mkdir(parents=True, exist_ok=True)
        record = {
            "model_cfg": self.config,
            "preprocess_cfg": {"mean": list(self.rule.mean), "std": list(self.rule.std)},
        }
        (folder / "open_clip_config.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        state = {name: item.detach().cpu().contiguous() for name, item in plain_state(self.model).items()}
        save_file(state, folder / OPEN_CLIP_FILES[0])


class HfTowers(nn.Module):
    """A transformers `CLIPModel`. Its pooled outputs are projected here, as `get_image_features` did before 5.0.

    `tokenizer` is kept to be saved again; without one the reader has CLIP's own vocabulary.
    """

    model: Any
    stacks: ClassVar[Mapping[str, Stack]] = {
        "images": Stack(
            ("model.vision_model.", "model.visual_projection."), "model.vision_model.encoder.layers.",
            ("model.vision_model.embeddings.", "model.vision_model.pre_layrnorm."),
        ),
        "texts": Stack(
            ("model.text_model.", "model.text_projection."), "model.text_model.encoder.layers.",
            ("model.text_model.embeddings.",),
        ),
    }  # fmt: skip

    def __init__(self, model: Any, rule: SquareRule, reader: PromptReader, tokenizer: Any = None) -> None:
        super().__init__()
        self.model, self.rule, self.reader, self.tokenizer = model, rule, reader, tokenizer
        self.width = int(model.config.projection_dim)

    def images(self, pictures: Tensor) -> Tensor:
        weight = self.model.logit_scale
        pooled = self.model.vision_model(pixel_values=pictures.to(weight.device, weight.dtype)).pooler_output
        return self.model.visual_projection(pooled).float()

    def texts(self, prompts: Sequence[str]) -> Tensor:
        ids, known = (item.to(self.model.logit_scale.device) for item in self.reader(prompts))
        pooled = self.model.text_model(input_ids=ids, attention_mask=known.long()).pooler_output
        return self.model.text_projection(pooled).float()

    def scale(self) -> Tensor:
        return self.model.logit_scale.float().exp()

    def save(self, folder: Path) -> None:
        """Write a folder as `save_pretrained` of model, tokenizer and image processor make it."""
        folder.mkdir(parents=True, exist_ok=True)
        with quiet():
            self.model.save_pretrained(folder, state_dict=plain_state(self.model))
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)
        side = self.rule.size
        record = {
            "image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": side},
            "resample": 3, "do_center_crop": True, "crop_size": {"height": side, "width": side},
            "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "do_convert_rgb": True,
            "image_mean": list(self.rule.mean), "image_std": list(self.rule.std),
        }  # fmt: skip
        (folder / PIXELS).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def load_towers(
    path: str | Path,
    *,
    architecture: str = "",
    inside: str | None = None,
    files: Sequence[str] = OPEN_CLIP_FILES,
    tokenizer: str | Path = "",
    rule: SquareRule | None = None,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
) -> OpenClipTowers | HfTowers:
    """The towers at `path`, frozen, in evaluation mode.

    `architecture` says that the file (found by `files`, tensors under the key `inside`) has open_clip names;
    `tokenizer` is the folder or hub id of the tokenizer where the model's own folder has none. `rule`, all but its
    side, goes before what the folder says of pictures. Raises ValueError for weights that do not fit.
    """
    made: OpenClipTowers | HfTowers
    kind = getattr(torch, dtype)
    if architecture:
        place = locate(path, files)
        tensors = read_tensors(find_file(place, files), inside=inside)
        made = _open_clip(_configuration(architecture), tensors, str(path), kind, rule)
    else:
        place = locate(path, (*HF_FILES, *OPEN_CLIP_FILES[:2]))
        if (place / "open_clip_config.json").is_file():
            made = _open_clip_folder(place, kind, rule)
        elif (place / "config.json").is_file():
            made = _hf_folder(place, tokenizer, kind, rule)
        else:
            raise ValueError(
                f"{path} has neither config.json nor open_clip_config.json: is it a CLIP model's folder?"
            )
    made.requires_grad_(False)
    return made.eval().to(device)


def _configuration(architecture: str) -> dict[str, Any]:
    """An open_clip model configuration, of a name that open_clip knows or of a JSON file."""
    from open_clip import factory

    if architecture.endswith(".json"):
        found: dict[str, Any] = json.loads(Path(architecture).read_text(encoding="utf-8"))
        return dict(found.get("model_cfg", found))
    known = factory.get_model_config(architecture)
    if known is None:
        raise ValueError(f"open_clip knows no architecture '{architecture}': see open_clip.list_models()")
    return dict(known)


def _open_clip(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    source: str,
    dtype: torch.dtype,
    rule: SquareRule | None,
) -> OpenClipTowers:
    from open_clip.model import CLIP

    with torch.device("meta"):  # no time is spent on random weights that are replaced at once
        model = CLIP(**config)
    plain = {name: item.to(dtype) if item.is_floating_point() else item for name, item in tensors.items()}
    # OpenAI's files also hold three plain numbers
    load_strictly(model, plain, source=source, unused=("input_resolution", "context_length", "vocab_size"))
    length = model.context_length
    model.attn_mask = torch.full((length, length), float("-inf"), dtype=dtype).triu_(1)
    rule = replace(rule or SquareRule(centre="round"), size=int(config["vision_cfg"]["image_size"]))
    return OpenClipTowers(model, rule, prompt_ids.from_open_clip(length=length), config)


def _open_clip_folder(place: Path, dtype: torch.dtype, rule: SquareRule | None) -> OpenClipTowers:
    record = json.loads((place / "open_clip_config.json").read_text(encoding="utf-8"))
    made = _open_clip(
        record["model_cfg"], read_tensors(find_file(place, OPEN_CLIP_FILES)), str(place), dtype, rule
    )
    said = record.get("preprocess_cfg", {})
    if rule is None and {"mean", "std"} <= set(said):
        made.rule = replace(made.rule, mean=tuple(said["mean"]), std=tuple(said["std"]))
    return made


def _hf_folder(place: Path, tokenizer: str | Path, dtype: torch.dtype, rule: SquareRule | None) -> HfTowers:
    from transformers import AutoTokenizer, CLIPModel

    with quiet():
        model, report = CLIPModel.from_pretrained(place, dtype=dtype, output_loading_info=True)
    wrong = {
        kind: sorted(map(str, report[kind]))[:3]
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
    }
    wrong["unexpected_keys"] = [
        name for name in wrong["unexpected_keys"] if not name.endswith("position_ids")
    ]
    told = {kind: names for kind, names in wrong.items() if names}
    if told:
        raise ValueError(f"{place}: the weights do not fit the model: {told}")
    length = int(model.config.text_config.max_position_embeddings)
    words = None
    if tokenizer or any((place / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        folder = locate(tokenizer, ("*.json", "*.txt")) if tokenizer else place
        words = AutoTokenizer.from_pretrained(folder)
        reader = prompt_ids.from_tokenizer(words, length=length)
    else:
        reader = prompt_ids.from_open_clip(length=length)
    rule = replace(rule or _hf_rule(place), size=int(model.config.vision_config.image_size))
    return HfTowers(model, rule, reader, words)


def _hf_rule(place: Path) -> SquareRule:
    """The mean and std of `preprocessor_config.json`; without one, CLIP's."""
    file = place / PIXELS
    if not file.is_file():
        return SquareRule()
    record = json.loads(file.read_text(encoding="utf-8"))
    return SquareRule(mean=tuple(record["image_mean"]), std=tuple(record["image_std"]))
