"""The one training loop: any task that yields updates of per-sample losses is trained, logged and resumable.

A `Task` (fine-tuning a generator, training a reward model) says which micro-batches an optimiser update has and
how each becomes a `Loss`; the loop adds the gradients of all micro-batches and processes, steps, evaluates,
logs and checkpoints. A loss is divided by the number of per-sample losses of the update on *all* processes, so
micro-batch size and process count are a matter of memory and speed only.

Shape legend: `B` samples of a micro-batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mmalign.config import Checkpoint as CheckpointSettings
from mmalign.config import Optimizer as OptimizerSettings
from mmalign.train import checkpoint as checkpoints
from mmalign.train.distributed import Processes
from mmalign.train.gauge import Gauge
from mmalign.train.optimizers import Joint
from mmalign.train.trackers import Trackers
from mmalign.types import Loss

RESUMABLE = frozenset({"budget.iterations", "evaluation", "checkpoint", "trackers", "output"})
"""Recipe keys that may change between a checkpoint and its continuation."""
MAX_SKIPPED = 5
HALF_LOSS_SCALE = 2.0**16
"""Where the loss scale of a float16 network starts: its gradients are too small for float16 otherwise."""


@dataclass(frozen=True, eq=False)
class Update:
    """One optimiser update on this process.

    `num_losses` counts the per-sample losses, also those left out of `losses` because they are known to be zero.
    """

    num_losses: int
    losses: Iterable[Callable[[], Loss]]


@dataclass(frozen=True, eq=False)
class Report:
    """What an evaluation found: numbers to log, pictures (N, C, H, W) for a grid, a row a sample."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    images: Tensor | None = None
    columns: int = 8
    rows: Sequence[Mapping[str, Any]] = ()


class Task(Protocol):
    """What is trained. Iterations count from 0; the same calls come in the same order on every process."""

    def parameters(self) -> list[nn.Parameter]: ...

    def updates(self, iteration: int) -> Iterator[Update]: ...

    def finish(self, iteration: int, num_updates: int) -> Mapping[str, float]:
        """After the updates: move old and averaged copies; numbers of the iteration to log."""
        ...

    def evaluate(self, iteration: int) -> Report: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...

    def save(self, folder: Path) -> None:
        """Write what a user takes away."""
        ...


@dataclass(frozen=True, eq=False)
class Run:
    """How long, how fast and where; `recipe` is the resolved recipe as plain values."""

    folder: Path
    iterations: int
    num_updates: int
    optimizer: OptimizerSettings
    checkpoint: CheckpointSettings
    evaluate_every: int | None
    recipe: Mapping[str, Any]
    trackers: tuple[str, ...] = ()
    watch: Callable[[int, Mapping[str, float]], None] | None = None
    title: str = "training"
    make_optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer | Joint] | None = None
    """Another optimiser than AdamW, for the parameters of the task."""
    last_stage: bool = True
    """Whether the processes part at the end; not where another training of theirs follows."""
    loss_scale: float = 1.0
    """Losses are multiplied by it before `backward` and gradients divided by it after; halved at each overflow."""


@dataclass
class Counters:
    """What has happened so far; saved in every checkpoint."""

    iteration: int = 0
    updates: int = 0
    skipped: int = 0
    seconds: float = 0.0
    loss_scale: float = 1.0


def learning_rate(settings: OptimizerSettings, update: int, num_updates: int) -> float:
    """Linear warm-up, then constant or half a cosine down to zero; a function of the update count alone."""
    if update < settings.warmup:
        return settings.lr * (update + 1) / settings.warmup
    if settings.schedule == "constant":
        return settings.lr
    progress = (update - settings.warmup) / max(1, num_updates - settings.warmup)
    return settings.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def adamw(parameters: list[nn.Parameter], *, settings: OptimizerSettings) -> torch.optim.AdamW:
    """The usual optimiser."""
    return torch.optim.AdamW(
        parameters, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay
    )


class Trainer:
    """Runs a task to its end, from its newest checkpoint if there is one."""

    def __init__(self, task: Task, run: Run, processes: Processes) -> None:
        self.task, self.run, self.processes = task, run, processes
        self.parameters = task.parameters()
        if not self.parameters:
            raise ValueError("nothing to train: no parameter of the task requires a gradient")
        self.counters = Counters(loss_scale=run.loss_scale)
        self.optimizer = (run.make_optimizer or partial(adamw, settings=run.optimizer))(self.parameters)
        accelerator = processes.accelerator
        self.trackers = Trackers(run.folder, accelerator=accelerator, config=run.recipe, active=run.trackers)

    def train(self) -> Counters:
        """All iterations; then the result is saved."""
        self.processes.broadcast(self.parameters)
        self._resume()
        started = time.perf_counter() - self.counters.seconds
        first = self.counters.iteration
        if first == 0 and self.run.evaluate_every is not None:
            self._log(0, self._evaluate(0))
        bar = tqdm(
            total=self.run.iterations, initial=first, desc=self.run.title, unit="it",
            disable=not self.processes.is_main,
        )  # fmt: skip
        with bar:
            for index in range(first, self.run.iterations):
                row = self._iteration(index)
                self.counters.iteration = index + 1
                self.counters.seconds = time.perf_counter() - started
                row = {**row, "seconds": self.counters.seconds}
                if self._due(self.run.evaluate_every):
                    row |= self._evaluate(index + 1)
                self._log(index + 1, row)
                if self._due(self.run.checkpoint.every):
                    self._save_checkpoint()
                bar.update()
                bar.set_postfix({key: f"{row[key]:.4g}" for key in ("loss", "reward") if key in row})
        if self.processes.is_main:
            self.task.save(self.run.folder)
        self.processes.wait()
        self.trackers.close(part=self.run.last_stage)
        return self.counters

    # ------------------------------------------------------------ one iteration

    def _iteration(self, index: int) -> dict[str, float]:
        rows: list[dict[str, float]] = []
        for update in self.task.updates(index):
            rows.append(self._update(update))
        row = {
            key: _mean([r[key] for r in rows if key in r])
            for key in dict.fromkeys(k for r in rows for k in r)
        }
        if rows and "ratio_deviation_max" in rows[0]:  # before anything was updated: exactly 0
            row["first_ratio_deviation"] = rows[0]["ratio_deviation_max"]
        row |= dict(self.task.finish(index, self.counters.updates))
        row["updates"] = float(self.counters.updates)
        row["skipped_updates"] = float(self.counters.skipped)
        return row

    def _update(self, update: Update) -> dict[str, float]:
        """Gradients of all micro-batches on all processes, then one step; a step that is not finite is skipped."""
        (total,) = self.processes.sum([float(update.num_losses)])
        self.optimizer.zero_grad(set_to_none=True)
        gauge = Gauge()
        scale = self.counters.loss_scale
        for make in update.losses:
            loss = make()
            (loss.per_sample.sum() / total * scale).backward()
            gauge.add(loss)
        metrics = gauge.reduce(self.processes, total)
        (evaluated,) = self.processes.sum([float(gauge.rows)])
        if evaluated == 0:
            return metrics | {"empty_updates": 1.0}
        self.processes.sum_gradients(self.parameters)
        if scale != 1.0:
            metrics["loss_scale"] = scale
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(scale)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.run.optimizer.max_grad_norm))
        if not math.isfinite(norm):
            self._skip()
            return metrics
        rate = learning_rate(self.run.optimizer, self.counters.updates, self.run.num_updates)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.counters.updates += 1
        return metrics | {"grad_norm": norm, "lr": rate}

    def _skip(self) -> None:
        """Count a step that is not finite: with scaled losses it overflowed, otherwise few are borne."""
        self.counters.skipped += 1
        if self.counters.loss_scale > 1.0:
            self.counters.loss_scale /= 2
        elif self.counters.skipped > MAX_SKIPPED:
            raise ValueError(
                f"{self.counters.skipped} updates had gradients that are not finite: lower optimizer.lr, or "
                "train in float32"
            )

    # ------------------------------------------------------------ evaluation, logs, checkpoints

    def _due(self, every: int | None) -> bool:
        """Every so many iterations, and at the end."""
        done = self.counters.iteration
        return every is not None and (done % every == 0 or done == self.run.iterations)

    def _evaluate(self, iteration: int) -> dict[str, float]:
        report = self.task.evaluate(iteration)
        if report.images is not None:
            self.trackers.images(iteration, "samples", report.images, columns=report.columns)
        self.trackers.evaluation(iteration, report.rows)
        return {f"eval/{key}": value for key, value in report.metrics.items()}

    def _log(self, iteration: int, row: Mapping[str, float]) -> None:
        self.trackers.log(iteration, row)
        if self.run.watch is not None and self.processes.is_main:
            self.run.watch(iteration, row)

    def _save_checkpoint(self) -> None:
        if self.processes.is_main:
            made = checkpoints.Checkpoint(
                self.counters.iteration,
                self.task.state_dict(),
                self.optimizer.state_dict(),
                vars(self.counters),
                self.run.recipe,
            )
            checkpoints.save(self.run.folder, made, keep=self.run.checkpoint.keep)
        self.processes.wait()

    def _resume(self) -> None:
        newest = checkpoints.newest(self.run.folder)
        if newest is None or self.run.checkpoint.resume == "never":
            if newest is not None and self.processes.is_main:
                checkpoints.clear(self.run.folder)
            self.trackers.resume(-1)
            return
        loaded = checkpoints.load(newest)
        changed = checkpoints.changed_keys(loaded.recipe, self.run.recipe, ignore=RESUMABLE)
        if changed:
            raise ValueError(
                f"{newest} was made with another recipe ({', '.join(changed[:3])} changed): choose another "
                "output, or start over with checkpoint.resume=never"
            )
        self.task.load_state_dict(loaded.weights)
        self.optimizer.load_state_dict(dict(loaded.optimizer))
        self.counters = Counters(**loaded.counters)
        self.trackers.resume(loaded.iteration)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
