"""What the verbs that train share: how a run starts, its plan, and what is written at its end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel
from torch import nn

from mmalign.config import Checkpoint, Optimizer, to_yaml
from mmalign.train import optimizers
from mmalign.train.distributed import Processes, start
from mmalign.train.loop import Counters, Run
from mmalign.train.skips import Skips
from mmalign.train.trackers import check_available
from rewardmodels.recipe import RewardOptimizer

Say = Callable[[str], None]


class _Evaluation(Protocol):
    @property
    def every(self) -> int | None: ...


class Recipe(Protocol):
    """The sections that every recipe of a training ends with."""

    @property
    def optimizer(self) -> Optimizer: ...
    @property
    def checkpoint(self) -> Checkpoint: ...
    @property
    def evaluation(self) -> _Evaluation: ...
    @property
    def output(self) -> str: ...
    @property
    def trackers(self) -> tuple[str, ...]: ...
    def model_dump(self, *, mode: str) -> dict[str, Any]: ...


def begin(recipe: Recipe, say: Say) -> tuple[Processes, Say]:
    """The processes of a run, of which only the first says anything."""
    check_available(recipe.trackers)
    processes = Processes(start(Path(recipe.output), recipe.trackers))
    return processes, say if processes.is_main else (lambda _: None)


def plan(recipe: Recipe, title: str, iterations: int, *, updates_each: int = 1, **more: Any) -> Run:
    """So many iterations as the closing sections say; `more` are other fields of the run."""
    return Run(
        folder=Path(recipe.output),
        iterations=iterations,
        num_updates=iterations * updates_each,
        optimizer=recipe.optimizer,
        checkpoint=recipe.checkpoint,
        evaluate_every=recipe.evaluation.every,
        recipe=recipe.model_dump(mode="json"),
        trackers=recipe.trackers,
        title=title,
        **more,
    )


def require_learned(counters: Counters, pairs: str) -> None:
    """ValueError where a judge went through its pairs and none could teach it."""
    if counters.updates == counters.skipped == 0:
        raise ValueError(
            f"{pairs}: no comparison has two pictures of one prompt and a winner of 'overall', so nothing was "
            "learned: `mmalign data check` shows what it holds"
        )


def optimizer_of(
    settings: RewardOptimizer, not_matrices: list[nn.Parameter]
) -> Callable[[list[nn.Parameter]], Any]:
    """How a reward's optimiser is made of its parameters."""
    return partial(
        optimizers.build, name=settings.name, lr=settings.lr, betas=settings.betas,
        weight_decay=settings.weight_decay, not_matrices=not_matrices,
    )  # fmt: skip


def write_config(recipe: BaseModel, folder: Path) -> None:
    """The resolved recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(to_yaml(recipe), encoding="utf-8")


def write_quality(quality: Mapping[str, Any], folder: Path) -> None:
    """What was measured."""
    (folder / "quality.json").write_text(json.dumps(quality, indent=2) + "\n", encoding="utf-8")


def report_left_out(skips: Skips | None, file: str, quality: dict[str, Any], say: Say) -> None:
    """What was left out of the file of a run, among its figures and told."""
    if skips is None:
        return
    quality["left_out"] = skips.as_dict(file)
    if skips.bad:
        say(skips.summary(file))


def conclude(
    quality: dict[str, Any],
    saved: Path,
    line: str,
    *,
    skips: Skips | None,
    file: str,
    say: Say,
    is_main: bool = True,
) -> dict[str, Any]:
    """The end of a training whose model was saved: what was left out, `quality.json` beside the model, a line about
    both; only then the error for a file that was half bad. Gives the figures.
    """
    report_left_out(skips, file, quality, say)
    if is_main:
        write_quality(quality, saved.parent)
    say(f"{line}; {saved}")
    if skips is not None:
        skips.conclude(file, saved)
    return quality
