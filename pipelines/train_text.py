"""The verb `train-judge` for judges that write: answers from ratings first, then reinforcement by preference pairs.

Output folder: `config.yaml`, `warm-up/` and `metrics.jsonl` of the two stages, `quality.json` (held-out pair accuracy
of what the judge writes, before and after reinforcement with intervals, and the paired gain) and `judge/`, which
`--reward runs/.../judge` and `rewardmodels.load` read. All of a held-out file is measured on: no temperature and no tie
threshold is fitted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mmalign.config import load_config
from mmalign.shapes.worlds import WORLDS
from mmalign.train.loop import Run, Trainer
from mmalign.train.skips import Skips
from pipelines.gains import OfPairs, compared, gain_line, heldout, in_brief, line
from pipelines.plans import require_kinds
from pipelines.runs import (
    Say,
    begin,
    conclude,
    optimizer_of,
    plan,
    require_learned,
    write_config,
)
from pipelines.train_probability import prefer
from rewardmodels.examination import Judged
from rewardmodels.judges import trainable
from rewardmodels.judges.local import LocalEngine
from rewardmodels.judges.pairwise import PairJudge
from rewardmodels.judges.principles import PrincipleReward
from rewardmodels.judges.task import JudgeTask
from rewardmodels.judges.text import TextReward
from rewardmodels.judges.text_recipe import TextRecipe
from rewardmodels.judges.text_training import ReinforceTask, WarmUpTask
from rewardmodels.judges.writer import Writer, Writing
from rewardmodels.sources import PairSource, source_of

NAME = "overall"
"""The one score that is measured, as `quality.json` calls it."""


def run(config: str | Path, overrides: Sequence[str] = (), *, say: Say = print) -> dict[str, Any]:
    """Both stages to the end (or on from their newest checkpoints), measured before and after. Gives the figures."""
    recipe = load_config(config, overrides, TextRecipe)
    require_kinds(recipe)
    folder = Path(recipe.output)
    processes, tell = begin(recipe, say)
    if processes.is_main:
        write_config(recipe, folder)
    skips = None if recipe.data.pairs in WORLDS else Skips()
    writer = Writer(
        start_judge(recipe, str(processes.device)), recipe.judge, recipe.seed, recipe.warm_up.critique
    )
    began = time.perf_counter()
    if recipe.warm_up.updates:
        own = None if skips is None else Skips()  # it reads the file for itself
        warm_up = WarmUpTask(writer, recipe, source(recipe, own), processes, skips=own)
        num = sum(parameter.numel() for parameter in warm_up.parameters())
        tell(f"{writer.judge.name}: {num:,} trained parameters, {processes.describe()}")
        Trainer(warm_up, _warm_up_plan(recipe, warm_up), processes).train()
    before = measured(recipe, writer.judge)
    tell(f"before reinforcement: {line(before)}")
    task = ReinforceTask(
        writer, recipe, source(recipe, skips), processes, examine=partial(examined, recipe), skips=skips
    )
    make, each = optimizer_of(recipe.optimizer, task.not_matrices()), recipe.method.updates_per_iteration
    made = plan(recipe, "judge", recipe.budget.iterations, updates_each=each, make_optimizer=make)
    counters = Trainer(task, made, processes).train()
    if task.num_drawn and not counters.updates + counters.skipped:
        raise ValueError(
            f"none of {task.num_drawn} drawn answers could be read, so nothing was reinforced: raise warm_up.updates, "
            "or draw.max_tokens of judge.asks"
        )
    require_learned(counters, recipe.data.pairs)
    with task.result() as judge:
        after = measured(recipe, judge)
    quality = compared(before, after) | {
        "updates": counters.updates,
        "seconds": round(time.perf_counter() - began),
        "threads": torch.get_num_threads(),
    }
    return conclude(
        quality, folder / "judge", gain_line(quality, after), skips=skips, file=recipe.data.pairs, say=tell,
        is_main=processes.is_main,
    )  # fmt: skip


def start_judge(recipe: TextRecipe, device: str) -> Writing:
    """The judge that training starts from."""
    how = recipe.judge
    made = trainable.start_from(
        how.path, how.settings, batch_size=how.batch_size, dtype=how.dtype, device=device,
        template_file=how.template_file, critique=recipe.warm_up.critique,
    )  # fmt: skip
    assert isinstance(made, TextReward | PrincipleReward | PairJudge)
    return made


def source(recipe: TextRecipe, skips: Skips | None) -> PairSource:
    """Pairs of `overall`, with ratings of all that the warm-up asks for."""
    dimensions = tuple(dict.fromkeys(("overall", *recipe.rated.values())))
    return source_of(recipe.data, recipe.seed, dimensions, skips=skips)


def _warm_up_plan(recipe: TextRecipe, task: JudgeTask[Any, Any]) -> Run:
    """Without evaluation, at a rate of its own, in a folder beside the run's."""
    settings = recipe.optimizer.model_copy(
        update={"lr": recipe.warm_up.lr, "schedule": recipe.warm_up.schedule}
    )
    make = optimizer_of(settings, task.not_matrices())
    made = plan(recipe, "warm-up", recipe.warm_up.updates, make_optimizer=make)
    return replace(
        made, folder=made.folder / "warm-up", optimizer=settings, evaluate_every=None, last_stage=False
    )


# ---------------------------------------------------------------- measuring


def measured(recipe: TextRecipe, judge: Writing, num_prompts: int | None = None) -> dict[str, Judged]:
    """Held-out pairs with what the judge writes of them, drawn as its file says. Empty without any."""
    assert isinstance(judge.engine, LocalEngine)
    judge.engine.forget()
    asked = OfPairs(partial(prefer, judge)) if isinstance(judge, PairJudge) else judge
    found = heldout(
        recipe.data, recipe.seed, asked, num_prompts=num_prompts or recipe.evaluation.final_prompts
    )
    return {} if found is None else {NAME: found}


def examined(recipe: TextRecipe, judge: Writing, num_prompts: int) -> dict[str, float]:
    """Numbers to log during training."""
    found = measured(recipe, judge, num_prompts)
    return in_brief(found[NAME]) if found else {}
