"""The verb `train-reward` for CLIP- and BLIP-type rewards: towers or a head learn from pairs, lists or ratings.

Output folder: `config.yaml` (resolved), `metrics.jsonl`, `checkpoints/`, and the result `reward/`: files in the
published layout with `reward_config.json` and its calibration, which `--reward runs/.../reward` and
`rewardmodels.load` read. `quality.json` holds what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmalign.config import load_config
from mmalign.shapes import vocabulary
from mmalign.shapes.worlds import WORLDS
from mmalign.train.distributed import Processes
from mmalign.train.loop import Trainer
from mmalign.train.skips import Skips
from pipelines import train_reward
from pipelines.runs import Say, optimizer_of, plan
from pipelines.train_reward import calibrate
from rewardmodels.calibrated import with_calibration
from rewardmodels.clip import starts
from rewardmodels.clip.recipe import ClipRecipe
from rewardmodels.clip.trained import ClipReward
from rewardmodels.clip.training import ClipTraining
from rewardmodels.examination import Half, Judged, accuracy, calibration_error
from rewardmodels.kinds import require_kinds


def run(config: str | Path, overrides: Sequence[str] = (), *, say: Say = print) -> dict[str, Any]:
    """Train to the end (or on from the newest checkpoint), calibrate, measure, save. Gives what was measured."""
    return train_reward.train(load_config(config, overrides, ClipRecipe), compose, finish, say=say)


def compose(recipe: ClipRecipe, processes: Processes) -> tuple[Trainer, ClipTraining]:
    """Model, data and examination put together, ready to train; and the task it trains."""
    world = WORLDS.get(recipe.data.pairs)
    words = vocabulary() if world is None else world.words()
    model = starts.start(recipe.model, words, dimension=recipe.method.dimension, seed=recipe.seed)
    require_kinds(recipe.data, sorted(model.modalities), "the data", who="the reward")
    skips = None if recipe.data.pairs in WORLDS else Skips()
    source = train_reward.build_source(recipe, skips)
    task = ClipTraining(model, recipe, source, processes, examine=partial(examine, recipe), skips=skips)
    make = optimizer_of(recipe.optimizer, task.not_matrices())
    return Trainer(task, plan(recipe, "reward", recipe.budget.updates, make_optimizer=make), processes), task


def judged(
    recipe: ClipRecipe,
    model: ClipReward,
    half: Half,
    num_prompts: int,
    left_out: dict[str, int] | None = None,
) -> Judged | None:
    """The held-out or calibration pairs, labelled in the recipe's dimension, with the model's scores."""
    found = train_reward.judged(recipe, model, half, num_prompts, left_out)
    return found.get(recipe.method.dimension)


def examine(recipe: ClipRecipe, model: ClipReward, num_prompts: int) -> dict[str, float]:
    """Numbers to log during training."""
    left_out: dict[str, int] = {}
    found = judged(recipe, model, "evaluation", num_prompts, left_out)
    if found is None:
        return {}
    result = accuracy(found)
    numbers = {f"skipped_{kind}": float(num) for kind, num in left_out.items()}
    numbers["accuracy"] = result["accuracy"]["mean"]
    numbers |= {key: result[key] for key in ("expected", "best", "ratio") if key in result}
    parts = result.get("by_category", {}).items()
    return numbers | {f"ratio/{name}": part["ratio"] for name, part in parts}


def finish(recipe: ClipRecipe, task: ClipTraining, folder: Path, cost: Mapping[str, Any]) -> dict[str, Any]:
    """Calibrate on one set of prompts, measure on another, and save the reward."""
    quality: dict[str, Any] = dict(cost)
    with task.result() as model:
        num = recipe.evaluation.final_prompts
        left_out: dict[str, int] = {}

        def measure() -> dict[str, Judged]:
            found = judged(recipe, model, "calibration", num)
            return {} if found is None else {"overall": found}

        calibrate(model, measure)
        found = judged(recipe, model, "evaluation", num, left_out)
        if any(left_out.values()):
            quality["heldout_left_out"] = left_out
        if found is not None:
            quality |= accuracy(found, tie_threshold=model.settings.tie_threshold)
            quality["calibration_error"] = calibration_error(found, model.settings.temperature)
        with_calibration(model, quality=quality)
        model.save(folder / "reward")
    return quality
