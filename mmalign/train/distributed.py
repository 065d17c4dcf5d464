"""One process or many: gather rows, add up numbers and gradients. The same code under `accelerate launch`.

Gradients are summed once per optimiser update, after all micro-batches, in one flat exchange; the loss is
divided by the number of samples on all processes beforehand, so any number of processes gives the same update.
Without a GPU the processes of `accelerate launch --multi_gpu` (or torchrun) talk over gloo; `accelerate launch
--cpu` starts a single process whatever number it is given, which is refused here rather than passed over.

Shape legend: `B` rows of this process, `N` rows of all processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedType, ProjectConfiguration
from torch import Tensor, nn

from mmalign.console import counted


def start(folder: str | Path | None = None, trackers: Sequence[str] = ()) -> Accelerator:
    """This process's accelerator: the GPU if there is one, joined with its siblings if it was launched with any."""
    environment = os.environ
    wanted = int(environment.get("WORLD_SIZE", "1"))
    if (
        environment.get("ACCELERATE_USE_CPU", "").lower() == "true"
        and wanted == 1
        and "MASTER_PORT" in environment
    ):
        raise ValueError(
            "accelerate launch --cpu starts one process only: for several on a CPU use --multi_gpu instead of --cpu, "
            "or torchrun --nproc-per-node"
        )
    made = Accelerator(
        cpu=not torch.accelerator.is_available(),
        log_with=list(trackers) or None,
        project_config=None if folder is None else _folders(Path(folder)),
    )
    if made.num_processes != wanted:
        raise ValueError(
            f"{wanted} processes were launched but they do not see each other ({made.num_processes})"
        )
    refuse_what_is_not_used(made)
    return made


def refuse_what_is_not_used(accelerator: Accelerator) -> None:
    """Settings of `accelerate launch` that this loop does not look at must not seem to work."""
    if accelerator.mixed_precision != "no":
        raise ValueError(
            f"accelerate's mixed_precision={accelerator.mixed_precision} is not used here: set model.dtype in the "
            "recipe, and launch with --mixed_precision no"
        )
    kind = accelerator.distributed_type
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ValueError(
            f"{kind.value} is not supported, every process holds the whole network: launch with --multi_gpu"
        )


def _folders(folder: Path) -> ProjectConfiguration:
    """Trackers write under `<folder>/trackers`."""
    return ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "trackers"))


class Processes:
    """What a task needs to know of its sibling processes; alone it is the identity."""

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self.accelerator = accelerator if accelerator is not None else start()
        self.device = self.accelerator.device
        self.rank, self.num = self.accelerator.process_index, self.accelerator.num_processes
        self.is_main = self.accelerator.is_main_process

    def share(self, iteration: int, num: int, field: str) -> range:
        """The numbers of those of this process among the `num` bundles of an iteration, so that any number of processes
        learns from the same ones; ValueError, which names the recipe's `field`, where some process would have none.
        """
        if num < self.num:
            raise ValueError(
                f"{field} is {num}, and {self.num} processes are to share the bundles of an update: with fewer bundles "
                f"than processes some would idle. Set {field}={self.num} or more (each has as many pairs as before)"
            )
        return range(iteration * num + self.rank, (iteration + 1) * num, self.num)

    def describe(self) -> str:
        """How many, and where, in words."""
        return f"{counted(self.num, 'process', 'processes')} on {self.device}"

    def gather(self, rows: Tensor) -> Tensor:
        """(B, ...) of every process as (N, ...), in order of rank; B may differ between processes."""
        if self.num == 1:
            return rows
        counts: list[int] = [0] * self.num
        dist.all_gather_object(counts, int(rows.shape[0]))
        size = max(counts)
        padded = rows.new_zeros((size, *rows.shape[1:])).to(self.device)
        padded[: rows.shape[0]] = rows.to(self.device)
        parts = [torch.empty_like(padded) for _ in range(self.num)]
        dist.all_gather(parts, padded.contiguous())
        whole = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
        return whole.to(rows.device)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each number added up over the processes."""
        return self._reduce(values, "sum")

    def max(self, values: Sequence[float]) -> list[float]:
        """The largest of each number over the processes."""
        return self._reduce(values, "max")

    def _reduce(self, values: Sequence[float], how: str) -> list[float]:
        if self.num == 1 or not values:
            return list(values)
        table = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(table, op=dist.ReduceOp.SUM if how == "sum" else dist.ReduceOp.MAX)
        return [float(value) for value in table]

    def union(self, names: Iterable[str]) -> list[str]:
        """The names any process knows, sorted."""
        if self.num == 1:
            return sorted(names)
        known: list[list[str]] = [[] for _ in range(self.num)]
        dist.all_gather_object(known, list(names))
        return sorted({name for part in known for name in part})

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes; parameters without one on some process count as zero."""
        chosen = list(parameters)
        if self.num == 1 or not chosen:
            return
        for parameter in chosen:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([p.grad.float().reshape(-1) for p in chosen if p.grad is not None]).to(self.device)
        dist.all_reduce(flat)
        offset = 0
        for parameter in chosen:
            grad = parameter.grad
            assert grad is not None
            grad.copy_(flat[offset : offset + grad.numel()].view_as(grad))
            offset += grad.numel()

    def broadcast(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every process starts from the values of the first."""
        if self.num == 1:
            return
        for parameter in parameters:
            dist.broadcast(parameter.data, src=0)

    def wait(self) -> None:
        """Until all processes are here."""
        self.accelerator.wait_for_everyone()
