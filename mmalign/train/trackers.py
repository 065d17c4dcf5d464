"""Where numbers and pictures of a run go: always `metrics.jsonl`, evaluations and PNG grids, trackers on request.

`metrics.jsonl` has one object a line with `iteration`; a resumed run first drops the lines its checkpoint does
not know, so the file reads as if the run had never stopped. Trackers are accelerate's.

Shape legend: images (N, C, H, W) in [0, 1], one grid row after the other.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

METRICS = "metrics.jsonl"
SAMPLES = "samples"
EVALUATIONS = "evaluations"
_PACKAGES = {"comet_ml": "comet_ml", "wandb": "wandb", "trackio": "trackio", "mlflow": "mlflow"}


def check_available(names: Sequence[str]) -> None:
    """A tracker whose package is missing is an error before anything heavy is loaded."""
    for name in names:
        package = _PACKAGES.get(name, name)
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"tracker '{name}' needs the package '{package}': pip install {package}")


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """All rows of a run's `metrics.jsonl`; a line cut short by a kill is left out."""
    path = Path(folder) / METRICS
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            rows.append(json.loads(line))
    return rows


def evaluation_file(folder: str | Path, iteration: int) -> Path:
    """Where the evaluation after `iteration` iterations is kept sample by sample."""
    return Path(folder) / EVALUATIONS / f"{iteration:06d}.jsonl"


class Trackers:
    """The main process writes; on other processes every call does nothing."""

    def __init__(
        self,
        folder: str | Path,
        *,
        accelerator: Accelerator,
        config: Mapping[str, Any],
        active: Sequence[str] = (),
    ) -> None:
        self.folder = Path(folder)
        self.accelerator = accelerator
        self.writes = accelerator.is_main_process
        if self.writes:
            self.folder.mkdir(parents=True, exist_ok=True)
        if active:
            name = {"wandb": {"name": self.folder.name}} if "wandb" in active else {}
            accelerator.init_trackers("mmalign", config=_flat(config), init_kwargs=name)

    def resume(self, iteration: int) -> None:
        """Forget everything written after the checkpoint of `iteration`."""
        if not self.writes:
            return
        rows = [row for row in read_metrics(self.folder) if row["iteration"] <= iteration]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{METRICS}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(self.folder / METRICS)

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        """One row: numbers that are not finite are written as null."""
        if not self.writes:
            return
        row = {key: value if math.isfinite(value) else None for key, value in values.items()}
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": iteration, **row}) + "\n")
        finite = {key: value for key, value in row.items() if value is not None}
        self.accelerator.log(finite, step=iteration)

    def images(self, iteration: int, name: str, images: Tensor, *, columns: int) -> Path | None:
        """A grid of pictures as `samples/<name>-000050.png`, also sent to the trackers."""
        if not self.writes or not len(images):
            return None
        picture = grid(images, columns=columns)
        path = self.folder / SAMPLES / f"{name}-{iteration:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.numpy()).save(path)
        for tracker in self.accelerator.trackers:
            if tracker.name == "tensorboard":
                tracker.log_images({name: picture[None].numpy()}, step=iteration, dataformats="NHWC")
            elif tracker.name == "wandb":
                tracker.log_images({name: picture[None].numpy()}, step=iteration)
        return path

    def evaluation(self, iteration: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """What was found sample by sample, as `evaluations/000050.jsonl`."""
        if not self.writes or not rows:
            return
        path = evaluation_file(self.folder, iteration)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def close(self, *, part: bool = True) -> None:
        """Flush the trackers; with `part` the processes part for good."""
        if part:
            self.accelerator.end_training()
            return
        for tracker in self.accelerator.trackers:
            tracker.finish()


def grid(images: Tensor, *, columns: int, gap: int = 2) -> Tensor:
    """(N, C, H, W) in [0, 1] as one (H', W', 3) uint8 picture on white.

    >>> grid(torch.zeros(3, 3, 4, 4), columns=2, gap=1).shape
    torch.Size([9, 9, 3])
    """
    num, _, height, width = images.shape
    rows = math.ceil(num / columns)
    canvas = torch.ones(3, rows * (height + gap) - gap, columns * (width + gap) - gap)
    for position, image in enumerate(images.detach().float().cpu().clamp(0, 1)):
        row, column = divmod(position, columns)
        top, left = row * (height + gap), column * (width + gap)
        canvas[:, top : top + height, left : left + width] = image
    return (canvas * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys with values trackers accept."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, (int, float, str, bool)) else json.dumps(value)
    return flat
