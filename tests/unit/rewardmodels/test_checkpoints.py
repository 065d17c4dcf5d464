"""Published layouts against a plain reconstruction: stock classes, stock tokenisation, patches cut by loops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import rewardmodels
from mmalign.media import write
from mmalign.types import Sample
from rewardmodels.checkpoints import wording
from rewardmodels.golden import write_golden
from rewardmodels.pixels import PixelRule, patchify
from rewardmodels.settings import RewardSettings
from tests.unit.rewardmodels import tiny_checkpoints as tiny
from tests.unit.rewardmodels.tiny_vlms import PROCESSORS, REWARDS, SPECIAL, byte_tokenizer

PROMPT, TABLE = "a red circle, größer", "model.embed_tokens.weight"


def patches(frames: Tensor, kind: str) -> Tensor:
    """(N, C*2*P*P) of frames (T, C, H, W), block by block of 2 x 2 patches."""
    facts = PROCESSORS[kind]
    side = facts["patch_size"]
    mean, std = (torch.tensor(facts[name]).view(3, 1, 1) for name in ("image_mean", "image_std"))
    frames = (frames - mean) / std
    frames = frames if len(frames) % 2 == 0 else torch.cat([frames, frames[-1:]])
    found = []
    for t in range(0, len(frames), 2):
        for top in range(0, frames.shape[2], 2 * side):
            for left in range(0, frames.shape[3], 2 * side):
                for y in (top, top + side):
                    for x in (left, left + side):
                        found.append(
                            frames[t : t + 2, :, y : y + side, x : x + side].transpose(0, 1).reshape(-1)
                        )
    return torch.stack(found)


def hidden(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    text: str,
    pixels: dict[str, Tensor],
    **more: Any,
) -> tuple[Tensor, Tensor]:
    """Ids and last hidden states of one text, through the whole stock model."""
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        made = model(
            input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True, **pixels, **more
        )
    return ids[0], made.hidden_states[-1][0]


def plain_positions(tokenizer: PreTrainedTokenizerFast, text: str) -> Tensor:
    return torch.arange(len(tokenizer(text, add_special_tokens=False).input_ids)).expand(3, 1, -1)


def block(token: str, num: int) -> str:
    return f"<|vision_start|>{token * num}<|vision_end|>"


def mlp(state: dict[str, Tensor], prefix: str, row: Tensor) -> Tensor:
    for layer in (0, 3, 5):
        row = state[f"{prefix}.{layer}.weight"] @ row + state[f"{prefix}.{layer}.bias"]
        row = row.relu() if layer < 5 else row
    return row


def pictures(num: int, side: int, seed: int = 0) -> Tensor:
    noise = torch.rand(num, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return (noise * 255).round() / 255


@pytest.mark.parametrize("write_tiny", [tiny.video_reward, tiny.adapter_pair])
def test_video_reward(tmp_path: Path, write_tiny: Callable[[Path], dict[str, Any]]) -> None:
    options = write_tiny(tmp_path)
    reward = rewardmodels.load("videoreward", **options)
    video = pictures(4, 56)
    scores = reward(samples=[Sample(PROMPT, video)])

    model, tokenizer = tiny.grown("qwen2_vl", REWARDS[1:4])
    state = tiny.peft_state(model)
    for name in list(model.state_dict()):
        stem = f"base_model.model.{tiny.legacy(name)}".removesuffix(".weight")
        if f"{stem}.lora_A.default.weight" in state:
            a, b = state[f"{stem}.lora_A.default.weight"], state[f"{stem}.lora_B.default.weight"]
            model.state_dict()[name].add_(tiny.ALPHA / tiny.RANK * (b @ a))
    text = wording.VIDEO_REWARD.replace("{media}", block("<|video_pad|>", 8)).replace("{prompt}", PROMPT)
    pixels = {"pixel_values_videos": patches(video, "qwen2_vl"), "video_grid_thw": torch.tensor([[2, 4, 4]])}
    ids, states = hidden(model, tokenizer, text, pixels, position_ids=plain_positions(tokenizer, text))
    where = [int((ids == tokenizer.convert_tokens_to_ids(token)).nonzero()) for token in REWARDS[1:4]]
    raw = (states[where] @ tiny.random(1, 32, seed=5).T)[:, 0]
    expected = (raw - torch.tensor([0.5, -0.5, 0.1])) / torch.tensor([2.0, 1.5, 0.5])
    torch.testing.assert_close(scores.values[0], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores.overall[0], expected.sum(), atol=1e-4, rtol=1e-4)
    assert reward.report.merged == 4 and "none missing" in str(reward.report)  # type: ignore[attr-defined]
    assert "words" in str(reward.report)  # type: ignore[attr-defined]


def test_video_reward_reads_quality_before_the_prompt(tmp_path: Path) -> None:
    reward = rewardmodels.load("videoreward", **tiny.video_reward(tmp_path))
    video = pictures(4, 56)
    one, other = reward(samples=[Sample("a circle", video), Sample("two squares", video)]).values
    torch.testing.assert_close(one[:2], other[:2])
    assert not torch.isclose(one[2], other[2])


def test_hpsv3(tmp_path: Path) -> None:
    reward = rewardmodels.load("hpsv3", **tiny.hpsv3(tmp_path))
    image = pictures(1, 56)
    scores = reward(samples=[Sample(PROMPT, image[0])])
    model, tokenizer = tiny.grown("qwen2_vl", REWARDS[:1])
    text = wording.HPSV3.replace("{media}", block("<|image_pad|>", 4)).replace("{prompt}", PROMPT)
    pixels = {"pixel_values": patches(image, "qwen2_vl"), "image_grid_thw": torch.tensor([[1, 4, 4]])}
    ids, states = hidden(model, tokenizer, text, pixels, position_ids=plain_positions(tokenizer, text))
    row = states[int((ids == tokenizer.convert_tokens_to_ids("<|Reward|>")).nonzero())]
    mean, log_std = mlp(load_file(tmp_path / "HPSv3.safetensors"), "rm_head", row)
    torch.testing.assert_close(scores.overall[0], mean, atol=1e-4, rtol=1e-4)
    assert scores.log_variance is not None
    torch.testing.assert_close(scores.log_variance[0, 0], 2 * log_std.clamp(-6, 3), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_edit_reward(tmp_path: Path, suffix: str) -> None:
    reward = rewardmodels.load("editreward", **tiny.edit_reward(tmp_path, suffix=suffix))
    source, result = pictures(1, 56, 1), pictures(1, 56, 2)
    scores = reward(samples=[Sample(PROMPT, result[0], source[0])])
    model, tokenizer = tiny.grown("qwen2_5_vl", REWARDS[:1])
    pixels = {
        "pixel_values": torch.cat([patches(source, "qwen2_5_vl"), patches(result, "qwen2_5_vl")]),
        "image_grid_thw": torch.tensor([[1, 4, 4], [1, 4, 4]]),
    }
    heads = tiny.ranknet("rm_heads.head_0", seed=20) | tiny.ranknet("rm_heads.head_1", seed=40)
    means = []
    for number, words in enumerate((wording.EDIT_FOLLOWING, wording.EDIT_QUALITY)):
        text = words.replace("{source}", block("<|image_pad|>", 4)).replace(
            "{media}", block("<|image_pad|>", 4)
        )
        text = text.replace("{prompt}", PROMPT)
        ids, states = hidden(model, tokenizer, text, pixels, position_ids=plain_positions(tokenizer, text))
        row = states[int((ids == tokenizer.convert_tokens_to_ids("<|Reward|>")).nonzero())]
        means.append(mlp(heads, f"rm_heads.head_{number}", row)[0])
    assert scores.names == ("instruction_following", "visual_quality")
    torch.testing.assert_close(scores.values[0], torch.stack(means), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores.overall[0], torch.stack(means).mean(), atol=1e-4, rtol=1e-4)
    assert not reward(samples=[Sample(PROMPT, result[0])]).valid.any()


def test_vefx_reward(tmp_path: Path) -> None:
    reward = rewardmodels.load("vefx-reward", **tiny.vefx(tmp_path), max_pixels=224 * 224)
    source, result = pictures(4, 224, 1), pictures(4, 224, 2)
    scores = reward(samples=[Sample(PROMPT, result, source)])
    model, tokenizer = tiny.grown("qwen3_vl", REWARDS[1:])
    shown = "".join(f"<{time} seconds>{block('<|video_pad|>', 49)}" for time in ("0.1", "0.6"))
    text = wording.VEFX.replace("{source}", shown).replace("{media}", shown).replace("{prompt}", PROMPT)
    kinds = (
        tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        == model.config.video_token_id
    )
    pixels = {
        "pixel_values_videos": torch.cat([patches(source, "qwen3_vl"), patches(result, "qwen3_vl")]),
        "video_grid_thw": torch.tensor([[2, 14, 14], [2, 14, 14]]), "mm_token_type_ids": 2 * kinds.int(),
    }  # fmt: skip
    ids, states = hidden(model, tokenizer, text, pixels)
    where = [int((ids == tokenizer.convert_tokens_to_ids(token)).nonzero()) for token in REWARDS[4:]]
    levels = 1 + (states[where] @ tiny.random(3, 32, seed=9).T).sigmoid().cumprod(1).sum(1)
    torch.testing.assert_close(scores.values[0], levels, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores.overall[0], levels.sum(), atol=1e-4, rtol=1e-4)


def test_the_product_of_vefx_is_geoagg_as_in_its_paper(tmp_path: Path) -> None:
    options = tiny.vefx(tmp_path)
    marks = torch.tensor([[1.0, 4.0, 4.0]])
    for more, expected in (
        ({"overall": "product"}, 2.0),  # (1^2 * 4 * 4)^(1/4)
        ({"overall": "product", "powers": [1, 1, 1]}, 16 ** (1 / 3)),
        ({}, 9.0),
    ):
        reward: Any = rewardmodels.load("vefx-reward", **options, **more)
        assert float(reward.overall(marks)) == pytest.approx(expected)
        reward.settings.save(tmp_path / "settings.json")
        assert RewardSettings.read(tmp_path / "settings.json") == reward.settings


def test_the_first_unit_is_the_checkpoints_own_resize() -> None:
    rule = PixelRule(16, min_pixels=56 * 56, max_pixels=399360, first_unit=28)
    _, grid = patchify(torch.rand(1, 2, 3, 130, 150), rule)
    assert grid == (1, 2 * round(140 / 32), 2 * round(140 / 32))


def test_the_users_template_is_the_prompt(tmp_path: Path) -> None:
    options = tiny.hpsv3(tmp_path)
    file = tmp_path / "published.txt"
    file.write_text(wording.HPSV3)
    ours = rewardmodels.load("hpsv3", **options)
    same = rewardmodels.load("hpsv3", **options, template_file=str(file))
    file.write_text("{media} rate {prompt}: <|Reward|>")
    other = rewardmodels.load("hpsv3", **options, template_file=str(file))
    samples = [Sample(PROMPT, pictures(1, 56)[0])]
    assert torch.equal(ours(samples=samples).overall, same(samples=samples).overall)
    assert not torch.allclose(ours(samples=samples).overall, other(samples=samples).overall)
    assert "published.txt" in str(other.report)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="prompt from a file"):
        other.save(tmp_path / "saved")  # type: ignore[attr-defined]
    file.write_text("{media} rate: <|Reward|>")
    with pytest.raises(ValueError, match=r"\{prompt\}"):
        rewardmodels.load("hpsv3", **options, template_file=str(file))


def test_a_published_model_saved_as_ours_scores_the_same_bits(tmp_path: Path) -> None:
    reward = rewardmodels.load("hpsv3", **tiny.hpsv3(tmp_path / "published"))
    reward.save(tmp_path / "ours")  # type: ignore[attr-defined]
    samples = [Sample(PROMPT, pictures(1, 70)[0])]
    again = rewardmodels.load(str(tmp_path / "ours"))
    assert torch.equal(reward(samples=samples).overall, again(samples=samples).overall)


def broken(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> dict[str, Any]:
    options = tiny.hpsv3(folder)
    save_file(change(load_file(folder / "HPSv3.safetensors")), folder / "HPSv3.safetensors")
    return options


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {k: v for k, v in state.items() if "layers.1.mlp.up" not in k}, "1 missing"),
        (lambda state: {k: v for k, v in state.items() if k != "rm_head.3.bias"}, "1 missing"),
        (lambda state: {k: v for k, v in state.items() if "rm_head" not in k}, "no reward head"),
        (lambda state: {k: v for k, v in state.items() if "visual" not in k}, "missing"),
        (lambda state: {k: v for k, v in state.items() if "embed_tokens" not in k}, "no token embeddings"),
        (lambda state: state | {"model.layers.9.extra.weight": torch.ones(1)}, "1 not known"),
        (lambda state: state | {"rm_head.0.weight": torch.ones(8, 16)}, "another shape"),
        (lambda state: state | {TABLE: state[TABLE][:-1].clone()}, "none for"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_named(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        rewardmodels.load("hpsv3", **broken(tmp_path, change))


def test_an_adapter_of_zeros_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lora_B"):
        rewardmodels.load("videoreward", **tiny.video_reward(tmp_path, zero=True))


def test_a_base_of_another_kind_is_refused(tmp_path: Path) -> None:
    options = tiny.hpsv3(tmp_path) | {"base_config": str(tiny.base_folder(tmp_path / "b", "qwen3_vl"))}
    with pytest.raises(ValueError, match="qwen3_vl"):
        rewardmodels.load("hpsv3", **options)


def test_a_base_with_other_tokens_is_refused(tmp_path: Path) -> None:
    """With one token fewer the reward token would be read from its neighbour's row, and nothing would say so."""
    options = tiny.hpsv3(tmp_path)
    byte_tokenizer(SPECIAL[:-1]).save_pretrained(options["base_config"])
    with pytest.raises(ValueError, match="other rows"):
        rewardmodels.load("hpsv3", **options)


def test_golden_scores_are_checked(tmp_path: Path) -> None:
    options = tiny.hpsv3(tmp_path)
    with pytest.raises(ValueError, match=r"golden\.json"):
        rewardmodels.load("hpsv3", **options, golden=True)
    reward = rewardmodels.load("hpsv3", **options)
    file = write(tmp_path / "a.png", pictures(1, 60)[0])
    write_golden(reward, [Sample(PROMPT, file)], tmp_path)
    rewardmodels.load("hpsv3", **options, golden=True)
    other = broken(tmp_path, lambda state: state | {"rm_head.5.weight": -state["rm_head.5.weight"]})
    with pytest.raises(ValueError, match="tolerance"):
        rewardmodels.load("hpsv3", **other, golden=True)
