"""rewardmodels, the judges of mmalign: load one by name, score samples, train your own.

    reward = rewardmodels.load("shapes-reward")
    scores = reward(samples=[Sample("a red circle", image)])    # Scores: values, overall, valid, reasons

`load` takes a name of `available()`, a folder with `reward_config.json`, or any Python function as `module:name`.
Every reward batches inside, is called with the keyword `samples`, and gives NaN with a reason for a sample that
it cannot judge. Submodules are loaded on first use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmalign.types import RewardModel
    from rewardmodels.catalog import Entry

__all__ = ["available", "load"]


def load(name_or_path: str, **options: Any) -> RewardModel:
    """The reward called by a catalogue name, a folder or `module:name`; ValueError names the nearest name."""
    from rewardmodels.catalog import load as open_reward

    return open_reward(name_or_path, **options)


def available() -> Mapping[str, Entry]:
    """What the catalogue holds, by name. Loads no model and no torch."""
    from rewardmodels.catalog import CATALOG

    return CATALOG
