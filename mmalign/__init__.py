"""mmalign: preference alignment and reward modelling for image, video and editing models.

The nouns (`mmalign.Sample`, `mmalign.Scores`, ...) load on first use, so `import mmalign` needs no torch:

>>> import mmalign
>>> mmalign.__version__
'0.1.0'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmalign.types import (
        Annotation,
        Candidate,
        Comparison,
        Conditions,
        Loss,
        MediaInput,
        Modality,
        PreferencePair,
        RewardModel,
        Sample,
        Scores,
        Trajectory,
        Transition,
    )

__version__ = "0.1.0"

__all__ = [
    "Annotation",
    "Candidate",
    "Comparison",
    "Conditions",
    "Loss",
    "MediaInput",
    "Modality",
    "PreferencePair",
    "RewardModel",
    "Sample",
    "Scores",
    "Trajectory",
    "Transition",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("mmalign.types"), name)
    raise AttributeError(f"module 'mmalign' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
