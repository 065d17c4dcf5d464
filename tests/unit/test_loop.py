"""The loop on a task small enough to do by hand: what a float16 network needs, and what happens to broken steps.

Shape legend: `B` samples of a micro-batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmalign.config import Checkpoint, Optimizer
from mmalign.train.distributed import Processes
from mmalign.train.loop import HALF_LOSS_SCALE, MAX_SKIPPED, Counters, Report, Run, Trainer, Update
from mmalign.types import Loss


class Slope:
    """Loss `factor * mean(weight * x)` through float16: the gradient of the weight is the factor times mean(x)."""

    def __init__(self, factor: float, num_iterations_broken: int = 0) -> None:
        self.weight = nn.Parameter(torch.zeros(()))
        self.factor, self.broken = factor, num_iterations_broken

    def parameters(self) -> list[nn.Parameter]:
        return [self.weight]

    def _loss(self, iteration: int) -> Loss:
        half = self.weight.half() * torch.tensor([1.0, 3.0], dtype=torch.float16)
        factor = math.inf if iteration < self.broken else self.factor
        return Loss(half.float() * factor)

    def updates(self, iteration: int) -> Iterator[Update]:
        yield Update(2, [partial(self._loss, iteration)])

    def finish(self, iteration: int, num_updates: int) -> Mapping[str, float]:
        return {}

    def evaluate(self, iteration: int) -> Report:
        return Report()

    def state_dict(self) -> dict[str, Tensor]:
        return {"weight": self.weight}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.weight.data.copy_(state["weight"])

    def save(self, folder: Path) -> None:
        pass


def descent(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1.0)


def trained(task: Slope, folder: Path, *, iterations: int, loss_scale: float) -> Counters:
    run = Run(
        folder, iterations, iterations, Optimizer(lr=1.0, max_grad_norm=1e9), Checkpoint(every=None), None, {},
        make_optimizer=descent, loss_scale=loss_scale,
    )  # fmt: skip
    return Trainer(task, run, Processes()).train()  # type: ignore[arg-type]


@pytest.mark.parametrize("factor", [1.0, 1e-8])
def test_scaled_losses_reach_through_float16(tmp_path: Path, factor: float) -> None:
    """Without the scale 1e-8 / 2 is nothing in float16; with it the step is the one of float32."""
    plain, scaled = Slope(factor), Slope(factor)
    trained(plain, tmp_path / "plain", iterations=1, loss_scale=1.0)
    trained(scaled, tmp_path / "scaled", iterations=1, loss_scale=2.0**14)
    assert float(plain.weight.detach()) == (-2.0 if factor == 1.0 else 0.0)
    assert float(scaled.weight.detach()) == pytest.approx(-2.0 * factor, rel=1e-2)


def test_an_overflow_halves_the_scale_and_leaves_the_weights(tmp_path: Path) -> None:
    """2^16 and 2^15 times 3/2 are too much for float16 (65504 at most); 2^14 times 3 / 2 + 1 / 2 is not."""
    task = Slope(1.0)
    counters = trained(task, tmp_path, iterations=3, loss_scale=HALF_LOSS_SCALE)
    assert (counters.skipped, counters.updates, counters.loss_scale) == (2, 1, 2.0**14)
    assert float(task.weight.detach()) == -2.0


def test_an_overflow_is_borne_longer_than_a_broken_loss(tmp_path: Path) -> None:
    task = Slope(1.0, num_iterations_broken=MAX_SKIPPED + 2)
    counters = trained(task, tmp_path, iterations=MAX_SKIPPED + 3, loss_scale=HALF_LOSS_SCALE)
    assert counters.updates == 1 and counters.loss_scale == HALF_LOSS_SCALE / 2 ** (MAX_SKIPPED + 2)


def test_broken_losses_end_the_run_with_advice(tmp_path: Path) -> None:
    task = Slope(1.0, num_iterations_broken=MAX_SKIPPED + 1)
    with pytest.raises(ValueError, match=r"lower optimizer\.lr"):
        trained(task, tmp_path, iterations=MAX_SKIPPED + 2, loss_scale=1.0)
    assert float(task.weight.detach()) == 0.0
