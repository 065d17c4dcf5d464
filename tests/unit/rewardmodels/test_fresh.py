"""A new reward model on a stock folder of every family: tokens added, saved and reloaded bit by bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import rewardmodels
from mmalign.types import Sample
from rewardmodels.clips import VideoRule
from rewardmodels.fresh import from_backbone
from rewardmodels.settings import RewardSettings
from tests.unit.rewardmodels.tiny_vlms import PROCESSORS, SPECIAL, byte_tokenizer, tiny_vlm


def stock_folder(folder: Path, kind: str) -> Path:
    """A tiny VLM as its family is published, without reward tokens."""
    model, _ = tiny_vlm(kind)
    tokenizer = byte_tokenizer(SPECIAL)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSORS[kind]))
    return folder


KINDS = [pytest.param(k, marks=[] if k in ("qwen3_vl", "smolvlm") else pytest.mark.slow) for k in PROCESSORS]


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_reward_on_any_family_is_saved_and_reloaded_bit_by_bit(kind: str, tmp_path: Path) -> None:
    positions = "mrope" if kind.startswith("qwen") else "sequential"
    settings = RewardSettings(
        "new", "source-media-prompt/1", positions, "mlp", modalities=("image", "edit", "video")
    )
    stock = stock_folder(tmp_path / "stock", kind)
    video = VideoRule(fps=4.0, min_frames=2, max_pixels=56 * 56)
    reward = from_backbone(stock, settings, seed=3, video=video).eval().requires_grad_(False)
    image = torch.rand(3, 40, 60)
    samples = [Sample("a circle", image), Sample("a circle", image, torch.rand(3, 30, 30))]
    if kind != "idefics3":
        samples.append(Sample("it moves", torch.rand(6, 3, 28, 28), metadata={"fps": 12.0}))
    scores = reward(samples=samples)
    assert bool(scores.valid.all()) and len(set(scores.overall.tolist())) == len(samples)
    reward.save(tmp_path / "saved")
    again = rewardmodels.load(str(tmp_path / "saved"))
    assert torch.equal(scores.overall, again(samples=samples).overall)
    assert again.builder.video == video  # type: ignore[attr-defined]
    same = from_backbone(stock, settings, seed=3, video=video).eval().requires_grad_(False)
    assert torch.equal(scores.overall, same(samples=samples).overall)


def test_tiles_have_no_pixel_budget(tmp_path: Path) -> None:
    settings = RewardSettings("new", "media-prompt/1", "sequential")
    with pytest.raises(ValueError, match="leave pixels out"):
        from_backbone(stock_folder(tmp_path, "internvl"), settings, pixels=(784, 3136))
