"""New CLIP- and BLIP-type rewards of every score, small enough for tests, with pictures and pairs."""

from __future__ import annotations

import torch

from mmalign.types import PreferencePair, Sample
from rewardmodels.clip.recipe import ClipModel
from rewardmodels.clip.starts import start
from rewardmodels.clip.trained import ClipReward
from rewardmodels.losses import RATINGS

WORDS = ["a", "red", "blue", "circle", "square"]

SMALL = {
    "width": 64,
    "embedding": 16,
    "heads": 2,
    "image_layers": 2,
    "text_layers": 2,
    "image_size": 16,
    "tokens": 8,
}

BOTH = {"reads": "picture-prompt", "activation": "relu"}
HEAD = {"widths": (8, 4), "dropout": 0.1}
MODELS = {
    "logit": {"score": "logit", "scratch": SMALL},
    "cosine": {"score": "cosine", "scratch": SMALL, "squares": "pad", "prefix": "a "},
    "head": {"score": "head", "scratch": SMALL, "head": HEAD, "texts": "frozen"},
    "picture-prompt": {"score": "head", "scratch": SMALL, "head": {**HEAD, **BOTH}},
    "blip": {"score": "blip", "scratch": SMALL, "head": HEAD},
}  # fmt: skip


def model_of(**fields: object) -> ClipModel:
    return ClipModel.model_validate({"name": "mine", **fields}, strict=False)


def made(kind: str, **more: object) -> ClipReward:
    return start(model_of(**(MODELS[kind] | more)), WORDS, dimension="overall")


def samples(num: int = 6) -> list[Sample]:
    """Red and blue pictures, every second prompt the wrong one."""
    draws = torch.Generator().manual_seed(0)
    found = []
    for k in range(num):
        image = 0.2 * torch.rand(3, 20 if k % 3 else 16, 16, generator=draws)
        image[0 if k % 2 else 2] += 0.7
        found.append(
            Sample(
                "a red circle" if k % 4 < 2 else "a blue square",
                image,
                metadata={RATINGS: {"overall": k % 3}},
            )
        )
    return found


def colour_pairs(num: int = 8) -> list[PreferencePair]:
    """A red and a blue picture under one prompt; the one with the prompt's colour is better, one in four is a tie."""
    pairs = []
    for k in range(num):
        red, blue = torch.zeros(3, 16, 16), torch.zeros(3, 16, 16)
        red[0], blue[2] = 0.5 + 0.05 * k, 0.5 + 0.05 * k
        prompt = "a red circle" if k % 2 else "a blue square"
        label = 0.5 if k % 4 == 3 else float(k % 2)
        a, b = (
            Sample(prompt, image, metadata={RATINGS: {"overall": float(c)}})
            for c, image in enumerate((red, blue))
        )
        pairs.append(
            PreferencePair(prompt, a, b, {"overall": label}, {"overall": label == 0.5}, group=prompt)
        )
    return pairs
