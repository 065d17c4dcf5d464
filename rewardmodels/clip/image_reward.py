"""ImageReward: what people prefer, from BLIP's text encoder looking at the picture (Xu et al. 2023, 2304.05977).

Published as `ImageReward.pt`: `blip.visual_encoder.*`, `blip.text_encoder.*` and `mlp.layers.*`, beside BLIP's two
projections for contrastive training, which no score uses. The head on the first token is linear throughout; the
score is standardised with the mean and standard deviation of the paper's test set.

Legend: N pictures, S side, L = 35 tokens, V picture width, W text width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from rewardmodels.clip import prompt_ids
from rewardmodels.clip.blip import HEAD_WIDTH, PictureEncoder, TextEncoder
from rewardmodels.clip.embedding_head import Chain, read_chain
from rewardmodels.clip.frames import FrameReward, LongPrompts
from rewardmodels.clip.prompt_ids import PromptReader
from rewardmodels.clip.squares import SquareRule
from rewardmodels.clip.towers import Stack
from rewardmodels.clip.weights import find_file, load_strictly, locate, read_tensors

MEAN, STD = 0.16717362830052426, 1.0333394966054072
NUM_TOKENS = 35
UNUSED = ("text_encoder.embeddings.position_ids", "vision_proj.*", "text_proj.*")
FILES = ("ImageReward.pt", "ImageReward.safetensors", "*.pt", "*.safetensors")


class Blip(nn.Module):
    """The two encoders under their published names."""

    stacks: ClassVar[Mapping[str, Stack]] = {
        "images": Stack(
            ("visual_encoder.",), "visual_encoder.blocks.",
            ("visual_encoder.cls_token", "visual_encoder.pos_embed", "visual_encoder.patch_embed."),
        ),
        "texts": Stack(("text_encoder.",), "text_encoder.encoder.layer.", ("text_encoder.embeddings.",)),
    }  # fmt: skip

    def __init__(self, visual_encoder: PictureEncoder, text_encoder: TextEncoder) -> None:
        super().__init__()
        self.visual_encoder = visual_encoder
        self.text_encoder = text_encoder


def build(tensors: Mapping[str, Tensor], *, source: str, dtype: torch.dtype) -> tuple[Blip, Chain]:
    """Encoders and head of a state dict, their sizes read off its shapes; every weight must find its place."""
    parts: dict[str, dict[str, Tensor]] = {"blip": {}, "mlp": {}}
    for name, item in tensors.items():
        part, _, rest = name.partition(".")
        if part not in parts:
            raise ValueError(f"{source} has a weight {name}: this is not an ImageReward checkpoint")
        parts[part][rest] = item.to(dtype) if item.is_floating_point() else item
    weights = parts["blip"]
    lacking = [name for name in _SIZED if name not in weights]
    if lacking:
        raise ValueError(f"{source} has no blip.{lacking[0]}: this is not an ImageReward checkpoint")
    with torch.device("meta"):
        model = Blip(_picture_encoder(weights), _text_encoder(weights))
    load_strictly(model, weights, source=source, unused=UNUSED)
    return model, read_chain(parts["mlp"], activation="none", source=source)


_PATCH = "visual_encoder.patch_embed.proj.weight"
_WORDS = "text_encoder.embeddings.word_embeddings.weight"
_POSITIONS = "text_encoder.embeddings.position_embeddings.weight"
_PLACES = "visual_encoder.pos_embed"
_INNER = "visual_encoder.blocks.0.mlp.fc1.weight"
_TEXT_INNER = "text_encoder.encoder.layer.0.intermediate.dense.weight"
_SIZED = (_PATCH, _WORDS, _POSITIONS, _PLACES, _INNER, _TEXT_INNER)
"""The weights whose shapes say how large the encoders are."""


def _num_layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    return 1 + max(
        int(name.removeprefix(prefix).split(".")[0]) for name in weights if name.startswith(prefix)
    )


def _width(width: int) -> int:
    if width % HEAD_WIDTH:
        raise ValueError(
            f"a width of {width} is no multiple of {HEAD_WIDTH}, the width of BLIP's attention heads"
        )
    return width


def _picture_encoder(weights: Mapping[str, Tensor]) -> PictureEncoder:
    width, _, patch, _ = weights[_PATCH].shape
    return PictureEncoder(
        width=_width(width), patch=patch, num_positions=weights[_PLACES].shape[1],
        inner=weights[_INNER].shape[0],
        num_layers=_num_layers(weights, "visual_encoder.blocks."),
    )  # fmt: skip


def _text_encoder(weights: Mapping[str, Tensor]) -> TextEncoder:
    num_words, width = weights[_WORDS].shape
    return TextEncoder(
        num_words=num_words, num_positions=weights[_POSITIONS].shape[0], width=_width(width),
        inner=weights[_TEXT_INNER].shape[0],
        num_layers=_num_layers(weights, "text_encoder.encoder.layer."), picture_width=weights[_PATCH].shape[0],
    )  # fmt: skip


def side_of(model: Blip) -> int:
    """The side of the pictures that the encoder reads."""
    encoder = model.visual_encoder
    return round((encoder.pos_embed.shape[1] - 1) ** 0.5) * encoder.patch_embed.proj.stride[0]


def num_tokens_of(model: Blip) -> int:
    """How many tokens of a prompt are read: 35, or as many as a smaller encoder has positions."""
    return min(NUM_TOKENS, model.text_encoder.embeddings.position_embeddings.num_embeddings)


def judgements(
    model: Blip, chain: Chain, reader: PromptReader, pictures: Tensor, prompts: Sequence[str],
    row: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Pictures (N, 3, S, S) and M prompts -> scores (M, 1) before standardisation; prompt m is of picture `row[m]`."""
    weight = model.visual_encoder.cls_token
    patches = model.visual_encoder(pictures.to(weight.device, weight.dtype))
    patches = patches if row is None else patches[row.to(weight.device)]
    ids, known = (item.to(weight.device) for item in reader(prompts))
    return chain(model.text_encoder(ids, known, patches)[:, 0].float())


def standardised(
    model: Blip, chain: Chain, reader: PromptReader, pictures: Tensor, prompts: Sequence[str]
) -> Tensor:
    """Pictures (N, 3, S, S) and N prompts -> scores (N, 1)."""
    return (judgements(model, chain, reader, pictures, prompts) - MEAN) / STD


def image_reward(
    *,
    path: str = "THUDM/ImageReward",
    tokenizer: str = "google-bert/bert-base-uncased",
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    long_prompts: LongPrompts = "truncate",
) -> FrameReward:
    """ImageReward of a file, folder or hub id; `tokenizer` is BERT's, as a folder or hub id. About -2.5 to 2."""
    from transformers import AutoTokenizer

    file = find_file(locate(path, FILES), FILES)
    model, chain = build(read_tensors(file), source=str(file), dtype=getattr(torch, dtype))
    model.requires_grad_(False).eval().to(device)
    chain.float().to(device)
    place: Path = locate(
        tokenizer, ("tokenizer*.json", "vocab.txt", "special_tokens_map.json", "config.json")
    )
    reader = prompt_ids.from_tokenizer(AutoTokenizer.from_pretrained(place), length=num_tokens_of(model))
    side = side_of(model)

    def look(pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        return standardised(model, chain, reader, pictures, prompts)

    return FrameReward(
        "image-reward", ("preference",), frozenset({"image", "video"}), look, SquareRule(size=side, centre="round"),
        batch_size, device, is_long=reader.is_long, long_prompts=long_prompts,
    )  # fmt: skip
