"""The verb `train-reward`: a recipe becomes a reward model, its pairs and a run of the one training loop.

Output folder: `config.yaml` (resolved), `metrics.jsonl`, `checkpoints/`, and the result `reward/`: the model with its
calibration and a card, which `--reward runs/.../reward` and `rewardmodels.load` read. `quality.json` holds what was
measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmalign.config import load_config, to_yaml
from mmalign.shapes import vocabulary
from mmalign.train import optimizers
from mmalign.train.distributed import Processes, start
from mmalign.train.loop import Run, Trainer
from mmalign.train.trackers import check_available
from rewardmodels.card import card
from rewardmodels.examination import (
    Half,
    Judged,
    accuracy,
    calibration_error,
    fit_temperature,
    judge_pairs,
    judge_shapes,
)
from rewardmodels.recipe import RewardRecipe
from rewardmodels.scratch import build
from rewardmodels.sources import FileSource, PairSource, ShapesSource
from rewardmodels.training import RewardTraining, with_calibration
from rewardmodels.vlm import VlmReward, load_folder

Say = Callable[[str], None]


def run(config: str | Path, overrides: Sequence[str] = (), *, say: Say = print) -> dict[str, Any]:
    """Train to the end (or on from the newest checkpoint), calibrate, measure, save. Gives what was measured."""
    recipe = load_config(config, overrides, RewardRecipe)
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
        "updates": counters.updates,
        "seconds": round(counters.seconds),
        "threads": torch.get_num_threads(),
    }
    quality = finish(recipe, task, folder, cost)
    (folder / "quality.json").write_text(json.dumps(quality, indent=2) + "\n", encoding="utf-8")
    tell(f"done in {counters.seconds:.0f} s: {summary(quality)}; {folder / 'reward'}")
    return quality


def compose(recipe: RewardRecipe, processes: Processes) -> tuple[Trainer, RewardTraining]:
    """Model, pairs and examination put together, ready to train; and the task it trains."""
    task = RewardTraining(
        build_model(recipe), recipe, build_source(recipe), processes, examine=partial(examine, recipe)
    )
    settings = recipe.optimizer
    make = partial(make_optimizer, recipe, task)
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
        make_optimizer=make,
    )
    return Trainer(task, plan, processes), task


def make_optimizer(
    recipe: RewardRecipe, task: RewardTraining, parameters: list[nn.Parameter]
) -> torch.optim.Optimizer | optimizers.Joint:
    """The recipe's optimiser."""
    settings = recipe.optimizer
    return optimizers.build(
        parameters, name=settings.name, lr=settings.lr, betas=settings.betas,
        weight_decay=settings.weight_decay, not_matrices=task.not_matrices(),
    )  # fmt: skip


def build_model(recipe: RewardRecipe) -> VlmReward:
    """The model to train: a saved one, or a new one for the shapes world."""
    model = recipe.model
    if model.path is not None:
        return load_folder(model.path)
    assert model.scratch is not None
    return build(model, model.scratch, vocabulary(), dimensions=recipe.method.dimensions, seed=recipe.seed)


def build_source(recipe: RewardRecipe) -> PairSource:
    """The training pairs."""
    data = recipe.data
    if data.pairs == "shapes":
        return ShapesSource(data.shapes, recipe.seed)
    return FileSource(Path(data.pairs), data.comparisons_per_bundle, recipe.seed, recipe.method.dimensions)


def judged(recipe: RewardRecipe, model: VlmReward, half: Half, num_prompts: int) -> Judged | None:
    """The held-out or calibration pairs with the model's scores, if the recipe has any."""
    data = recipe.data
    place = data.heldout if half == "evaluation" else data.calibration
    if place is None:
        return None
    if place == "shapes":
        return judge_shapes(model, half, num_prompts=num_prompts, temperature=data.shapes.temperature)
    source = FileSource(Path(place), data.comparisons_per_bundle, recipe.seed, recipe.method.dimensions)
    return judge_pairs(model, source.all())


def examine(recipe: RewardRecipe, model: VlmReward, num_prompts: int) -> dict[str, float]:
    """Numbers to log during training."""
    found = judged(recipe, model, "evaluation", num_prompts)
    if found is None:
        return {}
    result = accuracy(found)
    numbers = {"accuracy": result["accuracy"]["mean"]}
    numbers |= {key: result[key] for key in ("expected", "best", "ratio") if key in result}
    return numbers | {f"ratio/{name}": part["ratio"] for name, part in result.get("by_category", {}).items()}


def finish(
    recipe: RewardRecipe, task: RewardTraining, folder: Path, cost: Mapping[str, Any]
) -> dict[str, Any]:
    """Calibrate on one set of prompts, measure on another, and save the model with its card."""
    quality: dict[str, Any] = dict(cost)
    with task.averaged() as model:
        num = recipe.evaluation.final_prompts
        fitted = judged(recipe, model, "calibration", num)
        if fitted is not None:
            calibrate(model, fitted)
        found = judged(recipe, model, "evaluation", num)
        if found is not None:
            quality |= accuracy(found)
            quality["calibration_error"] = calibration_error(found, model.settings.temperature)
        with_calibration(model, quality=quality)
        target = model.save(folder / "reward", dtype=getattr(torch, recipe.save_dtype))
        (target / "README.md").write_text(card(model, recipe), encoding="utf-8")
    return quality


def calibrate(model: VlmReward, fitted: Judged) -> None:
    """Set mean, std and temperature from pairs; scores were given on the scale of the settings so far."""
    scores = torch.cat([fitted.score_a, fitted.score_b]).double()
    old_mean, old_std = model.settings.mean[0], model.settings.std[0]
    mean, std = float(scores.mean()), float(scores.std())
    temperature = fit_temperature(fitted.gap / std, fitted.label)
    num = len(model.settings.dimensions)
    with_calibration(
        model, mean=(old_mean + old_std * mean,) * num, std=(old_std * std,) * num, temperature=temperature
    )


def summary(quality: Mapping[str, Any]) -> str:
    """One line for the terminal."""
    if "accuracy" not in quality:
        return "no held-out pairs were given"
    part = quality["accuracy"]
    line = f"held-out accuracy {part['mean']:.3f} [{part['low']:.3f}, {part['high']:.3f}]"
    if "best" in quality:
        line += (
            f", expected {quality['expected']:.3f} of at best {quality['best']:.3f} ({quality['ratio']:.1%})"
        )
    return line
