"""The verb `ls`: what is there. Loads no model and, except for policies, no torch."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.table import Column, Table

import rewardmodels
from mmalign.config import available_recipes, find_recipe

BUNDLED = {
    "shapes-flow": "tiny text-to-image generator of the built-in world: StableDiffusion3Pipeline, flow",
    "shapes-epsilon": "the same world as StableDiffusionPipeline, epsilon prediction",
    "shapes-reward": "tiny Qwen3-VL reward model, learned from preference pairs",
}


def rewards() -> Table:
    """The catalogue of reward models."""
    table = Table(Column("reward", no_wrap=True), "what it judges", title="Rewards", show_lines=True)
    for name, entry in rewardmodels.available().items():
        facts = [
            f"media: {', '.join(entry.modalities)}; dimensions: {', '.join(entry.dimensions)}",
            f"scale: {entry.scale}; licence: {entry.licence}; memory: {entry.memory}",
        ]
        if entry.weights:
            facts.append(f"weights: {entry.weights}" + (f" ({entry.size})" if entry.size else ""))
        if entry.extra:
            facts.append(f"needs: pip install 'mmalign[{entry.extra}]'")
        table.add_row(name, "\n".join([entry.about, *facts]))
    table.caption = (
        "also: a folder with reward_config.json, a YAML file of rewards, or a function module:name"
    )
    return table


def policies() -> Table:
    """Families of generators that can be trained."""
    from mmalign.policies.registry import FAMILIES

    table = Table(
        Column("family", no_wrap=True),
        "pipeline class",
        "makes",
        Column("LoRA targets", overflow="fold"),
        title="Generator families",
    )
    for family in FAMILIES:
        made = family()
        table.add_row(made.name, made.pipeline_class, made.modality, ", ".join(made.lora_targets))
    table.caption = "any diffusers folder or hub id of these classes loads"
    return table


def recipes() -> Table:
    """Shipped recipes with their first comment."""
    table = Table(
        Column("recipe", no_wrap=True),
        "what it does",
        title="Recipes: mmalign finetune NAME, mmalign train-reward NAME",
    )
    for name in available_recipes():
        lines = find_recipe(name).read_text(encoding="utf-8").splitlines()
        about = next((line.lstrip("# ").strip() for line in lines if line.startswith("#")), "")
        table.add_row(name, about)
    return table


def models() -> Table:
    """Models that are bundled."""
    table = Table(Column("model", no_wrap=True), "what it is", title="Bundled models")
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
