"""The nouns of sampling: what a policy was told, the path it took, and one step of it. `mmalign.types` has them too.

Shape legend: `B` samples, `S` sampling steps, `K` recorded steps, `...` the shape of one latent. Records compare by
identity: they hold tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Conditions:
    """What a policy was told for B samples: batch-first tensors by name, and the negative side if any."""

    tensors: Mapping[str, Tensor]
    negative: Mapping[str, Tensor] | None = None

    @property
    def batch_size(self) -> int:
        return int(next(iter(self.tensors.values())).shape[0])

    def select(self, index: Tensor | Sequence[int]) -> Conditions:
        """The rows at integer positions `index`."""
        return self._map(lambda t: t[torch.as_tensor(index, dtype=torch.long, device=t.device)])

    def repeat_interleave(self, num: int) -> Conditions:
        """Each row `num` times, copies side by side."""
        return self._map(lambda t: t.repeat_interleave(num, dim=0))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Conditions:
        """On another device; floating tensors in another dtype."""
        return self._map(lambda t: t.to(device=device, dtype=dtype if t.is_floating_point() else None))

    @classmethod
    def cat(cls, parts: Sequence[Conditions]) -> Conditions:
        """Rows of several conditions, one after the other."""
        negatives = [part.negative for part in parts if part.negative is not None]
        if not parts or len(negatives) not in (0, len(parts)):
            raise ValueError("Conditions.cat needs parts that all have a negative side, or none")
        tensors = {key: torch.cat([part.tensors[key] for part in parts]) for key in parts[0].tensors}
        if not negatives:
            return cls(tensors)
        return cls(tensors, {key: torch.cat([side[key] for side in negatives]) for key in negatives[0]})

    def without_prompt(self, rows: Tensor) -> Conditions:
        """The same, with what the negative side says in the rows (B,) bool; they must have one."""
        if self.negative is None:
            raise ValueError("these conditions have no negative side: encode(..., guidance=2) gives one")

        def chosen(key: str, value: Tensor) -> Tensor:
            other = (self.negative or {}).get(key, value)
            return torch.where(rows.to(value.device).view(-1, *[1] * (value.ndim - 1)), other, value)

        return Conditions({key: chosen(key, value) for key, value in self.tensors.items()}, self.negative)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Conditions:
        negative = self.negative
        return Conditions(
            {key: change(value) for key, value in self.tensors.items()},
            None if negative is None else {key: change(value) for key, value in negative.items()},
        )


@dataclass(frozen=True, eq=False)
class Trajectory:
    """B denoising paths through the same S noise levels, and what the behaviour policy thought of K steps."""

    latents: Tensor  # (B, S+1, ...), first the noise, last the clean latents
    levels: Tensor  # (S+1,)
    steps: Tensor  # (K,) int64, indices of the recorded stochastic steps
    log_probs: Tensor  # (B, K) float32
    means: Tensor | None  # (B, K, ...)
    stds: Tensor  # (K,)
    conditions: Conditions
    groups: Tensor  # (B,) int64

    @property
    def clean(self) -> Tensor:
        """The final latents (B, ...)."""
        return self.latents[:, -1]

    def select(self, index: Tensor | Sequence[int]) -> Trajectory:
        """The samples at integer positions `index`."""
        where = torch.as_tensor(index, dtype=torch.long, device=self.latents.device)
        return replace(
            self,
            latents=self.latents[where],
            log_probs=self.log_probs[where],
            means=None if self.means is None else self.means[where],
            conditions=self.conditions.select(where),
            groups=self.groups[where],
        )


@dataclass(frozen=True, eq=False)
class Transition:
    """One stochastic denoising step of B samples, in float32."""

    next: Tensor  # (B, ...)
    mean: Tensor  # (B, ...)
    std: Tensor  # scalar, or (B,)
    log_prob: Tensor  # (B,), mean over the dimensions of a latent
