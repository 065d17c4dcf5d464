"""What looks at pictures under prompts and can be trained and saved: towers alone, a head on them, or BLIP with a head.

Each scorer has an `encoder` with two stacks (pictures, prompts) and maybe a `head`, gives values before any
normalisation, and writes the files of its published layout.

Legend: P distinct pictures, U distinct prompts, L looks (a picture under a prompt), E embedding width, S side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from rewardmodels.clip.embedding_head import Chain
from rewardmodels.clip.image_reward import Blip, judgements, side_of
from rewardmodels.clip.prompt_ids import PromptReader
from rewardmodels.clip.squares import SquareRule
from rewardmodels.clip.towers import HfTowers, OpenClipTowers
from rewardmodels.folders import plain_state

HEAD_FILE, CLIP_FOLDER = "head.safetensors", "clip"
BLIP_FILE, TOKENIZER_FOLDER = "ImageReward.safetensors", "tokenizer"


class Scorer(Protocol):
    """Values of looks; `scale` is the learned factor that a loss on differences puts on them, 1 where there is none."""

    encoder: nn.Module
    head: Chain | None
    rule: SquareRule
    reader: PromptReader | None

    def values(self, pictures: Tensor, prompts: Sequence[str], picture: Tensor, prompt: Tensor) -> Tensor:
        """Pictures (P, 3, S, S), U prompts, and which of them each look is of (L,), (L,) -> (L,)."""

    def scale(self) -> Tensor: ...

    def save(self, folder: Path) -> None: ...


class Similarity(nn.Module):
    """The cosine of picture and prompt; `prefix` goes before every prompt."""

    head: Chain | None = None
    encoder: Any

    def __init__(self, towers: HfTowers | OpenClipTowers, prefix: str = "") -> None:
        super().__init__()
        self.encoder, self.prefix = towers, prefix
        self.rule, self.reader = towers.rule, towers.reader

    def values(self, pictures: Tensor, prompts: Sequence[str], picture: Tensor, prompt: Tensor) -> Tensor:
        images = F.normalize(self.encoder.images(pictures), dim=-1)
        texts = F.normalize(self.encoder.texts([self.prefix + text for text in prompts]), dim=-1)
        return (images[picture.to(images.device)] * texts[prompt.to(texts.device)]).sum(-1)

    def scale(self) -> Tensor:
        return self.encoder.scale()

    def save(self, folder: Path) -> None:
        self.encoder.save(folder)


class EmbeddingHead(nn.Module):
    """A chain on the embedding of a picture, of length 1, or on that of the picture followed by the prompt's."""

    head: Chain
    encoder: Any

    def __init__(self, towers: HfTowers | OpenClipTowers, head: Chain) -> None:
        super().__init__()
        self.encoder, self.head, self.rule = towers, head, towers.rule
        reads = next(iter(head.layers.values())).in_features
        if reads not in (towers.width, 2 * towers.width):
            raise ValueError(
                f"the head reads {reads} numbers, the CLIP model gives {towers.width} for a picture: they belong "
                "to different models"
            )
        self.reader = towers.reader if reads == 2 * towers.width else None

    def values(self, pictures: Tensor, prompts: Sequence[str], picture: Tensor, prompt: Tensor) -> Tensor:
        seen = F.normalize(self.encoder.images(pictures), dim=-1)
        picture = picture.to(seen.device)
        if self.reader is None:
            return self.head(seen)[picture, 0]
        texts = F.normalize(self.encoder.texts(prompts), dim=-1)
        return self.head(torch.cat([seen[picture], texts[prompt.to(texts.device)]], -1))[:, 0]

    def scale(self) -> Tensor:
        return torch.ones((), device=next(self.head.parameters()).device)

    def save(self, folder: Path) -> None:
        self.encoder.save(folder / CLIP_FOLDER)
        save_file(_plain(self.head), folder / HEAD_FILE)


class BlipHead(nn.Module):
    """A chain on the first token of BLIP's text encoder, which looks at the picture."""

    head: Chain

    def __init__(self, blip: Blip, head: Chain, reader: PromptReader, tokenizer: Any) -> None:
        super().__init__()
        self.encoder, self.head, self.reader, self.tokenizer = blip, head, reader, tokenizer
        self.rule = SquareRule(size=side_of(blip), centre="round")

    def values(self, pictures: Tensor, prompts: Sequence[str], picture: Tensor, prompt: Tensor) -> Tensor:
        texts = [prompts[k] for k in prompt.tolist()]
        return judgements(self.encoder, self.head, self.reader, pictures, texts, picture)[:, 0]

    def scale(self) -> Tensor:
        return torch.ones((), device=self.encoder.visual_encoder.cls_token.device)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        parts = {"blip": _plain(self.encoder), "mlp": _plain(self.head)}
        save_file(
            {f"{part}.{name}": item for part, tensors in parts.items() for name, item in tensors.items()},
            folder / BLIP_FILE,
        )
        self.tokenizer.save_pretrained(folder / TOKENIZER_FOLDER)


def _plain(module: nn.Module) -> dict[str, Tensor]:
    return {name: item.detach().cpu().contiguous() for name, item in plain_state(module).items()}
