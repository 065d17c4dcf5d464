"""Prompts, and the group sampler that hands them to the processes of a run.

A source draws the prompts of an iteration; `plan` says which samples each process makes, in micro-batches.

- Sample `i` of an iteration belongs to group `i // G`; all of this is decided from (seed, iteration) alone.
- An iteration is cut into `num_updates` equal parts (one optimiser update each); every part into equal shares,
  one a process; every share into equal micro-batches. So an update sees the same samples on any number of
  processes, and where the division comes out, a group lies whole on one process.

Shape legend: `B` micro-batch, `G` group size, `N` samples of an iteration.

>>> plan(num_groups=2, group_size=2, num_updates=1, num_processes=2, rank=1, batch_size=8).batches
(((2, 3),),)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from mmalign.console import counted
from mmalign.lines import numbered_lines
from mmalign.seeds import generator, seed_of


@dataclass(frozen=True)
class Prompt:
    """What a policy is asked for: words, the source media of an edit, and metadata for rewards."""

    text: str
    source: Path | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


class PromptSource(Protocol):
    """Draws the prompts of an iteration, the same for the same (seed, iteration)."""

    def draw(self, num: int, *, seed: int, iteration: int) -> list[Prompt]: ...


@dataclass(frozen=True)
class ShapesPrompts:
    """Prompts of the built-in world, every category equally often; small categories repeat theirs."""

    split: str
    categories: tuple[str, ...]

    def draw(self, num: int, *, seed: int, iteration: int) -> list[Prompt]:
        """`num` prompts in random order."""
        from mmalign.shapes.prompts import sample_prompts

        drawn = sample_prompts(self.split, num, seed_of(seed, "prompts", iteration) % 2**32, self.categories)
        return [Prompt(text) for text in drawn]


@dataclass(frozen=True)
class ListedPrompts:
    """Prompts of a file: every epoch is a new permutation, every prompt comes once in it."""

    prompts: tuple[Prompt, ...]

    def draw(self, num: int, *, seed: int, iteration: int) -> list[Prompt]:
        """The next `num` prompts of the endless sequence of permutations; all different."""
        total = len(self.prompts)
        if num > total:
            raise ValueError(f"an iteration needs {num} different prompts but the file has {total}")
        per_epoch = total // num
        epoch, position = divmod(iteration, per_epoch)
        order = torch.randperm(total, generator=generator(seed, "prompts", epoch)).tolist()
        return [self.prompts[i] for i in order[position * num : (position + 1) * num]]


def read_prompts(path: str | Path) -> tuple[Prompt, ...]:
    """Prompts of a .txt file (one a line) or a .jsonl file (`prompt`, optional `source`, metadata)."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no prompt file '{path}': give shapes:train, shapes:heldout, .txt or .jsonl")
    lines = list(numbered_lines(path))
    if not lines:
        raise ValueError(f"prompt file '{path}' is empty")
    if path.suffix == ".txt":
        return tuple(Prompt(line) for _, line in lines)
    if path.suffix != ".jsonl":
        raise ValueError(f"prompt file '{path}' must end in .txt or .jsonl")
    return tuple(_parse(line, path, number) for number, line in lines)


def _parse(line: str, path: Path, number: int) -> Prompt:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{number} is not valid JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        raise ValueError(f"{path}:{number} must be an object with a text 'prompt'")
    source = row.get("source")
    rest = {key: value for key, value in row.items() if key not in ("prompt", "source")}
    return Prompt(row["prompt"], path.parent / source if source else None, rest)


def prompt_source(name: str) -> PromptSource:
    """`shapes:train`, `shapes:heldout`, some categories of one (`shapes:train:counting,position`), or a file."""
    if name.startswith("shapes:"):
        from mmalign.shapes.prompts import read_source

        return ShapesPrompts(*read_source(name))
    return ListedPrompts(read_prompts(name))


# ---------------------------------------------------------------- who makes which samples


@dataclass(frozen=True)
class Plan:
    """The work of one process in every iteration: `batches[u][m]` are the sample indices of a micro-batch."""

    num_groups: int
    group_size: int
    num_processes: int
    batches: tuple[tuple[tuple[int, ...], ...], ...]
    whole_groups: bool

    @property
    def num_samples(self) -> int:
        """Samples of an iteration over all processes."""
        return self.num_groups * self.group_size

    @property
    def batch_size(self) -> int:
        return len(self.batches[0][0])

    def groups_of(self, index: Sequence[int]) -> list[int]:
        """The group id of every sample."""
        return [i // self.group_size for i in index]

    def describe(self) -> str:
        """The batch arithmetic in one line."""
        updates, accumulate = len(self.batches), len(self.batches[0])
        whole = "groups whole on a process" if self.whole_groups else "groups split over processes"
        return (
            f"{counted(self.num_groups, 'group')} x {self.group_size} = {counted(self.num_samples, 'sample')} "
            f"an iteration = {counted(updates, 'update')} x {counted(self.num_processes, 'process', 'processes')} "
            f"x {counted(accumulate, 'micro-batch', 'micro-batches')} x {self.batch_size} ({whole})"
        )


def plan(
    *, num_groups: int, group_size: int, num_updates: int, num_processes: int, rank: int, batch_size: int
) -> Plan:
    """The micro-batches of process `rank`; a division that leaves a rest is an error."""
    total, parts = num_groups * group_size, num_updates * num_processes
    if total % parts:
        raise ValueError(
            f"{num_groups} groups x {group_size} = {total} samples cannot be cut into {num_updates} updates "
            f"x {num_processes} processes: choose rollout.groups_per_iteration as a multiple of {parts}"
        )
    share = total // parts
    batch = max(size for size in range(1, min(batch_size, share) + 1) if share % size == 0)
    batches = []
    for update in range(num_updates):
        start = (update * num_processes + rank) * share
        batches.append(tuple(tuple(range(low, low + batch)) for low in range(start, start + share, batch)))
    return Plan(num_groups, group_size, num_processes, tuple(batches), whole_groups=share % group_size == 0)
