"""The verb `ls`: what is there. Loads no model and, except for policies and for one reward's options, no torch."""

from __future__ import annotations

import difflib
import importlib
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Mapping

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

import rewardmodels
from mmalign.config import available_recipes, find_recipe
from rewardmodels.catalog import Entry

WIDTH = 100  # of what is written to a file or pipe

BUNDLED = {
    "shapes-flow": "tiny text-to-image generator of the built-in world: StableDiffusion3Pipeline, flow",
    "shapes-epsilon": "the same world as StableDiffusionPipeline, epsilon prediction",
    "shapes-reward": "tiny Qwen3-VL reward model of pictures, learned from preference pairs",
    "shapes-edits-reward": "the same for edits",
    "shapes-videos-reward": "the same for videos",
}


FAMILIES: Mapping[str, tuple[str, ...]] = {
    "Rules and probes": ("rules", "probes", "ocr", "geneval"),
    "CLIP and BLIP": ("clip",),
    "VLMs with a head": ("vlm", "checkpoints"),
    "Judges in words": ("judges",),
    "Sets of samples": ("distribution",),
    "Elsewhere": ("remote",),
}
"""Headings of the rewards, and the modules of `rewardmodels` whose loaders belong there."""
VERBS = {"reward": "train-reward", "clip": "train-reward", "plural": "train-reward", "judge": "train-judge"}
"""By the folder of a recipe the verb that takes it; the others are for `finetune`."""
FEW = 6  # dimensions shown in the table


def family(entry: Entry) -> str:
    """The heading of a reward."""
    module = entry.loader.split(":")[0].split(".")[1]
    return next(heading for heading, modules in FAMILIES.items() if module in modules)


def rewards() -> Table:
    """The catalogue of reward models: a row each, under headings, in 100 characters."""
    columns = (
        Column("reward", no_wrap=True, width=25), Column("judges", width=14), Column("dimensions", width=22),
        Column("licence", width=11), Column("size", width=6), Column("memory", width=10),
    )  # fmt: skip
    table = Table(*columns, title="Rewards", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    catalogue = rewardmodels.available()
    for heading in FAMILIES:
        table.add_row(Text(heading, style="bold"))
        for name, entry in catalogue.items():
            if family(entry) == heading:
                table.add_row(name, *_cells(entry))
        table.add_section()
    table.caption = (
        "mmalign ls rewards NAME tells all of one: scale, weights, options. Also a reward: a folder with "
        "reward_config.json, a YAML file of rewards, or a function module:name"
    )
    return table


def _cells(entry: Entry) -> tuple[str, ...]:
    dimensions = ", ".join(entry.dimensions)
    if len(entry.dimensions) > FEW:
        dimensions = f"{', '.join(entry.dimensions[:3])} and {len(entry.dimensions) - 3} more"
    facts = (" ".join(entry.modalities), dimensions, entry.licence, entry.size, entry.memory)
    return tuple(words.replace("that of the model", "the model's") for words in facts)


def reward(name: str) -> Table:
    """Everything the catalogue knows of one reward, and the options of its loader."""
    catalogue = rewardmodels.available()
    if name not in catalogue:
        near = difflib.get_close_matches(name, catalogue, n=1, cutoff=0.4)
        raise ValueError(
            f"no reward '{name}' in the catalogue: "
            + (f"did you mean '{near[0]}'?" if near else "mmalign ls rewards shows them")
        )
    entry = catalogue[name]
    facts = {
        "what it is": entry.about,
        "kind": family(entry),
        "judges": ", ".join(entry.modalities)
        + (", among the others of its prompt or call" if entry.over_sets else ""),
        "dimensions": ", ".join(entry.dimensions),
        "scale": entry.scale,
        "gradient to pixels": "yes" if entry.differentiable else "no",
        "licence": entry.licence,
        "weights": entry.weights or "none needed",
        "size": entry.size,
        "memory": entry.memory,
        "needs": f"pip install 'mmalign[{entry.extra}]'" if entry.extra else "",
        "loader": entry.loader,
        "options": "\n".join(_options(entry)) or "none",
    }
    table = Table(Column(no_wrap=True, style="bold"), Column(overflow="fold"), title=name, show_header=False)
    for fact, words in facts.items():
        if words:
            table.add_row(fact, words)
    return table


def _options(entry: Entry) -> list[str]:
    """Options with their defaults, as they are written in YAML or Python."""
    module, _, function = entry.loader.partition(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), function)).parameters
    return [
        f"{name} (required)" if one.default is one.empty else f"{name}: {one.default!r}"
        for name, one in parameters.items()
        if one.kind is one.KEYWORD_ONLY and name not in entry.arguments
    ]


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
    """Shipped recipes with the first sentence of their comment, under the verb that takes them."""
    columns = (Column("recipe", no_wrap=True), Column("what it does"))
    table = Table(*columns, title="Recipes", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    names = available_recipes()
    for verb in ("finetune", "train-reward", "train-judge"):
        table.add_row(Text(f"mmalign {verb} RECIPE", style="bold"))
        for name in names:
            if VERBS.get(name.split("/")[0], "finetune") == verb:
                table.add_row(name, _first_sentence(find_recipe(name).read_text(encoding="utf-8")))
        table.add_section()
    return table


def _first_sentence(text: str) -> str:
    """The first sentence of the comment that a file begins with; it may go over several lines."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    comment = " ".join(line.lstrip("# ").strip() for line in lines)
    return re.split(r"(?<=[.?!])\s", comment, maxsplit=1)[0]


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


def run(what: str | None = None, name: str | None = None) -> None:
    """One kind, or all; with `name` one reward alone."""
    if what is not None and what not in KINDS:
        raise ValueError(f"mmalign ls knows {', '.join(KINDS)}, not '{what}'")
    if name is not None and what != "rewards":
        raise ValueError(f"only rewards are shown one by one: mmalign ls rewards {name}")
    console = Console(markup=False, width=None if sys.stdout.isatty() else WIDTH)
    if name is not None:
        console.print(reward(name))
        return
    for kind in [what] if what is not None else KINDS:
        console.print(KINDS[kind]())
