"""Where the training of a hidden-state reward starts: a saved reward, a stock VLM with a new head, or a new tiny one.

Legend: no tensors but weights.
"""

from __future__ import annotations

from dataclasses import replace

from mmalign.shapes import vocabulary
from mmalign.shapes.bundle import model_path
from mmalign.shapes.worlds import WORLDS
from rewardmodels.clips import VideoRule
from rewardmodels.fresh import from_backbone
from rewardmodels.kinds import kinds_of
from rewardmodels.model_recipe import Model
from rewardmodels.recipe import RewardRecipe
from rewardmodels.scratch import build, settings_of
from rewardmodels.settings import RewardSettings
from rewardmodels.vlm import VlmReward, load_folder


def build_model(recipe: RewardRecipe) -> VlmReward:
    """The model to train; of files it will choose the frames as it does while it learns."""
    model = _chosen(recipe)
    if recipe.data.pairs not in WORLDS:
        for builder in model.builders:
            builder.video = replace(builder.video, from_files=True)
    return model


def _chosen(recipe: RewardRecipe) -> VlmReward:
    """A saved model, or a new one that knows the words of its world."""
    model = recipe.model
    if model.path is not None:
        saved = load_folder(model_path(model.path))
        _require_same(saved.settings, model)
        return saved
    dimensions, kinds = recipe.method.dimensions, model.modalities or kinds_of(recipe.data)
    if model.backbone is not None:
        settings = settings_of(model, dimensions, kinds, max_prompt_tokens=512)
        video = VideoRule(**model.frames.model_dump())
        return from_backbone(
            model_path(model.backbone), settings, seed=recipe.seed, pixels=model.pixels, video=video
        )
    assert model.scratch is not None
    world = WORLDS.get(recipe.data.pairs)
    return build(
        model, model.scratch, vocabulary() if world is None else world.words(),
        dimensions=dimensions, seed=recipe.seed, modalities=kinds,
    )  # fmt: skip


def _require_same(saved: RewardSettings, model: Model) -> None:
    """ValueError where a saved reward asks or answers otherwise than the recipe that would go on from it."""
    asked = {key: getattr(model, key) for key in ("template", "positions", "head")}
    there = {key: getattr(saved, key) for key in asked if getattr(saved, key) != asked[key]}
    if there:
        differing = ", ".join(f"{key} {value} (the recipe: {asked[key]})" for key, value in there.items())
        raise ValueError(
            f"model.path={model.path} has {differing}: to go on from it as it is set "
            f"{' '.join(f'model.{key}={value}' for key, value in there.items())}; for a new head on its VLM give "
            f"model.backbone={model.path} in place of model.path"
        )
