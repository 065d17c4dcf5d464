"""The verb `train-reward` for CLIP- and BLIP-type rewards: towers or a head learn from pairs, lists or ratings.

Output folder: `config.yaml` (resolved), `metrics.jsonl`, `checkpoints/`, and the result `reward/`: files in the
published layout with `reward_config.json` and its calibration, which `--reward runs/.../reward` and
`rewardmodels.load` read. `quality.json` holds what was measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from mmalign.config import load_config, to_yaml
from mmalign.shapes import vocabulary
from mmalign.shapes.worlds import WORLDS
from mmalign.train import optimizers
from mmalign.train.distributed import Processes, start
from mmalign.train.loop import Run, Trainer
from mmalign.train.trackers import check_available
from pipelines.train_reward import Say, calibrate, summary
from rewardmodels.clip import starts
from rewardmodels.clip.recipe import RATING_LOSSES, ClipRecipe
from rewardmodels.clip.trained import ClipReward
from rewardmodels.clip.training import ClipTraining
from rewardmodels.examination import (
    Half,
    Judged,
    accuracy,
    calibration_error,
    half_of_group,
    judge_pairs,
    judge_world,
)
from rewardmodels.sources import FileSource, PairSource, ShapesSource, law_of
from rewardmodels.training import with_calibration


def run(config: str | Path, overrides: Sequence[str] = (), *, say: Say = print) -> dict[str, Any]:
    """Train to the end (or on from the newest checkpoint), calibrate, measure, save. Gives what was measured."""
    recipe = load_config(config, overrides, ClipRecipe)
    check_available(recipe.trackers)
    folder = Path(recipe.output)
    processes = Processes(start(folder, recipe.trackers))
    trainer, task = compose(recipe, processes)
    tell: Say = say if processes.is_main else (lambda _: None)
    num = sum(parameter.numel() for parameter in task.parameters())
    tell(f"{recipe.model.name}: {num:,} trained parameters, {processes.num} processes on {processes.device}")
    if processes.is_main:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    counters = trainer.train()
    if not processes.is_main:
        return {}
    cost = {
        "updates": counters.updates, "seconds": round(counters.seconds), "threads": torch.get_num_threads()
    }  # fmt: skip
    quality = finish(recipe, task, folder, cost)
    (folder / "quality.json").write_text(json.dumps(quality, indent=2) + "\n", encoding="utf-8")
    tell(f"done in {counters.seconds:.0f} s: {summary(quality)}; {folder / 'reward'}")
    return quality


def compose(recipe: ClipRecipe, processes: Processes) -> tuple[Trainer, ClipTraining]:
    """Model, data and examination put together, ready to train; and the task it trains."""
    world = WORLDS.get(recipe.data.pairs)
    words = vocabulary() if world is None else world.words()
    model = starts.start(recipe.model, words, dimension=recipe.method.dimension, seed=recipe.seed)
    task = ClipTraining(model, recipe, build_source(recipe), processes, examine=partial(examine, recipe))
    settings = recipe.optimizer
    plan = Run(
        folder=Path(recipe.output),
        iterations=recipe.budget.updates,
        num_updates=recipe.budget.updates,
        optimizer=settings,
        checkpoint=recipe.checkpoint,
        evaluate_every=recipe.evaluation.every,
        recipe=recipe.model_dump(mode="json"),
        trackers=recipe.trackers,
        title="reward",
        make_optimizer=partial(
            optimizers.build, name=settings.name, lr=settings.lr, betas=settings.betas,
            weight_decay=settings.weight_decay, not_matrices=task.not_matrices(),
        ),
    )  # fmt: skip
    return Trainer(task, plan, processes), task


def build_source(recipe: ClipRecipe) -> PairSource:
    """The training pairs or ratings."""
    data, dimensions = recipe.data, (recipe.method.dimension,)
    binary = data.labels == "binary" and recipe.method.loss not in RATING_LOSSES
    if data.pairs in WORLDS:
        world = WORLDS[data.pairs]
        return ShapesSource(data.shapes, recipe.seed, world=world, dimensions=dimensions, binary=binary)
    return FileSource(Path(data.pairs), data.comparisons_per_bundle, recipe.seed, dimensions, binary=binary)


def judged(recipe: ClipRecipe, model: ClipReward, half: Half, num_prompts: int) -> Judged | None:
    """The held-out or calibration pairs, labelled in the recipe's dimension, with the model's scores."""
    data, dimension = recipe.data, recipe.method.dimension
    place = data.heldout if half == "evaluation" else data.calibration
    if place is None:
        return None
    if place in WORLDS:
        return judge_world(
            model, half, num_prompts=num_prompts, law=law_of(data.shapes), world=WORLDS[place],
            dimensions=(dimension,),
        )[dimension]  # fmt: skip
    pairs = FileSource(Path(place), data.comparisons_per_bundle, recipe.seed, (dimension,)).all()
    if data.heldout == data.calibration:  # one file for both: each gets the prompts of its half
        pairs = [pair for pair in pairs if half_of_group(pair.group or pair.prompt) == half]
    found = judge_pairs(model, pairs, dimension=dimension) if pairs else None
    return found if found is not None and len(found.label) else None


def examine(recipe: ClipRecipe, model: ClipReward, num_prompts: int) -> dict[str, float]:
    """Numbers to log during training."""
    found = judged(recipe, model, "evaluation", num_prompts)
    if found is None:
        return {}
    result = accuracy(found)
    numbers = {"accuracy": result["accuracy"]["mean"]}
    numbers |= {key: result[key] for key in ("expected", "best", "ratio") if key in result}
    parts = result.get("by_category", {}).items()
    return numbers | {f"ratio/{name}": part["ratio"] for name, part in parts}


def finish(recipe: ClipRecipe, task: ClipTraining, folder: Path, cost: Mapping[str, Any]) -> dict[str, Any]:
    """Calibrate on one set of prompts, measure on another, and save the reward."""
    quality: dict[str, Any] = dict(cost)
    with task.result() as model:
        num, same = recipe.evaluation.final_prompts, cast(Any, model)

        def measure() -> dict[str, Judged]:
            found = judged(recipe, model, "calibration", num)
            return {} if found is None else {"overall": found}

        calibrate(cast(Any, recipe), same, measure)
        found = judged(recipe, model, "evaluation", num)
        if found is not None:
            quality |= accuracy(found, tie_threshold=model.settings.tie_threshold)
            quality["calibration_error"] = calibration_error(found, model.settings.temperature)
        with_calibration(same, quality=quality)
        model.save(folder / "reward")
    return quality
