"""Every VLM family: tokens, pixels and positions are those of the stock processors and models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig

from mmalign.types import Sample
from rewardmodels.backbones import BACKBONES, backbone_of
from rewardmodels.clips import Clip, VideoRule, read_clip
from rewardmodels.inputs import TEMPLATES, InputBuilder
from tests.unit.rewardmodels.stock_processors import (
    eight,
    picture,
    placeholder,
    stock_processor,
)
from tests.unit.rewardmodels.tiny_vlms import PROCESSORS, byte_tokenizer, config_of, tiny_reward_of

KINDS = list(PROCESSORS)
VIDEO = VideoRule(fps=2.0, min_frames=2, min_pixels=28 * 28, max_pixels=56 * 56)
PROMPT = "a red circle, größer <|image_pad|><image>"


def builder_of(kind: str, template: str, **options: Any) -> InputBuilder:
    backbone, tokenizer = backbone_of(kind), byte_tokenizer()
    record = {**PROCESSORS[kind], "eight_bit": True}
    rule = backbone.read_rule(record, config_of(kind, tokenizer))
    positions = "mrope" if backbone.mrope else "sequential"
    return InputBuilder(tokenizer, rule, TEMPLATES[template], positions, 512, backbone, VIDEO, **options)  # type: ignore[arg-type]


def assert_same_pixels(ours: Tensor, theirs: Tensor) -> None:
    """Equal but for rounding ties of Pillow's integer arithmetic: one level of 256, in few places."""
    away = (ours - theirs.reshape(ours.shape)).abs()
    assert float(away.max()) < 1.1 / 255 / 0.22
    assert float((away > 1e-5).float().mean()) < 0.005


@pytest.mark.parametrize("size", [(40, 70), (28, 28), (90, 30)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_gives_the_stock_tokens_and_pixels(kind: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    stock = stock_processor(kind)(
        text=["words " + placeholder(kind) + "<|Reward|>"], images=[eight(image)], return_tensors="pt"
    )
    ours = builder_of(kind, "prompt-media/1")(["words "], [image[None]])
    assert ours.input_ids.tolist() == stock.input_ids.tolist()
    assert_same_pixels(ours.pixel_values, stock.pixel_values)
    assert int(ours.columns) == ours.input_ids.shape[1] - 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_gives_the_stock_tokens_and_pixels(kind: str) -> None:
    source, result = picture(40, 60, 1), picture(30, 30, 2)
    text = "words " + placeholder(kind) * 2 + "<|Reward|>"
    stock = stock_processor(kind)(text=[text], images=[[eight(source), eight(result)]], return_tensors="pt")
    ours = builder_of(kind, "prompt-source-media/1")(["words "], [result[None]], [source[None]])
    assert ours.input_ids.tolist() == stock.input_ids.tolist()
    assert_same_pixels(ours.pixel_values, stock.pixel_values)


@pytest.mark.parametrize(
    "kind", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "smolvlm", "internvl", "llava_onevision"]
)
def test_a_video_gives_the_stock_tokens_and_pixels(kind: str) -> None:
    frames = torch.stack([picture(40, 40, k) for k in range(4)])
    clip = Clip(frames, tuple(k / 2 for k in range(4)), 0.5)
    token = {"internvl": "<video>", "llava_onevision": "<video>", "smolvlm": "<video>"}.get(
        kind, "<|vision_start|><|video_pad|><|vision_end|>"
    )
    if kind == "qwen3_vl":
        token = "<|video_pad|>"
    meta = {"fps": 2.0, "total_num_frames": 4, "frames_indices": [0, 1, 2, 3], "duration": 2.0}
    stock = stock_processor(kind)(
        text=["words " + token + "<|Reward|>"], videos=[eight(frames)], return_tensors="pt",
        videos_kwargs={"do_sample_frames": False, "video_metadata": [meta]},
    )  # fmt: skip
    ours = builder_of(kind, "prompt-media/1")(["words "], [clip])
    assert ours.input_ids.tolist() == stock.input_ids.tolist()
    if kind == "smolvlm":  # its stock video processor scales twice, ours once
        assert stock.pixel_values.shape == ours.pixel_values.shape
        return
    name = "pixel_values" if kind == "internvl" else "pixel_values_videos"
    assert_same_pixels(ours.visual[name], stock[name])
    if kind == "qwen2_5_vl":
        assert float(stock.second_per_grid_ts[0]) == 2 * clip.step


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_positions_of_pictures_and_videos_are_those_of_the_stock_model(kind: str) -> None:
    reward = tiny_reward_of(kind, template="prompt-source-media/1", video=VIDEO)
    clip = Clip(torch.rand(6, 3, 40, 70), tuple(0.4 * k for k in range(6)), 0.4)
    inputs = reward.builder(["words", "and more words"], [clip, clip], [torch.rand(1, 3, 40, 60)] * 2)
    config = reward.vlm.config
    kinds = (inputs.input_ids == config.image_token_id).int() + 2 * (
        inputs.input_ids == config.video_token_id
    ).int()
    more = {"second_per_grid_ts": torch.tensor([0.8, 0.8])} if kind == "qwen2_5_vl" else {}
    expected, _ = reward.vlm.model.get_rope_index(
        inputs.input_ids, kinds, inputs.visual["image_grid_thw"], inputs.visual["video_grid_thw"],
        attention_mask=inputs.attention_mask, **more,
    )  # fmt: skip
    real = inputs.attention_mask.bool()
    assert torch.equal(inputs.position_ids[:, real], expected[:, real])


def test_qwen3_writes_the_time_of_every_temporal_patch() -> None:
    clip = Clip(torch.rand(3, 3, 32, 32), (0.0, 1.0, 2.0), 1.0)
    make = builder_of("qwen3_vl", "prompt-media/1")
    words = make.tokenizer.decode(make([""], [clip]).input_ids[0])
    pads = "<|video_pad|>" * (words.count("<|video_pad|>") // 2)
    block = f"<|vision_start|>{pads}<|vision_end|>"
    assert words == f"<0.5 seconds>{block}<2.0 seconds>{block}<|Reward|>"


@pytest.mark.parametrize("kind", KINDS)
def test_batch_is_single_whatever_stands_beside(kind: str) -> None:
    reward = tiny_reward_of(kind, video=VIDEO)
    prompts, media = (
        ["a", "a much longer prompt " + PROMPT, PROMPT],
        [picture(40, 70), picture(28, 28, 1), picture(90, 30, 2)],
    )
    with torch.no_grad():
        together = reward.raw(reward.builder(prompts, [one[None] for one in media]))
        alone = [reward.raw(reward.builder([p], [one[None]])) for p, one in zip(prompts, media, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=2e-5, rtol=0)
    assert len(set(together.flatten().tolist())) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_that_share_a_picture_score_as_if_alone(kind: str) -> None:
    reward = tiny_reward_of(kind)
    image = picture(40, 70)[None]
    with torch.no_grad():
        shared = reward.raw(reward.builder(["a", "a longer one"], [image, image], share=True))
        alone = torch.cat([reward.raw(reward.builder([p], [image])) for p in ("a", "a longer one")])
    torch.testing.assert_close(shared, alone, atol=2e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_pixels(kind: str) -> None:
    image = picture(40, 70).requires_grad_()
    tiny_reward_of(kind)(samples=[Sample("words", image)]).overall.sum().backward()
    assert image.grad is not None and float((image.grad != 0).float().mean()) > 0.9


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_positions_are_explicit_so_an_earlier_call_changes_nothing(kind: str) -> None:
    reward = tiny_reward_of(kind, positions="sequential")
    inputs = reward.builder(["words"], [picture(40, 40)[None]])
    with torch.no_grad():
        before = reward.raw(inputs)
        reward.vlm.model.rope_deltas = torch.full((1, 1), 9)
        assert torch.equal(before, reward.raw(inputs))
        plain = {
            **inputs.model_arguments(),
            "position_ids": torch.arange(inputs.input_ids.shape[1]).expand(3, 1, -1),
        }
        hidden = reward.vlm.model(**plain, use_cache=False).last_hidden_state[:, -1]
    torch.testing.assert_close(before, reward.head.score(hidden))


def test_one_position_families_refuse_mrope() -> None:
    with pytest.raises(ValueError, match="sequential"):
        tiny_reward_of("internvl", positions="mrope")


def test_a_plain_grey_picture_is_not_taken_for_padding() -> None:
    """The stock Idefics3 drops tiles of zeros, which is what middle grey is after normalisation."""
    scores = tiny_reward_of("smolvlm")(samples=[Sample("grey", torch.full((3, 28, 28), 0.5))])
    assert bool(scores.valid.all())


def test_idefics3_says_that_it_reads_no_videos() -> None:
    scores = tiny_reward_of("idefics3")(samples=[Sample("moves", torch.rand(4, 3, 28, 28))])
    assert scores.valid.tolist() == [False] and "reads no videos" in str(scores.reasons[0])


def test_every_record_names_a_configuration_that_exists() -> None:
    names = [name for backbone in BACKBONES for name in backbone.model_types]
    assert len(set(names)) == len(names) and all(AutoConfig.for_model(name) for name in names)
    with pytest.raises(ValueError, match="qwen2_vl"):
        backbone_of("bert")


def test_a_video_is_read_at_the_rate_of_the_rule() -> None:
    rule = VideoRule(fps=2.0, min_frames=4)
    frames = torch.arange(30.0).view(30, 1, 1, 1).expand(30, 3, 8, 8) / 30
    clip = read_clip(frames, rule, {"fps": 10.0})
    assert len(clip.times) == 6 and clip.step == pytest.approx(0.5)
    assert clip.times == pytest.approx((0.0, 0.6, 1.2, 1.7, 2.3, 2.9))
    assert read_clip(frames[:1], rule, {}).times == ()
    assert read_clip(frames[:4], rule, {}).times == (0.0, 0.5, 1.0, 1.5)
    with pytest.raises(ValueError, match="above 0"):
        read_clip(frames, rule, {"fps": 0})
