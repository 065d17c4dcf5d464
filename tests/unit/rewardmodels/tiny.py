"""A reward model of the real class with random weights, small enough for a test."""

from __future__ import annotations

from typing import Any

from mmalign.shapes import vocabulary
from rewardmodels.model_recipe import Model, Scratch
from rewardmodels.scratch import build
from rewardmodels.vlm import VlmReward

SIZES = Scratch(width=32, layers=2, heads=2, vision_width=32, vision_layers=1)


def tiny_reward(*, template: str = "media-prompt/1", positions: str = "mrope", seed: int = 0) -> VlmReward:
    """Random weights by seed, in evaluation mode."""
    model = Model.model_validate(
        {"name": "tiny", "scratch": SIZES, "template": template, "positions": positions}
    )
    return build(model, SIZES, vocabulary(), dimensions=("overall",), seed=seed).eval()


TWO = ("instruction_following", "visual_quality")
FAMILIES: dict[str, dict[str, Any]] = {
    "mlp": {"head": "mlp"},
    "mean": {"head": "mean"},
    "aspects": {
        "template": "two-aspects/1", "head_options": {"shared": True, "bias": False}, "dimensions": TWO
    },
    "gaussian": {"head": "gaussian", "head_options": {"hidden": [16, 8]}},
    "fused": {
        "template": "ask-following/1", "more_templates": ["ask-quality/1"], "head": "fused",
        "head_options": {"hidden": [16, 8]}, "dimensions": TWO,
    },
    "corn": {"template": "two-levels/1", "head": "corn", "dimensions": TWO},
    "coral": {"head": "coral"},
    "query": {"head": "query", "head_options": {"layers": [0, 1, 2], "num_heads": 2}},
    "candidates": {"template": "candidates/1", "head": "candidates"},
    "numeric": {"template": "score-token/1", "head": "numeric"},
    "index": {"template": "score-number/1", "head": "index"},
}  # fmt: skip
"""One small recipe a family of heads."""


def tiny_family(name: str, *, seed: int = 0, **changes: Any) -> VlmReward:
    """A random model of a family, that judges pictures and edits."""
    asked = {"template": "source-media-prompt/1", **FAMILIES[name], **changes}
    dimensions = asked.pop("dimensions", ("overall",))
    model = Model.model_validate({"name": name, "scratch": SIZES, **asked}, strict=False)
    both = ("image", "edit")
    return build(model, SIZES, vocabulary(), dimensions=dimensions, seed=seed, modalities=both).eval()
