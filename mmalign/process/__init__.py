"""The two processes behind one interface: rectified flow and variance-preserving diffusion.

>>> from diffusers import FlowMatchEulerDiscreteScheduler
>>> flow = from_scheduler(FlowMatchEulerDiscreteScheduler(shift=3.0))
>>> flow.kind, len(flow.schedule(10))
('flow', 11)
"""

from __future__ import annotations

from typing import Any

from mmalign.process.base import Density, Prediction, Process, Sde, SdeKind, sample_mean
from mmalign.process.diffusion import Diffusion
from mmalign.process.flow import Flow

__all__ = [
    "Density",
    "Diffusion",
    "Flow",
    "Prediction",
    "Process",
    "Sde",
    "SdeKind",
    "from_scheduler",
    "sample_mean",
]


def from_scheduler(scheduler: Any, *, uniform_sigmas: bool = False) -> Process:
    """The process that a pipeline's scheduler belongs to (`uniform_sigmas`: see `schedule.flow_levels`)."""
    if "FlowMatch" in type(scheduler).__name__ or scheduler.config.get("use_flow_sigmas", False):
        return Flow.from_scheduler(scheduler, uniform_sigmas=uniform_sigmas)
    return Diffusion.from_scheduler(scheduler)
