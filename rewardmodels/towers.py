"""Faster vision towers of the Qwen family, with the numbers of the stock ones: pictures of one size attend as a batch
(`rewardmodels.attention`), and a picture that a forward pass holds several times goes through the tower once.

Pictures repeat wherever they are compared: the source of an edit beside each of its candidates, a candidate under
several prompts, both orders of a pair.

Legend: N patches of all pictures, M pictures, C values of a patch, R rows of features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rewardmodels.attention import use_blocks

SHARING = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
"""Models whose tower takes patches of all pictures and a grid for each, and gives features in the same order."""


def speed_up(vlm: PreTrainedModel) -> None:
    """Let the tower of a model read alike pictures together and equal ones once; other families stay as they are."""
    tower = getattr(getattr(vlm, "model", None), "visual", None)
    if vlm.config.model_type not in SHARING or not isinstance(tower, nn.Module):
        return
    if vlm.config.model_type == "qwen3_vl":
        use_blocks(tower)
    hooked = (getattr(hook, "__self__", None) for hook in tower._forward_pre_hooks.values())
    if not any(isinstance(owner, _EqualOnce) for owner in hooked):
        equal = _EqualOnce()
        tower.register_forward_pre_hook(equal.before, with_kwargs=True)
        tower.register_forward_hook(equal.after)


class _EqualOnce:
    """The hooks of one tower: different pictures go in, features of all come out."""

    def __init__(self) -> None:
        self.places: list[int] | None = None
        self.sizes: list[int] = []

    def before(self, tower: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Patches (N, C) and grids (M, 3) of the different pictures; pixels that want gradients each keep their own."""
        patches, grid = args[0], kwargs["grid_thw"]
        self.places = None if patches.requires_grad else equal_pictures(patches, grid)
        if self.places is None:
            return None
        sizes, first = grid.prod(-1).tolist(), sorted(set(self.places))
        kept = patches[_rows(first, sizes)]
        order = {place: n for n, place in enumerate(first)}
        self.places, self.sizes = [order[place] for place in self.places], [sizes[i] for i in first]
        return (kept, *args[1:]), {**kwargs, "grid_thw": grid[first]}

    def after(self, tower: nn.Module, args: tuple[Any, ...], made: Any) -> Any:
        """Features of every picture in place of those of the different ones."""
        if self.places is None:
            return made
        for name in ("last_hidden_state", "pooler_output"):
            made[name] = self._spread(made[name])
        if made.get("deepstack_features") is not None:
            made["deepstack_features"] = [self._spread(part) for part in made["deepstack_features"]]
        return made

    def _spread(self, features: Tensor) -> Tensor:
        merged = sum(self.sizes) // len(features)
        parts = features.split([size // merged for size in self.sizes])
        return torch.cat([parts[place] for place in self.places or ()])


def equal_pictures(patches: Tensor, grid: Tensor) -> list[int] | None:
    """For each of M pictures the first that equals it to the last bit, or None if all differ.

    Sums with random weights find candidates; whether they are equal is then looked up patch by patch.
    """
    sizes, shapes = grid.prod(-1).tolist(), grid.tolist()
    weights = torch.rand(patches.shape[1], generator=torch.Generator().manual_seed(0)).to(patches.device)
    sums = (patches.float() @ weights).cpu().split(sizes)
    found: dict[tuple[object, ...], int] = {}
    places = [
        found.setdefault((*shape, part.numpy().tobytes()), i)
        for i, (shape, part) in enumerate(zip(shapes, sums, strict=True))
    ]
    if len(found) == len(places):
        return None
    return places if torch.equal(patches[_rows(places, sizes)], patches) else None


def _rows(places: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Where the patches (N,) of the pictures at `places` stand."""
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return torch.cat([torch.arange(starts[place], starts[place + 1]) for place in places])
