"""How sure a trained judge is: what its score differences say, fitted on prompts of their own and kept in its folder.

P(a is better) = sigmoid((score a - score b) / temperature), and a difference up to `tie_threshold` reads as a tie: by
the same names as in the settings of trained rewards (`rewardmodels.settings`). A judge of pairs has the difference
p(first is better) - 1/2; that is a probability already, so it has a threshold and no temperature.

Legend: B samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mmalign.types import Scores


@dataclass(frozen=True)
class Calibration:
    """The numbers of `reward_config.json`; these are those of a judge on which none were fitted."""

    temperature: float = 1.0
    tie_threshold: float = 0.0

    def __post_init__(self) -> None:
        if not self.temperature > 0 or not self.tie_threshold >= 0:
            raise ValueError(
                f"temperature must be above 0 and tie_threshold not below, got {self.temperature:g} and "
                f"{self.tie_threshold:g}: train the judge again"
            )

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Calibration:
        """From a record that may be older than these numbers."""
        return cls(**{key: float(record[key]) for key in asdict(UNFITTED) if key in record})


UNFITTED = Calibration()


class Calibrated(Protocol):
    """A judge that keeps what was fitted."""

    calibration: Calibration


def probability(judge: Calibrated, first: Scores, second: Scores) -> Tensor:
    """Calibrated probability (B,) that the first of two is preferred."""
    return torch.sigmoid((first.overall - second.overall) / judge.calibration.temperature)
