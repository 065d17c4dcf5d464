"""How far a reward can be trusted: probes, spurious factors, batch health, and words with their thresholds.

Every function takes `ask`, samples -> `Scores`: a reward itself (called by keyword) or whatever asks it safely.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mmalign.types import RewardModel, Sample, Scores

__all__ = ["Ask", "asking"]

Ask = Callable[[Sequence[Sample]], Scores]
"""Samples -> a row of scores each; what cannot be judged is NaN with a reason."""


def asking(reward: RewardModel) -> Ask:
    """A reward as the function of samples that this package calls."""
    return lambda samples: reward(samples=samples)
