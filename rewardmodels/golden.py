"""Golden scores: samples and what a checkpoint gave for them, kept beside it, so that every copy can prove itself.

`golden.json`: {"schema", "tolerance", "dimensions", "samples": [{"prompt", "media", "source", "values", "overall"}]},
media as paths relative to the file.

Legend: B samples, D dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from mmalign.types import RewardModel, Sample

GOLDEN, SCHEMA = "golden.json", "mmalign.golden/1"
Reward = TypeVar("Reward", bound=RewardModel)


def write_golden(
    reward: RewardModel, samples: Sequence[Sample], folder: str | Path, *, tolerance: float = 1e-3
) -> Path:
    """Score samples, whose media are files below `folder`, and write golden.json there."""
    target = Path(folder)
    scores = reward(samples=samples)
    bad = [reason for reason in scores.reasons if reason]
    if bad:
        raise ValueError(f"golden samples must be judged: {bad[0]}")
    rows = [
        {
            "prompt": sample.prompt, "media": _below(sample.media, target),
            "source": None if sample.source is None else _below(sample.source, target),
            "values": values.tolist(), "overall": float(overall),
        }
        for sample, values, overall in zip(samples, scores.values, scores.overall, strict=True)
    ]  # fmt: skip
    record = {"schema": SCHEMA, "tolerance": tolerance, "dimensions": list(scores.names), "samples": rows}
    (target / GOLDEN).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return target / GOLDEN


def verify(reward: Reward, folder: str | Path) -> Reward:
    """The reward itself, if it gives the scores of the folder's golden.json; otherwise ValueError with the worst."""
    file = Path(folder) / GOLDEN
    if not file.is_file():
        raise ValueError(
            f"{folder} holds no {GOLDEN}: write one with rewardmodels.golden.write_golden, or golden=False"
        )
    record = json.loads(file.read_text(encoding="utf-8"))
    if record.get("schema") != SCHEMA or not record.get("samples"):
        raise ValueError(f"{file} is not a {SCHEMA} record with samples")
    if tuple(record["dimensions"]) != tuple(reward.dimensions):
        raise ValueError(f"{file} is of {record['dimensions']}, the reward judges {list(reward.dimensions)}")
    rows = record["samples"]
    scores = reward(samples=[_sample(row, file.parent) for row in rows])
    expected = torch.tensor([[*row["values"], row["overall"]] for row in rows])
    given = torch.cat([scores.values, scores.overall[:, None]], 1)
    away = (given - expected).abs().amax(dim=1)
    worst = int(away.nan_to_num(nan=float("inf")).argmax())
    if not bool((away <= record["tolerance"]).all()):  # also false for NaN
        why = scores.reasons[worst] or f"{given[worst].tolist()} instead of {expected[worst].tolist()}"
        raise ValueError(
            f"{file}: sample {worst} ({rows[worst]['prompt'][:40]!r}) gave {why}, tolerance {record['tolerance']}: "
            "weights, prompt or library differ from those the golden scores were made with"
        )
    return reward


def _below(media: Any, folder: Path) -> str:
    if not isinstance(media, Path):
        raise ValueError("golden samples need media as files beside golden.json, not tensors")
    return media.resolve().relative_to(folder.resolve()).as_posix()


def _sample(row: dict[str, Any], folder: Path) -> Sample:
    return Sample(row["prompt"], folder / row["media"], folder / row["source"] if row["source"] else None)
