"""Rewards that are a small network on CLIP embeddings: the LAION aesthetic predictor, and heads on picture and prompt.

A head is a file of `layers.N.weight` and `layers.N.bias`, the layout of Schuhmann's improved-aesthetic-predictor: a
chain of linear layers in the order of N. Its first layer says what it reads: as wide as the embedding, the picture
alone; twice as wide, the picture's embedding followed by the prompt's. Embeddings have length 1 before they are read.

Legend: N pictures, E embedding width, S side.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmalign.types import Modality
from rewardmodels.clip.frames import FrameReward, LongPrompts, unique
from rewardmodels.clip.towers import Towers, load_towers
from rewardmodels.clip.weights import find_file, load_strictly, locate, read_tensors

Activation = Literal["none", "relu", "gelu", "silu", "tanh"]
ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "none": nn.Identity, "relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh,
}  # fmt: skip
HEAD_FILES = ("*.safetensors", "*.pth", "*.pt")
OPENAI_L = "openai/clip-vit-large-patch14"
_LAYER = re.compile(r"layers\.(\d+)\.weight")


class Chain(nn.Module):
    """Linear layers under their published numbers, an activation between them.

    Where a number is missing there is dropout in training, as in the published chains.
    """

    def __init__(
        self, shapes: Mapping[int, tuple[int, int]], activation: Activation, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({str(k): nn.Linear(wide, out) for k, (out, wide) in shapes.items()})
        self.between = ACTIVATIONS[activation]()
        self.dropped = frozenset(k for k, number in enumerate(shapes) if number + 1 not in shapes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, embeddings: Tensor) -> Tensor:
        """(N, width of the first layer) -> (N, width of the last)."""
        last = len(self.layers) - 1
        for k, layer in enumerate(self.layers.values()):
            embeddings = layer(embeddings)
            if k < last:
                embeddings = self.between(embeddings)
                embeddings = self.dropout(embeddings) if k in self.dropped else embeddings
        return embeddings


def new_chain(wide: int, widths: Sequence[int], activation: Activation, *, dropout: float = 0.0) -> Chain:
    """A chain through `widths` to one number, with random weights and LAION's numbers: 0, 2, 4, 6, 7 for five layers.

    >>> list(new_chain(8, (6, 4, 3, 2), "none").layers)
    ['0', '2', '4', '6', '7']
    """
    sizes = [wide, *widths, 1]
    numbers = [2 * k for k in range(len(widths))]
    numbers.append(numbers[-1] + 1 if numbers else 0)
    shapes = {k: (out, into) for k, (into, out) in zip(numbers, itertools.pairwise(sizes), strict=True)}
    return Chain(shapes, activation, dropout=dropout)


def read_chain(tensors: Mapping[str, Tensor], *, activation: Activation, source: str) -> Chain:
    """The chain of a state dict; ValueError if names or widths do not make one with a single output."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"option activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    numbers = sorted(int(match[1]) for name in tensors if (match := _LAYER.fullmatch(name)))
    shapes = {k: tensors[f"layers.{k}.weight"].shape for k in numbers}
    widths = [shapes[k] for k in numbers]
    if not widths or widths[-1][0] != 1 or any(a[0] != b[1] for a, b in itertools.pairwise(widths)):
        raise ValueError(f"{source} holds no chain of layers.N.weight that ends in one number")
    chain = Chain({k: (int(out), int(wide)) for k, (out, wide) in shapes.items()}, activation)
    load_strictly(chain, {name: item.float() for name, item in tensors.items()}, source=source)
    chain.requires_grad_(False)
    return chain.eval()


def _reward(
    name: str, dimension: str, towers: Towers, chain: Chain, batch_size: int, device: str | torch.device,
    long_prompts: LongPrompts,
) -> FrameReward:  # fmt: skip
    width = next(iter(chain.layers.values())).in_features
    if width not in (towers.width, 2 * towers.width):
        raise ValueError(
            f"the head of {name} reads {width} numbers, the CLIP model gives {towers.width} for a picture: give the "
            "CLIP model that the head was trained on, as option clip"
        )
    reads_prompt = width == 2 * towers.width

    def look(pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        seen = F.normalize(towers.images(pictures), dim=-1)
        if reads_prompt:
            different, row = unique(prompts)
            texts = F.normalize(towers.texts(different), dim=-1)
            seen = torch.cat([seen, texts[row.to(texts.device)]], -1)
        return chain(seen)

    modalities: frozenset[Modality] = frozenset(
        {"image", "video"} if reads_prompt else {"image", "edit", "video"}
    )
    return FrameReward(
        name, (dimension,), modalities, look, towers.rule, batch_size, device,
        is_long=towers.reader.is_long if reads_prompt else None, long_prompts=long_prompts,
    )  # fmt: skip


def _load(
    name: str, dimension: str, path: str, clip: str, architecture: str, activation: Activation, batch_size: int,
    device: str | torch.device, dtype: str, long_prompts: LongPrompts,
) -> FrameReward:  # fmt: skip
    file = find_file(locate(path, HEAD_FILES), HEAD_FILES)
    chain = read_chain(read_tensors(file), activation=activation, source=str(file)).to(device)
    towers = load_towers(clip, architecture=architecture, device=device, dtype=dtype)
    return _reward(name, dimension, towers, chain, batch_size, device, long_prompts)


def laion_aesthetic(
    *,
    path: str = "",
    clip: str = OPENAI_L,
    architecture: str = "",
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
) -> FrameReward:
    """The LAION aesthetic predictor: `path` is `sac+logos+ava1-l14-linearMSE.pth`, `clip` OpenAI's ViT-L/14.

    It has no activations, so it is linear; the prompt does not matter. About 1 to 10.
    """
    return _load(
        "laion-aesthetic",
        "aesthetics",
        path,
        clip,
        architecture,
        "none",
        batch_size,
        device,
        dtype,
        "truncate",
    )


def clip_head(
    *,
    path: str = "",
    clip: str = OPENAI_L,
    architecture: str = "",
    activation: Activation = "relu",
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    long_prompts: LongPrompts = "truncate",
) -> FrameReward:
    """Any head in the layout of this module, on picture or picture and prompt, of any CLIP model."""
    return _load(
        "clip-head", "score", path, clip, architecture, activation, batch_size, device, dtype, long_prompts
    )
