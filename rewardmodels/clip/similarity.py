"""Rewards that are the similarity of picture and prompt in a CLIP space: CLIPScore, PickScore, HPSv2, Social Reward.

Sources: CLIPScore, Hessel et al. 2021 (2104.08718, eq. 1); PickScore, Kirstain et al. 2023 (2305.01569, eq. 2);
HPSv2, Wu et al. 2023 (2306.09341); Social Reward, Isajanyan et al. 2024 (2402.09872).

Legend: N pictures, E embedding width, S side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rewardmodels.clip.frames import FrameReward, LongPrompts, unique
from rewardmodels.clip.squares import SquareRule
from rewardmodels.clip.towers import Towers, load_towers

Form = Literal["cosine", "clipscore", "logit"]

CLIPSCORE_WEIGHT = 2.5
HPS_FILES = {"2.0": "HPS_v2_compressed.pt", "2.1": "HPS_v2.1_compressed.pt"}
HPS_RULE = SquareRule(shape="pad", eight_bit=False)
"""HPSv2 turns pictures into tensors before it resizes them, so nothing is rounded or clamped."""


def similarity(towers: Towers, pictures: Tensor, prompts: Sequence[str], form: Form) -> Tensor:
    """Pictures (N, 3, S, S) and N prompts -> (N,).

    `cosine` in [-1, 1]; `clipscore` 2.5 max(cosine, 0), without a gradient below 0; `logit` exp(logit_scale) cosine.
    """
    different, row = unique(prompts)
    images = F.normalize(towers.images(pictures), dim=-1)
    texts = F.normalize(towers.texts(different), dim=-1)
    cosine = (images * texts[row.to(texts.device)]).sum(-1)
    if form == "clipscore":
        return CLIPSCORE_WEIGHT * cosine.clamp_min(0.0)
    return cosine * towers.scale() if form == "logit" else cosine


def _reward(
    name: str, towers: Towers, form: Form, batch_size: int, device: str | torch.device, long_prompts: LongPrompts,
    prefix: str = "",
) -> FrameReward:  # fmt: skip
    if form not in ("cosine", "clipscore", "logit"):
        raise ValueError(f"option form must be 'cosine', 'clipscore' or 'logit', got {form!r}")

    def look(pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        return similarity(towers, pictures, [prefix + prompt for prompt in prompts], form)[:, None]

    return FrameReward(
        name, ("alignment",), frozenset({"image", "video"}), look, towers.rule, batch_size, device,
        is_long=lambda prompt: towers.reader.is_long(prefix + prompt), long_prompts=long_prompts,
    )  # fmt: skip


def clip_score(
    *,
    path: str = "openai/clip-vit-large-patch14",
    form: Form = "cosine",
    prefix: str = "",
    architecture: str = "",
    tokenizer: str = "",
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    long_prompts: LongPrompts = "truncate",
) -> FrameReward:
    """CLIPScore by any CLIP: a transformers or open_clip folder or hub id, or a file with its `architecture`.

    The paper's score is `form` clipscore with `prefix` "A photo depicts "; cosine is what RL code optimises, because
    it has a gradient everywhere.
    """
    towers = load_towers(path, architecture=architecture, tokenizer=tokenizer, device=device, dtype=dtype)
    return _reward("clip-score", towers, form, batch_size, device, long_prompts, prefix)


def pick_score(
    *,
    path: str = "yuvalkirstain/PickScore_v1",
    tokenizer: str = "",
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    long_prompts: LongPrompts = "truncate",
) -> FrameReward:
    """PickScore: exp(logit_scale) times the cosine of a CLIPModel folder or hub id; about 17 to 24.

    Without `tokenizer` the folder's own is used, or CLIP's vocabulary where the folder has none.
    """
    towers = load_towers(path, tokenizer=tokenizer, device=device, dtype=dtype)
    return _reward("pickscore", towers, "logit", batch_size, device, long_prompts)


def hps(
    *,
    version: Literal["2.0", "2.1"],
    path: str = "xswu/HPSv2",
    architecture: str = "ViT-H-14",
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    long_prompts: LongPrompts = "truncate",
) -> FrameReward:
    """HPSv2 or HPSv2.1: the cosine of a finetuned ViT-H-14; the two versions are not comparable with each other.

    Of a folder or hub id the version's own file is taken. Pictures are padded to a square, never cropped.
    """
    towers = load_towers(
        path, architecture=architecture, inside="state_dict", files=(HPS_FILES[version],), device=device, dtype=dtype,
        rule=HPS_RULE,
    )  # fmt: skip
    name = "hpsv2" if version == "2.0" else "hpsv2.1"
    return _reward(name, towers, "cosine", batch_size, device, long_prompts)


def social_reward(
    *,
    path: str = "",
    architecture: str = "ViT-L-14-quickgelu",
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    long_prompts: LongPrompts = "truncate",
) -> FrameReward:
    """Social Reward: the cosine of OpenAI's ViT-L/14 finetuned on what people liked in a community; `path` its file."""
    towers = load_towers(
        path, architecture=architecture, files=("*.pt", "*.pth", "*.safetensors"), device=device, dtype=dtype
    )
    return _reward("social-reward", towers, "cosine", batch_size, device, long_prompts)
