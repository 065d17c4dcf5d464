"""Averaged weights: they follow those that are trained, and stand in for them where a model is examined and saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class Averages(Generic[Model]):
    """Moving averages of the weights of `model` that are trained; none where `decay` is 0.

    They are kept in float32: a hundredth of a step is lost in bfloat16, where the average would never move.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.model, self.decay = model, decay
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.values = {name: p.detach().to(torch.float32, copy=True) for name, p in trained.items() if decay}

    @torch.no_grad()
    def follow(self, num_updates: int) -> None:
        """Move towards the weights; early on this is faster."""
        decay = min(self.decay, (1 + num_updates) / (10 + num_updates))
        for name, parameter in self.model.named_parameters():
            if name in self.values:
                self.values[name].lerp_(parameter.float(), 1 - decay)

    @contextmanager
    def swapped_in(self) -> Iterator[Model]:
        """Inside, the model has its averaged weights and is in evaluation mode."""
        kept = {name: p.detach().clone() for name, p in self.model.named_parameters() if name in self.values}
        training = self.model.training
        self._set(self.values)
        self.model.eval()
        try:
            yield self.model
        finally:
            self._set(kept)
            self.model.train(training)

    def state_dict(self) -> dict[str, Tensor]:
        """The trained weights and their averages."""
        state = {f"model.{name}": p.detach() for name, p in self.model.named_parameters() if p.requires_grad}
        return state | {f"average.{name}": value for name, value in self.values.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state_dict()`."""
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(state[f"model.{name}"])
        for name, value in self.values.items():
            value.copy_(state[f"average.{name}"])

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            if name in values:
                parameter.copy_(values[name])
