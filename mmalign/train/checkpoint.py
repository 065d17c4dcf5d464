"""Checkpoints: everything a run needs to continue with the same bits, written all or nothing.

A checkpoint is a folder `checkpoints/000050` (50 iterations done) with

- `weights.safetensors`: what is trained and every further copy (old, EMA), as the task names them,
- `optimizer.pt`: optimiser state and the torch generators, loaded with `weights_only=True`,
- `state.json`: counters, statistics, python and numpy generators, and the recipe.

It is written under a hidden name, flushed to disk and renamed, so a killed run leaves a whole checkpoint or none.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

CHECKPOINTS = "checkpoints"
_PARTIAL = ".partial-"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run after `iteration` iterations."""

    iteration: int
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    counters: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)


def save(folder: str | Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write `checkpoint` under `folder`/checkpoints and drop all but the newest `keep`."""
    root = Path(folder) / CHECKPOINTS
    root.mkdir(parents=True, exist_ok=True)
    final = root / f"{checkpoint.iteration:06d}"
    partial = root / f"{_PARTIAL}{final.name}"
    for leftover in root.glob(f"{_PARTIAL}*"):
        shutil.rmtree(leftover)
    partial.mkdir()
    weights = {key: value.detach().cpu().contiguous().clone() for key, value in checkpoint.weights.items()}
    save_file(weights, partial / "weights.safetensors")
    torch.save({"optimizer": dict(checkpoint.optimizer), "torch_rng": _torch_rng()}, partial / "optimizer.pt")
    state = {
        "iteration": checkpoint.iteration,
        "counters": dict(checkpoint.counters),
        "python_rng": random.getstate(),
        "numpy_rng": _numpy_rng(),
        "recipe": dict(checkpoint.recipe),
    }
    (partial / "state.json").write_text(json.dumps(state), encoding="utf-8")
    for path in (*partial.iterdir(), partial):
        _flush(path)
    if final.exists():
        shutil.rmtree(final)
    os.rename(partial, final)
    _flush(root)
    for old in complete(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def complete(folder: str | Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    root = Path(folder) / CHECKPOINTS
    found = [p for p in root.glob("[0-9]*") if p.name.isdigit() and (p / "state.json").is_file()]
    return sorted(found, key=lambda p: int(p.name))


def newest(folder: str | Path) -> Path | None:
    """The last whole checkpoint of a run, if any."""
    found = complete(folder)
    return found[-1] if found else None


def clear(folder: str | Path) -> None:
    """Remove all checkpoints of a run."""
    shutil.rmtree(Path(folder) / CHECKPOINTS)


def load(path: str | Path, *, restore_rng: bool = True) -> Checkpoint:
    """Read a checkpoint; by default the global random generators continue from it too."""
    path = Path(path)
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    saved = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
    if restore_rng:
        version, internal, gauss = state["python_rng"]
        random.setstate((version, tuple(internal), gauss))
        _restore_numpy(state["numpy_rng"])
        _restore_torch(saved["torch_rng"])
    weights = load_file(path / "weights.safetensors")
    return Checkpoint(state["iteration"], weights, saved["optimizer"], state["counters"], state["recipe"])


def changed_keys(saved: Mapping[str, Any], now: Mapping[str, Any], *, ignore: frozenset[str]) -> list[str]:
    """Dotted keys at which two recipes differ, apart from those under `ignore`.

    >>> changed_keys({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ignore=frozenset())
    ['a.c']
    >>> changed_keys({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ignore=frozenset({"a"}))
    []
    """
    changed: list[str] = []
    for key in sorted({*saved, *now}):
        if key in ignore:
            continue
        before, after = saved.get(key), now.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            inner = frozenset(i.removeprefix(f"{key}.") for i in ignore if i.startswith(f"{key}."))
            changed.extend(f"{key}.{path}" for path in changed_keys(before, after, ignore=inner))
        elif before != after:
            changed.append(key)
    return changed


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _torch_rng() -> list[Tensor]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *cuda]


def _restore_torch(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if torch.cuda.is_available() and len(states) - 1 == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states[1:])


def _numpy_rng() -> list[Any]:
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  (the global generator is what is saved)
    return [name, np.asarray(keys).tolist(), *rest]


def _restore_numpy(state: list[Any]) -> None:
    name, keys, *rest = state
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
