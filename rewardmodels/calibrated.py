"""What trained rewards have in common: settings that say what they judge, and how their scores were calibrated.

Legend: B samples.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from mmalign.types import Modality, Scores
from rewardmodels.clip.settings import ClipSettings
from rewardmodels.settings import RewardSettings


class CalibratedReward(nn.Module):
    """Weights and the settings that go with them; a subclass scores."""

    settings: RewardSettings | ClipSettings

    @property
    def name(self) -> str:
        """The model's own name."""
        return self.settings.name

    @property
    def modalities(self) -> frozenset[Modality]:
        """What it was trained to judge."""
        return frozenset(self.settings.modalities)  # type: ignore[arg-type]

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The names of its scores."""
        return self.settings.dimensions

    @property
    def differentiable(self) -> bool:
        """Gradients reach the pixels."""
        return True

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def probability(self, first: Scores, second: Scores) -> Tensor:
        """Calibrated probability (B,) that the first of two is preferred."""
        return torch.sigmoid((first.overall - second.overall) / self.settings.temperature)


def with_calibration(model: CalibratedReward, **fields: object) -> None:
    """Replace fields of the model's settings."""
    model.settings = replace(model.settings, **fields)  # type: ignore[arg-type]
