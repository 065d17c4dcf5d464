"""The verb `train-judge` for judges of token probabilities: their model, or the weights of a checklist, from pairs.

Output folder: `config.yaml`, `quality.json` (held-out pair accuracy before and after with intervals, beside the best
that anyone can expect where the world is built in, three-way with ties up to `tie_threshold`; and the paired gain) and
`judge/`, which `--reward runs/.../judge` and `rewardmodels.load` read, with its temperature and tie threshold. A
training has `metrics.jsonl` and `checkpoints/` beside them, a checklist `weights.json`, the `weights_file` of that
checklist wherever it is used.

Held-out prompts are halved, those of a file by name: one half is measured on, what says how sure the judge is (the
temperature; of a judge of pairs the tie threshold alone) is fitted on the other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmalign.config import load_config
from mmalign.shapes.worlds import WORLDS
from mmalign.stats.calibration import fit_temperature
from mmalign.train.loop import Trainer
from mmalign.train.skips import Skips, samples_of, usable
from mmalign.types import Sample
from pipelines.gains import OfPairs, compared, gain_line, heldout, in_brief, line
from pipelines.plans import require_kinds
from pipelines.runs import (
    Say,
    begin,
    conclude,
    optimizer_of,
    plan,
    report_left_out,
    require_learned,
    write_config,
    write_quality,
)
from rewardmodels.batching import prepare
from rewardmodels.examination import Half, Judged, tie_threshold
from rewardmodels.judges import trainable
from rewardmodels.judges.calibration import UNFITTED, Calibration
from rewardmodels.judges.checklist import ChecklistReward
from rewardmodels.judges.learner import Learner
from rewardmodels.judges.pairwise import PairJudge
from rewardmodels.judges.probability import DigitReward, YesNoReward
from rewardmodels.judges.probability_recipe import ChecklistRecipe, ProbabilityRecipe
from rewardmodels.judges.probability_training import ProbabilityTask
from rewardmodels.judges.trainable import Judge
from rewardmodels.sources import PairSource, source_of

AnyRecipe = ProbabilityRecipe | ChecklistRecipe
NAME = "probability"
"""The one score that is measured, as `quality.json` calls it."""


def run(config: str | Path, overrides: Sequence[str] = (), *, say: Say = print) -> dict[str, Any]:
    """Train to the end (or on from the newest checkpoint), measured before and after. Gives the figures."""
    recipe = load_config(config, overrides, ProbabilityRecipe)
    require_kinds(recipe)
    folder = Path(recipe.output)
    processes, tell = begin(recipe, say)
    if processes.is_main:
        write_config(recipe, folder)
    skips = None if recipe.data.pairs in WORLDS else Skips()
    judge = start_judge(recipe, str(processes.device))
    assert isinstance(judge, YesNoReward | DigitReward | PairJudge)
    task = ProbabilityTask(
        Learner(judge, recipe.judge, recipe.seed), recipe, pairs_of(recipe, skips), processes,
        examine=partial(examined, recipe), skips=skips,
    )  # fmt: skip
    num = sum(parameter.numel() for parameter in task.parameters())
    tell(f"{judge.name}: {num:,} trained parameters, {processes.describe()}")
    before = measured(recipe, judge)
    tell(f"before: {line(before)}")
    make = optimizer_of(recipe.optimizer, task.not_matrices())
    run_of = plan(recipe, "judge", recipe.budget.iterations, make_optimizer=make)
    counters = Trainer(task, run_of, processes).train()
    require_learned(counters, recipe.data.pairs)
    with task.result():
        after, judge.calibration = measured(recipe, judge), calibrated(recipe, judge)
    if processes.is_main:
        trainable.write_calibration(judge, folder / "judge")
    quality = compared(before, after, tie_threshold=judge.calibration.tie_threshold) | {
        **asdict(judge.calibration),
        "updates": counters.updates,
        "seconds": round(counters.seconds),
        "threads": torch.get_num_threads(),
    }
    return conclude(
        quality, folder / "judge", gain_line(quality, after), skips=skips, file=recipe.data.pairs, say=tell,
        is_main=processes.is_main,
    )  # fmt: skip


def run_checklist(config: str | Path, overrides: Sequence[str] = (), *, say: Say = print) -> dict[str, Any]:
    """Learn the weights of a checklist from pairs, measured before (the judge file's weights) and after."""
    recipe = load_config(config, overrides, ChecklistRecipe)
    require_kinds(recipe)
    folder = Path(recipe.output)
    write_config(recipe, folder)
    skips = None if recipe.data.pairs in WORLDS else Skips()
    judge = start_judge(recipe, "cuda" if torch.cuda.is_available() else "cpu")
    assert isinstance(judge, ChecklistReward)
    began = time.perf_counter()
    before = measured(recipe, judge)
    say(f"before: {line(before)}")
    source, num = pairs_of(recipe, skips), recipe.budget.iterations * recipe.budget.bundles_per_iteration
    pairs = [pair for number in range(num) for pair in source.bundle(number, number / num)]
    look = partial(prepare, modalities=judge.modalities)
    pairs = usable(pairs, samples_of(pairs), look, skips)
    if skips is not None:
        skips.settle()
        skips.require_few(recipe.data.pairs, last=True)
    used = judge.learn(pairs, ridge=recipe.method.ridge)
    after, judge.calibration = measured(recipe, judge), calibrated(recipe, judge)
    judge.save_weights(folder / "weights.json")
    path = recipe.judge.path
    there = str(Path(path).resolve()) if Path(path).is_dir() else path
    own = trainable.is_reward_model(path)  # it has new words, so its weights are nowhere else
    trainable.save(judge, folder / "judge", model=None if own else there)
    quality = compared(before, after, tie_threshold=judge.calibration.tie_threshold) | {
        **asdict(judge.calibration),
        "weights": dict(zip(judge.dimensions, judge.weights, strict=True)),
        "pairs": len(pairs),
        "pairs_used": used,
        "seconds": round(time.perf_counter() - began),
    }
    report_left_out(skips, recipe.data.pairs, quality, say)
    write_quality(quality, folder)
    say(f"{gain_line(quality, after)}; {folder / 'judge'}")
    return quality


def start_judge(recipe: AnyRecipe, device: str) -> Judge:
    """The judge that training starts from."""
    how = recipe.judge
    return trainable.start_from(
        how.path, how.settings, batch_size=how.batch_size, dtype=how.dtype, device=device,
        template_file=how.template_file,
    )  # fmt: skip


def pairs_of(recipe: AnyRecipe, skips: Skips | None) -> PairSource:
    """Pairs of a built-in world or of a file, with its critiques."""
    return source_of(recipe.data, recipe.seed, ("overall",), skips=skips)


# ---------------------------------------------------------------- measuring


def measured(
    recipe: AnyRecipe, judge: Judge, num_prompts: int | None = None, half: Half = "evaluation"
) -> dict[str, Judged]:
    """Held-out pairs with what the judge says of them. Empty without any."""
    asked = OfPairs(partial(prefer, judge)) if isinstance(judge, PairJudge) else judge
    num = num_prompts or recipe.evaluation.final_prompts
    found = heldout(recipe.data, recipe.seed, asked, num_prompts=num, half=half)
    return {} if found is None else {NAME: found}


def calibrated(recipe: AnyRecipe, judge: Judge) -> Calibration:
    """Temperature and tie threshold by prompts that are not measured on; where there are none, what nobody fitted.

    Pairs that cannot be judged stand as ties, which they are at every threshold and temperature: they move neither.
    """
    pairs, tied = isinstance(judge, PairJudge), recipe.data.shapes.theta != 1.0
    if pairs and recipe.data.heldout in WORLDS and not tied:
        return UNFITTED  # there is nothing to fit
    found = measured(recipe, judge, half="calibration").get(NAME)
    if found is None:
        return UNFITTED
    threshold = tie_threshold(found.gap, found.label)
    if pairs or not bool(found.gap.any()):
        return Calibration(tie_threshold=threshold)
    return Calibration(fit_temperature(found.gap.numpy(), found.label.numpy()), threshold)


def examined(recipe: ProbabilityRecipe, judge: Judge, num_prompts: int) -> dict[str, float]:
    """Numbers to log during training."""
    found = measured(recipe, judge, num_prompts)
    return in_brief(found[NAME]) if found else {}


def prefer(judge: PairJudge, firsts: Sequence[Sample], seconds: Sequence[Sample]) -> Tensor:
    """p(the first is better) (P,); 1/2 where the judge cannot say."""
    decisions = judge.compare(list(zip(firsts, seconds, strict=True)))
    return torch.tensor([one.probability for one in decisions]).nan_to_num(0.5)
