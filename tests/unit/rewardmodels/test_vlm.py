"""The VLM reward model: attention over blocks, saving, loading, gradients, failures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoTokenizer, Qwen3VLForConditionalGeneration

import rewardmodels
from mmalign.types import Sample
from rewardmodels.attention import BLOCKS
from rewardmodels.heads import LinearHead, build_head
from rewardmodels.vlm import HEAD
from tests.unit.rewardmodels.tiny import tiny_reward


def samples(num: int = 3) -> list[Sample]:
    torch.manual_seed(0)
    prompts = ["a red circle", "two blue squares", "a large green cross above a small circle"]
    return [Sample(prompts[i % 3], torch.rand(3, 32, 32)) for i in range(num)]


def test_attention_over_blocks_is_the_stock_loop() -> None:
    reward = tiny_reward()
    media = [torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 40)]
    rule = reward.builder.rule
    object.__setattr__(rule, "max_pixels", 32 * 64)
    inputs = reward.builder(["a circle"] * 3, media)
    with torch.no_grad():
        assert reward.vlm.model.visual.config._attn_implementation == BLOCKS
        fast = reward.raw(inputs)
        reward.vlm.model.visual.config._attn_implementation = "sdpa"
        torch.testing.assert_close(fast, reward.raw(inputs), atol=1e-6, rtol=0)


def test_a_saved_model_scores_the_same_bits(tmp_path: Path) -> None:
    reward = tiny_reward()
    before = reward(samples=samples())
    reward.save(tmp_path)
    loaded = rewardmodels.load(str(tmp_path))
    assert torch.equal(before.overall, loaded(samples=samples()).overall)
    assert loaded.name == "tiny" and loaded.dimensions == ("overall",)


def test_half_precision_on_disk_changes_scores_little(tmp_path: Path) -> None:
    reward = tiny_reward()
    reward.save(tmp_path, dtype=torch.float16)
    loaded = rewardmodels.load(str(tmp_path))
    assert next(loaded.parameters()).dtype == torch.float32
    torch.testing.assert_close(
        reward(samples=samples()).overall, loaded(samples=samples()).overall, atol=2e-3, rtol=0
    )


def test_the_folder_is_one_that_stock_classes_read(tmp_path: Path) -> None:
    tiny_reward().save(tmp_path)
    stock, report = Qwen3VLForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert AutoTokenizer.from_pretrained(tmp_path).convert_tokens_to_ids("<|Reward|>") > 0
    assert AutoImageProcessor.from_pretrained(tmp_path).patch_size == 4
    assert stock.config.vision_config.patch_size == 4


def test_missing_weights_are_an_error_not_random(tmp_path: Path) -> None:
    tiny_reward().save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    dropped = next(key for key in weights if "visual.blocks" in key or "layers.0" in key)
    save_file(
        {k: v for k, v in weights.items() if k != dropped}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ValueError, match="do not fit"):
        rewardmodels.load(str(tmp_path))


def test_a_head_of_another_shape_is_an_error(tmp_path: Path) -> None:
    tiny_reward().save(tmp_path)
    save_file(LinearHead(16, 1).state_dict(), tmp_path / HEAD)
    with pytest.raises(RuntimeError, match="size mismatch"):
        rewardmodels.load(str(tmp_path))


def test_unknown_settings_are_refused(tmp_path: Path) -> None:
    tiny_reward().save(tmp_path)
    path = tmp_path / "reward_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"temperatur": 2}))
    with pytest.raises(ValueError, match="temperatur"):
        rewardmodels.load(str(tmp_path))


def test_gradients_reach_the_pixels_and_only_on_request() -> None:
    reward = tiny_reward().requires_grad_(False)
    image = torch.rand(3, 32, 32, requires_grad=True)
    scores = reward(samples=[Sample("a red circle", image), Sample("a circle", torch.rand(3, 32, 32))])
    scores.overall.sum().backward()
    assert image.grad is not None and float(image.grad.abs().max()) > 0
    assert not reward(samples=samples()).overall.requires_grad


def test_the_gradient_is_the_slope_of_the_score() -> None:
    reward = tiny_reward().requires_grad_(False)
    torch.manual_seed(0)
    image = (0.3 + 0.4 * torch.rand(3, 32, 32)).requires_grad_()

    def value(pixels: torch.Tensor) -> torch.Tensor:
        return reward(samples=[Sample("a red circle", pixels)]).overall.sum()

    value(image).backward()
    assert image.grad is not None
    step = image.grad / image.grad.norm()
    with torch.no_grad():
        slope = (value(image + 0.05 * step) - value(image - 0.05 * step)) / 0.1
    assert float(slope) == pytest.approx(float(image.grad.norm()), rel=0.05)


def test_normalised_scores_and_probability() -> None:
    from rewardmodels.calibrated import with_calibration

    reward = tiny_reward()
    plain = reward(samples=samples()).overall
    with_calibration(reward, mean=(2.0,), std=(4.0,), temperature=0.5)
    scores = reward(samples=samples())
    torch.testing.assert_close(scores.overall, (plain - 2.0) / 4.0)
    same = reward.probability(scores, scores)
    assert same.tolist() == [0.5] * 3


def test_unknown_heads_and_templates_name_the_known() -> None:
    with pytest.raises(ValueError, match="linear"):
        build_head("cubic", 8, 1)
    with pytest.raises(ValueError, match="media-prompt/1"):
        tiny_reward(template="nope/1")


def test_a_clip_of_no_frames_is_nan_with_a_reason_and_harms_no_other() -> None:
    reward, good = tiny_reward(), samples(2)
    empty = Sample("a red circle", torch.zeros(0, 3, 32, 32))
    scores = reward(samples=[good[0], empty, good[1]])
    assert scores.valid.tolist() == [True, False, True] and "no frame" in str(scores.reasons[1])
    torch.testing.assert_close(scores.overall[[0, 2]], reward(samples=good).overall)
