"""A reward model of the real class with random weights, small enough for a test."""

from __future__ import annotations

from mmalign.shapes import vocabulary
from rewardmodels.recipe import Model, Scratch
from rewardmodels.scratch import build
from rewardmodels.vlm import VlmReward

SIZES = Scratch(width=32, layers=2, heads=2, vision_width=32, vision_layers=1)


def tiny_reward(*, template: str = "media-prompt/1", positions: str = "mrope", seed: int = 0) -> VlmReward:
    """Random weights by seed, in evaluation mode."""
    model = Model.model_validate(
        {"name": "tiny", "scratch": SIZES, "template": template, "positions": positions}
    )
    return build(model, SIZES, vocabulary(), dimensions=("overall",), seed=seed).eval()
