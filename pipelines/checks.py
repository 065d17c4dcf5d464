"""What a recipe names is there: its rewards by name, its data as files. Loads nothing, so mistakes are told at once."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from mmalign.composition import Reward, with_files
from mmalign.config import Recipe
from rewardmodels.catalog import require_known

PROMPTS = ("shapes:train", "shapes:heldout")


def require_rewards(rewards: Iterable[Reward]) -> None:
    """ValueError for the first reward that has no such name, at any depth and in the YAML files they name."""
    for reward in map(with_files, rewards):
        if reward.rewards:
            require_rewards(reward.rewards)
        else:
            require_known(reward.name)


def require_files(named: Mapping[str, str | None], built_in: Collection[str] = ()) -> None:
    """ValueError for the first key of a recipe whose value is neither built in nor a file.

    >>> require_files({"data.pairs": "shape"}, ("shapes",))
    Traceback (most recent call last):
    ValueError: 'data.pairs': no such file shape; did you mean 'shapes'?
    """
    for key, name in named.items():
        if name is None or name in built_in or Path(name).exists():
            continue
        near = difflib.get_close_matches(name, built_in, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        hint = hint or (f"; built in are {', '.join(built_in)}" if built_in else "")
        raise ValueError(f"'{key}': no such file {name}{hint}")


def recipe_rewards(recipe: Recipe) -> None:
    """`require_rewards` of all that a fine-tuning recipe names."""
    require_rewards((*recipe.rewards, *recipe.evaluation.rewards))


def recipe_files(recipe: Recipe) -> None:
    """`require_files` of the data of a fine-tuning recipe."""
    data = recipe.data
    require_files({"data.prompts": data.prompts, "data.heldout": data.heldout}, PROMPTS)
    require_files({"data.pairs": data.pairs, "data.samples": data.samples})
