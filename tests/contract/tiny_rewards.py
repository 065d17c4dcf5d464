"""Tiny random checkpoints in published layouts, so that rewards with weights are tested without any download.

`TINY` maps a catalogue name to a function that writes what the reward needs below a folder and returns the options
for `rewardmodels.load`. A reward that needs an optional package names its modules in `NEEDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rewardmodels
from mmalign.types import RewardModel

TINY: dict[str, Callable[[Path], dict[str, Any]]] = {}

NEEDS: dict[str, tuple[str, ...]] = {
    "clip": ("open_clip",),
    "ocr": ("rapidocr", "onnxruntime", "rapidfuzz"),
}
"""The modules of each optional part."""


def load(name: str, folder: Path) -> RewardModel:
    """The reward of a catalogue name, with tiny weights where it needs weights."""
    entry = rewardmodels.available()[name]
    for module in NEEDS.get(entry.extra, ()):
        pytest.importorskip(module, reason=f"{name} needs pip install 'mmalign[{entry.extra}]'")
    if not entry.weights and name not in TINY:
        return rewardmodels.load(name)
    assert name in TINY, f"{name} needs weights: say in tests/contract/tiny_rewards.py how to write tiny ones"
    return rewardmodels.load(name, **TINY[name](folder))
