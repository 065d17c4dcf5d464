"""Several rewards as one: a weighted sum of scores as they are, or of scores standardised within each group.

Scales of different rewards are not comparable; `zscore` makes them so group by group (GDPO-like), `sum` does not.
A sample that any part cannot judge stays NaN with that part's reason, and does not touch the statistics.

Legend: B samples, R rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mmalign.types import Modality, RewardModel, Sample, Scores

Rule = Literal["sum", "zscore"]


def zscore(values: Tensor, groups: Tensor | None = None, *, eps: float = 1e-4) -> Tensor:
    """Values (B,) minus their mean over their standard deviation plus `eps`, by group (B,); NaN stays NaN.

    >>> zscore(torch.tensor([1.0, 3.0, float("nan"), 5.0]), torch.tensor([0, 0, 0, 1]), eps=0.0).tolist()
    [-1.0, 1.0, nan, 0.0]
    """
    groups = torch.zeros(len(values), dtype=torch.long) if groups is None else groups
    made = torch.full_like(values, float("nan"))
    known = torch.isfinite(values)
    for group in groups.unique():
        where = known & (groups == group)
        if not bool(where.any()):
            continue
        centred = values[where] - values[where].mean()
        spread = centred.square().mean().sqrt() + eps
        made[where] = centred / spread if bool(spread > 0) else centred
    return made


@dataclass(frozen=True)
class Combined:
    """R rewards as one `RewardModel`: a dimension each, overall their weighted sum by `rule`.

    For `zscore` the samples of a group are those with one prompt and source, or one `metadata["group"]`.
    """

    parts: Sequence[tuple[str, float, RewardModel]]
    rule: Rule = "sum"
    name: str = "combined"

    def __post_init__(self) -> None:
        names = [name for name, _, _ in self.parts]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a combination needs one or more rewards of different names, got {names}")
        if self.rule not in ("sum", "zscore"):
            raise ValueError(f"combine must be 'sum' or 'zscore', got {self.rule!r}")

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The names of the parts."""
        return tuple(name for name, _, _ in self.parts)

    @property
    def modalities(self) -> frozenset[Modality]:
        """What all parts judge."""
        return frozenset.intersection(*(model.modalities for _, _, model in self.parts))

    @property
    def differentiable(self) -> bool:
        """Whether gradients pass through every part."""
        return all(model.differentiable for _, _, model in self.parts)

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Scores of every part and their combination."""
        judged = [model(samples=samples) for _, _, model in self.parts]
        values = torch.stack([scores.overall.cpu() for scores in judged], 1)
        valid = torch.stack([scores.valid.cpu() for scores in judged], 1).all(1)
        reasons = tuple(
            next((f"{name}: {s.reasons[i]}" for (name, _, _), s in zip(self.parts, judged, strict=True)
                  if s.reasons[i] is not None), None)
            for i in range(len(samples))
        )  # fmt: skip
        weights = torch.tensor([weight for _, weight, _ in self.parts])
        columns = values
        if self.rule == "zscore":
            masked = values.masked_fill(~valid[:, None], float("nan"))
            groups = group_ids(samples)
            columns = torch.stack([zscore(column, groups) for column in masked.unbind(1)], 1)
        return Scores(values, self.dimensions, (columns * weights).sum(1), valid, reasons)


def group_ids(samples: Sequence[Sample]) -> Tensor:
    """An integer a sample (B,), equal for one `metadata["group"]`, or else one prompt and source."""
    keys = [
        sample.metadata.get("group", (sample.prompt, str(sample.source) if sample.source is not None else ""))
        for sample in samples
    ]
    numbers = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    return torch.tensor([numbers[key] for key in keys], dtype=torch.long)
