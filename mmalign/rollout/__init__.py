"""Rollouts: sampling trajectories from any policy, deterministic or stochastic, and replaying their steps."""

from __future__ import annotations

from mmalign.rollout.guidance import predict
from mmalign.rollout.sampler import replay, rollout, stochastic_steps, transition

__all__ = ["predict", "replay", "rollout", "stochastic_steps", "transition"]
