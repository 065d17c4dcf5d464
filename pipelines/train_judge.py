"""The verb `train-judge`: a small model learns to say verdicts, then learns from pairs which verdicts are right.

Output folder: `config.yaml`, `warm-up/` and `metrics.jsonl` of the two stages, `judge/` with the model, and
`quality.json`: held-out pair accuracy before and after reinforcement with intervals, and the paired difference.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.config import load_config, to_yaml
from mmalign.stats import intervals
from mmalign.train.distributed import Processes, start
from mmalign.train.loop import Run, Trainer
from mmalign.train.trackers import check_available
from mmalign.types import Modality, Sample, Scores
from pipelines.runs import Say, report_left_out
from rewardmodels.examination import Judged, accuracy, judge_shapes
from rewardmodels.judges.verdict_model import VerdictModel, start_from
from rewardmodels.judges.verdict_recipe import JudgeRecipe
from rewardmodels.judges.verdict_training import Bundles, FileBundles, ShapesBundles, VerdictTask, WarmUpTask
from rewardmodels.skips import Skips
from rewardmodels.sources import FileSource


def run(config: str | Path, overrides: Sequence[str] = (), *, say: Say = print) -> dict[str, Any]:
    """Both stages to the end (or on from their newest checkpoints), measured before and after. Gives the figures."""
    recipe = load_config(config, overrides, JudgeRecipe)
    check_available(recipe.trackers)
    folder = Path(recipe.output)
    processes = Processes(start(folder, recipe.trackers))
    tell: Say = say if processes.is_main else (lambda _: None)
    if processes.is_main:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    chosen = recipe.judge
    model = start_from(chosen.path, name=chosen.name, asks=chosen.asks, marks=chosen.marks)
    skips = None if recipe.data.pairs == "shapes" else Skips()
    bundles = _bundles(recipe, skips)
    examine = partial(examined, recipe)
    began = time.perf_counter()
    if recipe.warm_up.updates:
        warm_up = WarmUpTask(model, recipe, bundles, processes)
        Trainer(
            warm_up, _plan(recipe, folder / "warm-up", recipe.warm_up.updates, warm=True), processes
        ).train()
    before = measured(recipe, model)
    tell(f"before reinforcement: held-out accuracy {line(before)}")
    task = VerdictTask(model, recipe, bundles, processes, examine, skips)
    Trainer(task, _plan(recipe, folder, recipe.budget.iterations, warm=False), processes).train()
    after = measured(recipe, model)
    quality = compared(before, after) | {"seconds": round(time.perf_counter() - began)}
    report_left_out(skips, quality, tell)
    if processes.is_main:
        (folder / "quality.json").write_text(json.dumps(quality, indent=2) + "\n", encoding="utf-8")
    gained = ", ".join(f"{name} {_shown(part)}" for name, part in quality["gain"].items())
    tell(f"after: held-out accuracy {line(after)}; gained {gained}; {folder / 'judge'}")
    return quality


def _plan(recipe: JudgeRecipe, folder: Path, iterations: int, *, warm: bool) -> Run:
    settings = recipe.optimizer
    updates = iterations * (1 if warm else recipe.method.updates_per_iteration)
    if warm:
        settings = settings.model_copy(update={"lr": recipe.warm_up.lr, "schedule": "constant"})
    return Run(
        folder=folder,
        iterations=iterations,
        num_updates=updates,
        optimizer=settings,
        checkpoint=recipe.checkpoint,
        evaluate_every=None if warm else recipe.evaluation.every,
        recipe=recipe.model_dump(mode="json"),
        trackers=recipe.trackers,
        title="warm-up" if warm else "judge",
    )


def _bundles(recipe: JudgeRecipe, skips: Skips | None) -> Bundles:
    data = recipe.data
    if data.pairs == "shapes":
        return ShapesBundles(data, recipe.seed)
    return FileBundles(FileSource(Path(data.pairs), data.comparisons, recipe.seed, ("overall",), skips=skips))


# ---------------------------------------------------------------- measuring


Prefer = Callable[[Sequence[Sample], Sequence[Sample]], Tensor]
"""p(the first is better) (P,) of pairs."""


def judged(recipe: JudgeRecipe, model: VerdictModel, num_prompts: int) -> Judged:
    """Held-out pairs of shapes with what the model says of them."""
    temperature = recipe.data.temperature
    if not model.compares:
        return judge_shapes(model, "evaluation", num_prompts=num_prompts, temperature=temperature)
    return judged_in_pairs(model.prefer, num_prompts=num_prompts, temperature=temperature)


def judged_in_pairs(prefer: Prefer, *, num_prompts: int, temperature: float) -> Judged:
    """Held-out pairs of shapes with what a judge of pairs says of them."""
    seen = _Recorder()
    found = judge_shapes(seen, "evaluation", num_prompts=num_prompts, temperature=temperature)
    num = len(seen.samples) // num_prompts
    places = [(g * num + i, g * num + j) for g in range(num_prompts) for i, j in combinations(range(num), 2)]
    chance = prefer([seen.samples[i] for i, _ in places], [seen.samples[j] for _, j in places])
    return replace(found, score_a=chance - 0.5, score_b=torch.zeros_like(chance))


class _Recorder:
    """Keeps the samples it is shown, and scores none."""

    name, dimensions, differentiable = "recorder", ("overall",), False
    modalities: frozenset[Modality] = frozenset({"image"})

    def __init__(self) -> None:
        self.samples: list[Sample] = []

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        self.samples += samples
        return Scores.of(torch.zeros(len(samples), 1), self.dimensions)


def examined(recipe: JudgeRecipe, model: VerdictModel, num_prompts: int) -> dict[str, float]:
    """Numbers to log during training."""
    found = accuracy(judged(recipe, model, num_prompts))
    return {key: found[key] for key in ("expected", "best", "ratio")} | {
        "accuracy": found["accuracy"]["mean"]
    }


def measured(recipe: JudgeRecipe, model: VerdictModel) -> dict[str, Judged]:
    """By the expected mark, and by the mark the model would say (equal marks are wrong)."""
    num = recipe.evaluation.final_prompts
    found = {"expected_mark": judged(recipe, model, num)}
    if not model.compares:
        model.expected = False
        found["likeliest_mark"] = judged(recipe, model, num)
        model.expected = True
    return found


def compared(before: dict[str, Judged], after: dict[str, Judged]) -> dict[str, Any]:
    """Accuracies before and after, and the paired gain with its interval over prompts."""
    made: dict[str, Any] = {"before": {}, "after": {}, "gain": {}}
    for name in before:
        made["before"][name], made["after"][name] = accuracy(before[name]), accuracy(after[name])
        earlier, later = _right(before[name]), _right(after[name])
        made["gain"][name] = intervals.paired(earlier, later, before[name].groups).as_dict()
    return made


def _right(found: Judged) -> np.ndarray:
    """1 where the model's winner is the annotator's; NaN, left out, where the annotator saw a tie."""
    label = found.label.numpy() - 0.5
    right = (np.sign(found.gap.numpy()) == np.sign(label)).astype(float)
    return np.where(label == 0, np.nan, right)


def line(found: dict[str, Judged]) -> str:
    """Accuracies with their intervals, for the terminal."""
    return ", ".join(f"{name} {_shown(accuracy(one)['accuracy'])}" for name, one in found.items())


def _shown(part: dict[str, Any]) -> str:
    return f"{part['mean']:.3f} [{part['low']:.3f}, {part['high']:.3f}]"
