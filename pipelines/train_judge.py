"""The verb `train-judge`: a small model learns to say verdicts, then learns from pairs which verdicts are right.

Output folder: `config.yaml`, `warm-up/` and `metrics.jsonl` of the two stages, `judge/` with the model, and
`quality.json`: held-out pair accuracy before and after reinforcement with intervals, and the paired difference. All of
a held-out file is measured on: no temperature and no tie threshold is fitted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmalign.config import load_config
from mmalign.shapes.worlds import WORLDS
from mmalign.train.loop import Run, Trainer
from mmalign.train.skips import Skips, problems
from mmalign.types import PreferencePair, Sample
from pipelines.gains import OfPairs, compared, gain_line, heldout, in_brief, line
from pipelines.plans import require_kinds
from pipelines.runs import Say, begin, conclude, plan, require_learned, write_config
from rewardmodels.examination import Judged
from rewardmodels.judges.verdict_model import VerdictModel, start_from
from rewardmodels.judges.verdict_recipe import JudgeRecipe
from rewardmodels.judges.verdict_training import VerdictTask, WarmUpTask
from rewardmodels.sources import source_of


def run(config: str | Path, overrides: Sequence[str] = (), *, say: Say = print) -> dict[str, Any]:
    """Both stages to the end (or on from their newest checkpoints), measured before and after. Gives the figures."""
    recipe = load_config(config, overrides, JudgeRecipe)
    require_kinds(recipe)
    folder = Path(recipe.output)
    processes, tell = begin(recipe, say)
    if processes.is_main:
        write_config(recipe, folder)
    chosen = recipe.judge
    model = start_from(chosen.path, name=chosen.name, asks=chosen.asks, marks=chosen.marks)
    skips = None if recipe.data.pairs in WORLDS else Skips()
    source = source_of(recipe.data, recipe.seed, ("overall",), skips=skips)
    examine = partial(examined, recipe)
    began = time.perf_counter()
    if recipe.warm_up.updates:
        warm_up = WarmUpTask(model, recipe, source, processes)
        Trainer(warm_up, _warm_up_plan(recipe), processes).train()
    before = measured(recipe, model)
    tell(f"before reinforcement: {line(before)}")
    task = VerdictTask(model, recipe, source, processes, examine, skips)
    each = recipe.method.updates_per_iteration
    made = plan(recipe, "judge", recipe.budget.iterations, updates_each=each)
    require_learned(Trainer(task, made, processes).train(), recipe.data.pairs)
    after = measured(recipe, model)
    quality = compared(before, after) | {"seconds": round(time.perf_counter() - began)}
    return conclude(
        quality, folder / "judge", gain_line(quality, after), skips=skips, file=recipe.data.pairs, say=tell,
        is_main=processes.is_main,
    )  # fmt: skip


def _warm_up_plan(recipe: JudgeRecipe) -> Run:
    """Without evaluation, at a rate of its own, in a folder beside the run's."""
    made = plan(recipe, "warm-up", recipe.warm_up.updates)
    settings = recipe.optimizer.model_copy(update={"lr": recipe.warm_up.lr, "schedule": "constant"})
    return replace(
        made, folder=made.folder / "warm-up", optimizer=settings, evaluate_every=None, last_stage=False
    )


# ---------------------------------------------------------------- measuring


def judged(recipe: JudgeRecipe, model: VerdictModel, num_prompts: int) -> Judged | None:
    """Held-out pairs with what the model says of them; None without any."""
    asked = OfPairs(partial(prefer, model)) if model.compares else model
    return heldout(recipe.data, recipe.seed, asked, num_prompts=num_prompts)


def prefer(model: VerdictModel, firsts: Sequence[Sample], seconds: Sequence[Sample]) -> Tensor:
    """p(the first is better) (P,); 1/2 where a picture cannot be read."""
    try:
        return model.prefer(firsts, seconds)
    except (ValueError, OSError):
        pairs = [PreferencePair(a.prompt, a, b, {}) for a, b in zip(firsts, seconds, strict=True)]
        bad = problems(pairs, lambda pair: model.inputs([pair.a], [pair.b]))
        if not bad:
            raise
    chance = torch.full((len(pairs),), 0.5)
    known = [i for i, pair in enumerate(pairs) if id(pair) not in bad]
    if known:
        chance[known] = model.prefer([firsts[i] for i in known], [seconds[i] for i in known])
    return chance


def examined(recipe: JudgeRecipe, model: VerdictModel, num_prompts: int) -> dict[str, float]:
    """Numbers to log during training."""
    found = judged(recipe, model, num_prompts)
    return {} if found is None else in_brief(found)


def measured(recipe: JudgeRecipe, model: VerdictModel) -> dict[str, Judged]:
    """By the expected mark, and by the mark the model would say (equal marks are wrong). Empty without pairs."""
    num = recipe.evaluation.final_prompts
    found = {"expected_mark": judged(recipe, model, num)}
    if not model.compares:
        model.expected = False
        found["likeliest_mark"] = judged(recipe, model, num)
        model.expected = True
    return {name: one for name, one in found.items() if one is not None}
