"""`mmalign train-reward` on stock VLMs of other families: a new head, adapters, saved and loaded again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import rewardmodels
from mmalign.shapes import render
from mmalign.types import Sample
from pipelines import train_reward
from tests.unit.rewardmodels.test_fresh import stock_folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen2_5_vl", "smolvlm"])
def test_a_stock_vlm_gets_a_head_and_adapters_and_is_saved_plain(kind: str, tmp_path: Path) -> None:
    stock = stock_folder(tmp_path / "stock", kind)
    positions = "mrope" if kind.startswith("qwen") else "sequential"
    train_reward.run(
        "reward/shapes",
        [
            "model.scratch=null", f"model.backbone={stock}", f"model.positions={positions}", "model.weights=lora",
            "model.lora.rank=2", "model.vision=frozen", "model.embeddings=special", "optimizer.name=adamw",
            "data.shapes.families=1",
            "data.shapes.prompts=2", "data.shapes.images=2", "data.shapes.cross=0", "budget.updates=2",
            "evaluation.every=null", "evaluation.num_prompts=2", "evaluation.final_prompts=8",
            "save_dtype=float32", f"output={tmp_path / 'run'}",
        ],
        say=lambda _: None,
    )  # fmt: skip
    saved = tmp_path / "run" / "reward"
    before, after = load_file(stock / "model.safetensors"), load_file(saved / "model.safetensors")
    moved = {
        name
        for name in before
        if name in after and not torch.equal(before[name], after[name][: len(before[name])])
    }
    assert any("q_proj" in name for name in moved) and not any(
        "vision" in name or "visual" in name for name in moved
    )
    reward = rewardmodels.load(str(saved))
    scores = reward(
        samples=[Sample("a red circle", image) for image in render(["a red circle", "two squares"], seed=1)]
    )
    assert bool(scores.valid.all()) and reward.name == "shapes-reward"
