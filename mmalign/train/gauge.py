"""The metrics of an update: averages over its micro-batches and over all processes.

Shape legend: `B` samples of a micro-batch.
"""

from __future__ import annotations

import math

from mmalign.train.distributed import Processes
from mmalign.types import Loss


class Gauge:
    """Averages the metrics of micro-batches by their number of samples; names ending in `_max` keep the largest."""

    def __init__(self) -> None:
        self.rows = 0
        self.means: dict[str, tuple[float, float]] = {}
        self.largest: dict[str, float] = {}
        self.loss = 0.0

    def add(self, loss: Loss) -> None:
        rows = int(loss.per_sample.shape[0])
        self.rows += rows
        self.loss += float(loss.per_sample.detach().sum())
        for key, tensor in loss.metrics.items():
            value = float(tensor)
            if math.isnan(value):
                continue
            if key.endswith("_max"):
                self.largest[key] = max(value, self.largest.get(key, -math.inf))
            else:
                total, count = self.means.get(key, (0.0, 0.0))
                self.means[key] = (total + value * rows, count + rows)

    def reduce(self, processes: Processes, num_losses: float) -> dict[str, float]:
        """Over all processes. A process without micro-batches takes part with the names of the others."""
        names, tops = processes.union(self.means), processes.union(self.largest)
        table = [self.loss]
        for name in names:
            table.extend(self.means.get(name, (0.0, 0.0)))
        loss, *sums = processes.sum(table)
        metrics = {"loss": loss / max(num_losses, 1.0)}
        for position, name in enumerate(names):
            total, count = sums[2 * position : 2 * position + 2]
            metrics[name] = total / count
        largest = processes.max([self.largest.get(name, -math.inf) for name in tops])
        return metrics | dict(zip(tops, largest, strict=True))
