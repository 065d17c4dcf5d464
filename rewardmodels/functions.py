"""Any Python function as a reward: `module:name`.

The function is called as `function(images, prompts)` with images (B, 3, H, W) float32 in [0, 1] of one size and B
prompts, and returns B scores as a tensor, list or array, higher is better; a NaN marks a sample it cannot judge:

    def redness(images, prompts):
        return images[:, 0].mean(dim=(1, 2)) - images[:, 1:].mean(dim=(1, 2, 3))

With `differentiable: true` among the options the images keep their gradient and the result must carry it on.

Legend: B samples.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmalign.types import Modality, Sample, Scores
from rewardmodels.batching import Prepared, score


class FunctionReward:
    """The reward made of one function; its name is the function's."""

    def __init__(self, target: str, *, batch_size: int = 64, differentiable: bool = False) -> None:
        self.name = target
        self.batch_size = batch_size
        self.differentiable = differentiable
        self.modalities: frozenset[Modality] = frozenset({"image"})
        self.dimensions = (target.rpartition(":")[2],)
        self.function = find(target)

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Scores of images of any sizes, those of one size together."""
        return score(
            samples,
            self._judge,
            names=self.dimensions,
            modalities=self.modalities,
            batch_size=self.batch_size,
        )

    def _judge(self, batch: Sequence[Prepared]) -> Tensor:
        images = torch.stack([one.frames[0] for one in batch])
        if not self.differentiable:
            images = images.detach()
        found = self.function(images, [one.prompt for one in batch])
        scores = torch.as_tensor(found)
        if scores.shape not in ((len(batch),), (len(batch), 1)):
            raise TypeError(
                f"{self.name} returned shape {tuple(scores.shape)} for {len(batch)} images: return one score each"
            )
        return scores.float().reshape(len(batch), 1)


def find(target: str, *, arguments: str = "images, prompts") -> Callable[[Tensor, list[str]], Any]:
    """The function `module:name` of two arguments; modules beside the working directory are found too."""
    module, _, name = target.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise
        raise ValueError(
            f"reward '{target}': no module '{module}'; run in the folder of {module.partition('.')[0]}.py, or "
            "install the package that holds it"
        ) from error
    function = getattr(loaded, name, None)
    if function is None:
        raise ValueError(f"reward '{target}': {loaded.__file__} has no function '{name}'")
    if not callable(function):
        raise ValueError(f"reward '{target}': '{name}' is a {type(function).__name__}, not a function")
    try:
        inspect.signature(function).bind(None, [])
    except TypeError as error:
        raise ValueError(f"reward '{target}': it must take ({arguments}): {error}") from error
    made: Callable[[Tensor, list[str]], Any] = function
    return made
