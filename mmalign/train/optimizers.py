"""Optimisers of the loop: AdamW, and Muon for the matrices with AdamW for the rest.

Muon (Jordan et al. 2024) replaces a matrix's momentum by its nearest orthogonal matrix, which makes every
direction learn at one speed; it reaches the same loss in about a third of the updates when a small network is
trained from scratch. Steps are scaled by 0.2 sqrt(max(rows, columns)), as in Moonlight (arXiv 2502.16982), so one
learning rate serves both parts.

Shape legend: matrices of one shape (M, R, C) are treated together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

OptimizerName = Literal["adamw", "muon"]
QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of Jordan's Newton-Schulz iteration: fast rather than exact, singular values end near 1."""


def orthogonalize(matrices: Tensor, num_steps: int = 5) -> Tensor:
    """Matrices (M, R, C) with their singular values brought near 1 and their singular vectors kept."""
    a, b, c = QUINTIC
    found = matrices.float()
    found = found / (found.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = found.shape[1] > found.shape[2]
    found = found.mT if tall else found
    for _ in range(num_steps):
        square = found @ found.mT
        found = a * found + (b * square + c * square @ square) @ found
    return found.mT if tall else found


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum for matrices, decoupled weight decay."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        if any(parameter.ndim != 2 for parameter in parameters):
            raise ValueError("Muon is for matrices: give other parameters to AdamW")
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault(tuple(parameter.shape), []).append(parameter)
            for members in shapes.values():
                self._step(members, group)

    def _step(self, members: list[nn.Parameter], group: dict[str, Any]) -> None:
        looks = []
        for parameter in members:
            state = self.state[parameter]
            velocity = state.setdefault("velocity", torch.zeros_like(parameter))
            assert parameter.grad is not None
            velocity.mul_(group["momentum"]).add_(parameter.grad)
            looks.append(parameter.grad + group["momentum"] * velocity)
        steps = orthogonalize(torch.stack(looks)) * (0.2 * max(members[0].shape) ** 0.5)
        for parameter, step in zip(members, steps, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(step.to(parameter.dtype), alpha=-group["lr"])


class Joint:
    """Two optimisers that step as one: Muon on matrices, AdamW on vectors, embeddings and heads."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = tuple(parts)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """All groups, so that one learning rate can be set."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        """One update."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of all parts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        for part, inner in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(inner)


def build(
    parameters: Sequence[nn.Parameter],
    *,
    name: OptimizerName,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    not_matrices: Sequence[nn.Parameter] = (),
) -> torch.optim.AdamW | Joint:
    """The optimiser called `name`; `not_matrices` are embeddings and heads, which Muon leaves to AdamW."""
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=weight_decay)
    excluded = {id(parameter) for parameter in not_matrices}
    matrices = [p for p in parameters if p.ndim == 2 and id(p) not in excluded]
    chosen = {id(parameter) for parameter in matrices}
    rest = [p for p in parameters if id(p) not in chosen]
    parts: list[torch.optim.Optimizer] = [Muon(matrices, lr, weight_decay=weight_decay)] if matrices else []
    if rest:
        parts.append(torch.optim.AdamW(rest, lr=lr, betas=betas, weight_decay=0.0))
    return Joint(parts)
