"""A CLIP- or BLIP-type reward that can be trained, saved and loaded again: a scorer and its settings.

Folder layout: `reward_config.json` beside the files of the published layout, which other code reads too:

    logit, cosine   a folder of a CLIPModel (PickScore) or of open_clip (HPSv2, Social Reward)
    head            `head.safetensors` with `layers.N.weight`, and the towers in `clip/`       (LAION)
    blip            `ImageReward.safetensors` with `blip.*` and `mlp.*`, and `tokenizer/`      (ImageReward)

Scores are normalised by the settings; the published loaders of the same files give them before normalisation.

Legend: B samples, T frames, N pictures, P distinct pictures, U distinct prompts, L looks, S side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmalign.types import Sample, Scores
from rewardmodels.calibrated import CalibratedReward
from rewardmodels.clip import prompt_ids
from rewardmodels.clip.embedding_head import read_chain
from rewardmodels.clip.frames import FrameReward, LongPrompts, unique
from rewardmodels.clip.image_reward import build, num_tokens_of
from rewardmodels.clip.scorers import (
    BLIP_FILE,
    CLIP_FOLDER,
    HEAD_FILE,
    TOKENIZER_FOLDER,
    BlipHead,
    EmbeddingHead,
    Scorer,
    Similarity,
)
from rewardmodels.clip.settings import ClipSettings
from rewardmodels.clip.squares import SquareRule, square
from rewardmodels.clip.towers import load_towers
from rewardmodels.clip.weights import aligned, read_tensors
from rewardmodels.folders import CONFIG


@dataclass(frozen=True, eq=False)
class Looks:
    """P distinct pictures and U distinct prompts, and which of them each look is of; a sample has a look a frame."""

    pictures: Tensor  # (P, 3, S, S)
    prompts: list[str]
    picture: Tensor  # (L,)
    prompt: Tensor  # (L,)
    sample: Tensor  # (L,)


Squares = dict[object, Tensor]
"""Squared frames (T, 3, S, S) of media by path, or by the id() of a tensor."""


def squared(
    sample: Sample, rule: SquareRule, device: str | torch.device, known: Squares
) -> tuple[object, Tensor]:
    """The frames of a sample, decoded and squared unless they are `known`, and their key there."""
    key = id(sample.media) if isinstance(sample.media, Tensor) else sample.media
    if key not in known:
        known[key] = square(sample.frames().to(device), rule)
    return key, known[key]


def looks_of(
    samples: Sequence[Sample],
    rule: SquareRule,
    device: str | torch.device = "cpu",
    known: Squares | None = None,
) -> Looks:
    """Every picture decoded and squared once, every prompt read once, however many samples share them."""
    known = {} if known is None else known
    places: dict[object, range] = {}
    found: list[Tensor] = []
    frames, num = [], 0
    for sample in samples:
        key, pictures = squared(sample, rule, device, known)
        if key not in places:
            found.append(pictures)
            places[key] = range(num, num + len(pictures))
            num += len(pictures)
        frames.append(places[key])
    prompts, row = unique([sample.prompt for sample in samples])
    counts = torch.tensor([len(part) for part in frames])
    return Looks(
        torch.cat(found), prompts, torch.tensor([k for part in frames for k in part]),
        row.repeat_interleave(counts), torch.arange(len(samples)).repeat_interleave(counts),
    )  # fmt: skip


class ClipReward(CalibratedReward):
    """Call it with `samples=`; training reads `values(looks)`."""

    settings: ClipSettings

    def __init__(
        self, scorer: nn.Module, settings: ClipSettings, *, batch_size: int = 32,
        long_prompts: LongPrompts = "truncate",
    ) -> None:  # fmt: skip
        super().__init__()
        self.scorer: Scorer = scorer  # type: ignore[assignment]
        self.settings = settings
        self.batch_size, self.long_prompts = batch_size, long_prompts

    def values(self, looks: Looks) -> Tensor:
        """Values (B,) before scale and normalisation: cosines, or what the head says; a video's is its frames' mean."""
        each = self.scorer.values(looks.pictures, looks.prompts, looks.picture, looks.prompt)
        sample = looks.sample.to(each.device)
        counts = torch.bincount(sample).to(each.dtype)
        return torch.zeros_like(counts).index_add(0, sample, each) / counts

    def forward(self, *, samples: Sequence[Sample]) -> Scores:
        """Normalised scores; gradients are kept if some sample's media asks for them."""
        reader, prefix = self.scorer.reader, self.settings.prefix
        judge = FrameReward(
            self.name, self.dimensions, self.modalities, self._look, self.scorer.rule, self.batch_size, self.device,
            is_long=None if reader is None else lambda prompt: reader.is_long(prefix + prompt),
            long_prompts=self.long_prompts,
        )  # fmt: skip
        wanted = any(isinstance(s.media, Tensor) and s.media.requires_grad for s in samples)
        with torch.set_grad_enabled(wanted and torch.is_grad_enabled()):
            return judge(samples=samples)

    def _look(self, pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        different, row = unique(prompts)
        raw = self.scorer.values(pictures, different, torch.arange(len(prompts)), row)
        if self.settings.score == "logit":
            raw = raw * self.scorer.scale()
        return ((raw - self.settings.mean[0]) / self.settings.std[0])[:, None]

    def save(self, folder: str | Path) -> Path:
        """Write the layout above; `rewardmodels.load(folder)` gives the same scores."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        self.scorer.save(target)
        replace(self.settings, pictures=asdict(self.scorer.rule)).save(target / CONFIG)
        return target


def load_folder(
    path: str | Path, *, batch_size: int = 32, device: str | torch.device = "cpu", dtype: str = "float32",
    long_prompts: LongPrompts = "truncate",
) -> ClipReward:  # fmt: skip
    """What `ClipReward.save` wrote; missing or unexpected weights are errors. Weights are frozen."""
    folder = Path(path)
    settings = ClipSettings.read(folder / CONFIG)
    scorer: nn.Module
    if settings.score == "blip":
        scorer = blip_scorer(folder / BLIP_FILE, folder / TOKENIZER_FOLDER, dtype)
    else:
        headed = settings.score == "head"
        said: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in settings.pictures.items()
        }
        rule = SquareRule(**said)
        towers = load_towers(folder / CLIP_FOLDER if headed else folder, rule=rule, dtype=dtype)
        scorer = Similarity(towers, settings.prefix)
        if headed:
            source = folder / HEAD_FILE
            chain = read_chain(read_tensors(source), activation=settings.activation, source=str(source))  # type: ignore[arg-type]
            scorer = EmbeddingHead(towers, chain)
    reward = ClipReward(scorer, settings, batch_size=batch_size, long_prompts=long_prompts)
    aligned(reward)
    reward.requires_grad_(False)
    return reward.eval().to(device)


def blip_scorer(file: Path, tokenizer: str | Path, dtype: str = "float32") -> BlipHead:
    """The scorer of a file in ImageReward's layout and of BERT's tokenizer, a folder or hub id."""
    from transformers import AutoTokenizer

    blip, chain = build(read_tensors(file), source=str(file), dtype=getattr(torch, dtype))
    words = AutoTokenizer.from_pretrained(tokenizer)
    reader = prompt_ids.from_tokenizer(words, length=num_tokens_of(blip))
    return BlipHead(blip, chain.float(), reader, words)
