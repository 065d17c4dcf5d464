"""The verb `train-reward`: a recipe becomes a reward model, its pairs and a run of the one training loop.

Output folder: `config.yaml` (resolved), `metrics.jsonl`, `checkpoints/`, and the result `reward/`: the model with its
calibration and a card, which `--reward runs/.../reward` and `rewardmodels.load` read. `quality.json` holds what was
measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from mmalign.config import load_config
from mmalign.shapes.worlds import WORLDS
from mmalign.stats.calibration import fit_temperature
from mmalign.train.distributed import Processes
from mmalign.train.loop import Trainer
from mmalign.train.skips import FREE, MOST, Skips
from mmalign.types import RewardModel
from pipelines import checks
from pipelines.gains import reach
from pipelines.runs import Say, begin, conclude, optimizer_of, plan, write_config
from rewardmodels.calibrated import CalibratedReward, with_calibration
from rewardmodels.card import card
from rewardmodels.clip.recipe import ClipRecipe
from rewardmodels.examination import (
    Half,
    Judged,
    accuracy,
    calibration_error,
    fit_weights,
    judge_pairs,
    judge_world,
    tie_threshold,
)
from rewardmodels.judges.critiqued import JOINED, CritiquedSource, GivenCritiques
from rewardmodels.judges.wording import wording
from rewardmodels.kinds import require_kinds
from rewardmodels.recipe import LEVEL_LOSSES, Data, RewardRecipe, places_of, require_own
from rewardmodels.settings import RewardSettings
from rewardmodels.sources import FileSource, PairSource, law_of, source_of
from rewardmodels.start import build_model
from rewardmodels.task import RewardTask
from rewardmodels.training import RewardTraining
from rewardmodels.vlm import VlmReward

Recipe = TypeVar("Recipe", RewardRecipe, ClipRecipe)
Task = TypeVar("Task", bound=RewardTask[Any, Any])


def run(config: str | Path, overrides: Sequence[str] = (), *, say: Say = print) -> dict[str, Any]:
    """Train to the end (or on from the newest checkpoint), calibrate, measure, save. Gives what was measured."""
    return train(load_config(config, overrides, RewardRecipe), compose, finish, say=say)


def train(
    recipe: Recipe,
    compose: Callable[[Recipe, Processes], tuple[Trainer, Task]],
    finish: Callable[[Recipe, Task, Path, Mapping[str, Any]], dict[str, Any]],
    *,
    say: Say,
) -> dict[str, Any]:
    """What every kind of reward goes through: `compose` puts its training together, `finish` measures and saves it."""
    require_data(recipe.data)
    folder = Path(recipe.output)
    processes, tell = begin(recipe, say)
    trainer, task = compose(recipe, processes)
    num = sum(parameter.numel() for parameter in task.parameters())
    tell(f"{recipe.model.name}: {num:,} trained parameters, {processes.describe()}")
    if processes.is_main:
        write_config(recipe, folder)
    counters = trainer.train()
    if not processes.is_main:
        return {}
    cost = {
        "updates": counters.updates,
        "seconds": round(counters.seconds),
        "threads": torch.get_num_threads(),
    }
    quality = finish(recipe, task, folder, cost)
    line = f"done in {counters.seconds:.0f} s: {summary(quality)}"
    return conclude(quality, folder / "reward", line, skips=task.skips, file=recipe.data.pairs, say=tell)


def require_data(data: Data) -> None:
    """ValueError for pairs that are neither a built-in world nor a file, or of a file and measured on a world."""
    named = {f"data.{key}": name for key, name in places_of(data).items()}
    checks.require_files(named, tuple(WORLDS))
    require_own(data)


def compose(recipe: RewardRecipe, processes: Processes) -> tuple[Trainer, RewardTraining]:
    """Model, pairs and examination put together, ready to train; and the task it trains."""
    skips = None if recipe.data.pairs in WORLDS else Skips()
    model = build_model(recipe)
    require_kinds(recipe.data, sorted(model.modalities), "one of data and model.modalities", who="the reward")
    task = RewardTraining(
        model, recipe, build_source(recipe, skips), processes, examine=partial(examine, recipe),
        skips=skips,
    )  # fmt: skip
    make = optimizer_of(recipe.optimizer, task.not_matrices())
    return Trainer(task, plan(recipe, "reward", recipe.budget.updates, make_optimizer=make), processes), task


def build_source(recipe: RewardRecipe | ClipRecipe, skips: Skips | None = None) -> PairSource:
    """The training pairs or ratings; what cannot be read of a file is counted in `skips`, or refused without."""
    data, dimensions = recipe.data, recipe.method.label_dimensions
    binary = data.labels == "binary" and recipe.method.loss not in LEVEL_LOSSES
    source = source_of(data, recipe.seed, dimensions, binary=binary, skips=skips)
    if isinstance(recipe, RewardRecipe) and recipe.data.critiques:
        return CritiquedSource(source, wording(JOINED), skips)
    return source


def reading(recipe: RewardRecipe, model: VlmReward) -> RewardModel:
    """The model as it is measured: it reads the critiques of held-out samples if it was trained to."""
    return GivenCritiques(model, wording(JOINED)) if recipe.data.critiques else model


def judged(
    recipe: RewardRecipe | ClipRecipe,
    model: RewardModel,
    half: Half,
    num_prompts: int,
    left_out: dict[str, int] | None = None,
) -> dict[str, Judged]:
    """The held-out or calibration pairs of so many prompts with the model's scores by dimension, if there are any.

    `overall` comes first where it was labelled; without it the dimensions stand for themselves. How many lines of
    a file, and labels of what was drawn of it, could not be used is told in `left_out`.
    """
    data = recipe.data
    place = data.heldout if half == "evaluation" else data.calibration
    if place is None:
        return {}
    dimensions = tuple(dict.fromkeys(("overall", *recipe.method.dimensions)))
    if place in WORLDS:
        return judge_world(
            model, half, num_prompts=num_prompts, law=law_of(data.shapes), world=WORLDS[place],
            dimensions=dimensions,
        )  # fmt: skip
    if isinstance(recipe, ClipRecipe):  # a prompt that is labelled otherwise takes no place among the few
        dimensions = recipe.method.dimensions
    skips = Skips()
    source = FileSource(Path(place), data.comparisons_per_bundle, recipe.seed, dimensions, skips=skips)
    one_file = data.heldout == data.calibration  # each then gets the prompts of its half
    pairs = source.heldout(num_prompts, half if one_file else None)
    skips.settle()
    skips.require_few(place, last=True)
    refusals: Counter[str] = Counter()
    found = {dim: judge_pairs(model, pairs, dimension=dim, refusals=refusals) for dim in dimensions}
    known = sum(len(pair.labels) for pair in pairs)
    lost = known - sum(len(one.label) for one in found.values())
    few = len({pair.group for pair in pairs}) == num_prompts  # of which all may be broken by chance
    if known and ((lost == known and not few) or lost > FREE + MOST * known):
        raise ValueError(
            f"{place}: {lost} of {known} held-out labels could not be judged ({_most_said(refusals)}): look the "
            "file over with `mmalign data check`, and whether the model judges what it holds"
        )
    if left_out is not None:
        left_out |= {"lines": skips.lines, "labels": lost}
    return {dim: one for dim, one in found.items() if len(one.label)}


def _most_said(refusals: Counter[str]) -> str:
    """The reason that most samples have, as the reward says it."""
    return refusals.most_common(1)[0][0] if refusals else "the reward said nothing of it"


def examine(recipe: RewardRecipe, model: VlmReward, num_prompts: int) -> dict[str, float]:
    """Numbers to log during training; those of `overall` without a prefix."""
    left_out: dict[str, int] = {}
    scored = judged(recipe, reading(recipe, model), "evaluation", num_prompts, left_out)
    numbers = {f"skipped_{kind}": float(num) for kind, num in left_out.items()}
    for dim, found in scored.items():
        result, prefix = accuracy(found), "" if dim == "overall" else f"{dim}/"
        numbers[f"{prefix}accuracy"] = result["accuracy"]["mean"]
        numbers |= {f"{prefix}{key}": result[key] for key in ("expected", "best", "ratio") if key in result}
        if not prefix:
            parts = result.get("by_category", {}).items()
            numbers |= {f"ratio/{name}": part["ratio"] for name, part in parts}
    return numbers


def finish(
    recipe: RewardRecipe, task: RewardTraining, folder: Path, cost: Mapping[str, Any]
) -> dict[str, Any]:
    """Calibrate on one set of prompts, measure on another, and save the model with its card."""
    quality: dict[str, Any] = dict(cost)
    with task.result() as model:
        num = recipe.evaluation.final_prompts
        asked = reading(recipe, model)
        calibrate(
            model, partial(judged, recipe, asked, "calibration", num), fit_overall=recipe.method.fit_overall
        )
        left_out: dict[str, int] = {}
        found = judged(recipe, asked, "evaluation", num, left_out)
        if any(left_out.values()):
            quality["heldout_left_out"] = left_out
        if "overall" in found:
            quality |= accuracy(found["overall"], tie_threshold=model.settings.tie_threshold)
        main = calibrated_on(model, found)
        if main in found:
            quality["calibration_error"] = calibration_error(found[main], model.settings.temperature)
        parts = {
            dim: accuracy(one, tie_threshold=model.settings.tie_threshold if dim == main else 0.0)
            for dim, one in found.items()
            if dim != "overall"
        }
        if parts:
            quality["dimensions"] = parts
        with_calibration(model, quality=quality)
        target = model.save(folder / "reward", dtype=getattr(torch, recipe.save_dtype))
        (target / "README.md").write_text(card(model, recipe), encoding="utf-8")
    return quality


def calibrate(
    model: CalibratedReward, measure: Callable[[], dict[str, Judged]], *, fit_overall: bool = False
) -> None:
    """Set mean, std, the weights of dimensions, temperature and tie threshold from pairs of their own.

    Scores are given on the scale of the settings so far. With several dimensions these are standardised first, and
    the pairs scored once more for what is overall. A reward of one dimension is calibrated on what was said of that.
    """
    fitted = measure()
    if not fitted:
        return
    names = model.settings.dimensions
    if len(names) > 1:
        assert isinstance(model.settings, RewardSettings)
        if model.settings.overall != "product":  # a product is of the values as they are
            _standardise(model, {dim: fitted[dim] for dim in names if dim in fitted})
        if fit_overall:
            if any(len(fitted[dim].label) != len(fitted["overall"].label) for dim in ("overall", *names)):
                raise ValueError("fit_overall needs calibration pairs that are labelled in every dimension")
            gaps = torch.stack([fitted[dim].gap / fitted[dim].scale for dim in names], 1)
            with_calibration(model, overall_weights=fit_weights(gaps, fitted["overall"].label))
        fitted = measure()
    whole = fitted.get(calibrated_on(model, fitted))
    if whole is None:
        return
    if len(names) == 1:
        _standardise(model, {names[0]: whole})
    else:
        assert isinstance(model.settings, RewardSettings)
        centre, scale = model.settings.overall_mean, model.settings.overall_std
        with_calibration(model, overall_mean=centre + scale * whole.centre, overall_std=scale * whole.scale)
    gap = whole.gap / whole.scale
    with_calibration(model, tie_threshold=tie_threshold(gap, whole.label))
    if bool((gap != 0).any()):  # a model that tells nothing apart keeps the temperature it has
        with_calibration(model, temperature=fit_temperature(gap.numpy(), whole.label.numpy()))


def calibrated_on(model: CalibratedReward, found: Mapping[str, Judged]) -> str:
    """What temperature and tie threshold are about: the overall score, or the one dimension that there is."""
    names = model.settings.dimensions
    return names[0] if len(names) == 1 and names[0] in found else "overall"


def _standardise(model: CalibratedReward, fitted: Mapping[str, Judged]) -> None:
    """Mean 0 and standard deviation 1 for the dimensions that were judged."""
    means, stds = list(model.settings.mean), list(model.settings.std)
    for dim, one in fitted.items():
        place = model.settings.dimensions.index(dim)
        means[place] += stds[place] * one.centre
        stds[place] *= one.scale
    with_calibration(model, mean=tuple(means), std=tuple(stds))


def summary(quality: Mapping[str, Any]) -> str:
    """One line for the terminal."""
    if "accuracy" not in quality:
        return "no held-out pairs were given"
    part = quality["accuracy"]
    if part["mean"] is None:
        return "no held-out pair had a winner"
    line = f"held-out accuracy {part['mean']:.3f}"
    if part["low"] is not None:  # one prompt alone has no interval
        line += f" [{part['low']:.3f}, {part['high']:.3f}]"
    return line + reach(quality)
