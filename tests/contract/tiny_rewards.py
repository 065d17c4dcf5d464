"""Tiny random checkpoints in published layouts, so that rewards with weights are tested without any download.

`TINY` maps a catalogue name to a function that writes what the reward needs below a folder and returns the options
for `rewardmodels.load`. A reward that needs an optional package names its modules in `NEEDS`.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rewardmodels
from mmalign.media import write
from mmalign.shapes import render
from mmalign.types import RewardModel
from tests.contract import tiny_clip, tiny_judges
from tests.unit.rewardmodels import tiny_checkpoints
from tests.unit.rewardmodels.serving import serving


def _served(_: Path) -> dict[str, Any]:
    """A server in this process, until the tests end; its reward judges pictures, edits and videos."""
    running = serving({"sharpness": rewardmodels.load("sharpness")})
    atexit.register(running.__exit__, None, None, None)
    return {"url": running.__enter__()}


def _pictures(folder: Path) -> dict[str, Any]:
    """Two exemplars."""
    for k, image in enumerate(render(["a red circle", "two blue squares"], seed=5)):
        write(folder / "exemplars" / f"{k}.png", image)
    return {"reference": str(folder / "exemplars")}


TINY: dict[str, Callable[[Path], dict[str, Any]]] = {
    "videoreward": tiny_checkpoints.video_reward,
    "hpsv3": tiny_checkpoints.hpsv3,
    "editreward": tiny_checkpoints.edit_reward,
    "vefx-reward": tiny_checkpoints.vefx,
    **tiny_clip.TINY,
    **tiny_judges.TINY,
    "geneval": lambda _: {"detector": "shapes"},
    "ocr": lambda _: {"targets": "prompt", "side": 32},
    "remote": _served,
    "exemplars": _pictures,
}

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
