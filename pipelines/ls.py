"""The verb `ls`: what is there. Loads no model and, except for policies, no torch."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.table import Table

import rewardmodels
from mmalign.config import available_recipes, find_recipe

BUNDLED = {
    "shapes-flow": "tiny text-to-image generator of the built-in world: StableDiffusion3Pipeline, flow",
    "shapes-epsilon": "the same world as StableDiffusionPipeline, epsilon prediction",
    "shapes-reward": "tiny Qwen3-VL reward model, learned from preference pairs",
}


def rewards() -> Table:
    """The catalogue of reward models."""
    table = Table(
        "reward", "what it judges", "media", "dimensions", "scale", "licence", "memory", title="Rewards"
    )
    for name, entry in rewardmodels.available().items():
        media, dimensions = ", ".join(entry.modalities), ", ".join(entry.dimensions)
        table.add_row(name, entry.about, media, dimensions, entry.scale, entry.licence, entry.memory)
    table.caption = "also: a folder with reward_config.json, or a Python function as module:name"
    return table


def policies() -> Table:
    """Families of generators that can be trained."""
    from mmalign.policies.registry import FAMILIES

    table = Table("family", "pipeline class", "makes", "LoRA targets", title="Generator families")
    for family in FAMILIES:
        made = family()
        table.add_row(made.name, made.pipeline_class, made.modality, ", ".join(made.lora_targets))
    table.caption = "any diffusers folder or hub id of these classes loads"
    return table


def recipes() -> Table:
    """Shipped recipes with their first comment."""
    table = Table("recipe", "what it does", title="Recipes: mmalign finetune NAME, mmalign train-reward NAME")
    for name in available_recipes():
        lines = find_recipe(name).read_text(encoding="utf-8").splitlines()
        about = next((line.lstrip("# ").strip() for line in lines if line.startswith("#")), "")
        table.add_row(name, about)
    return table


def models() -> Table:
    """Models that are bundled."""
    table = Table("model", "what it is", title="Bundled models")
    for name, about in BUNDLED.items():
        table.add_row(name, about)
    return table


KINDS: dict[str, Callable[[], Table]] = {
    "models": models,
    "rewards": rewards,
    "recipes": recipes,
    "policies": policies,
}


def run(what: str | None = None) -> None:
    """One kind, or all."""
    if what is not None and what not in KINDS:
        raise ValueError(f"mmalign ls knows {', '.join(KINDS)}, not '{what}'")
    console = Console()
    for kind in [what] if what is not None else KINDS:
        console.print(KINDS[kind]())
