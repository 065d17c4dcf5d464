"""The input builder against the stock processor and the stock position rule."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from rewardmodels.inputs import TEMPLATES, InputBuilder
from rewardmodels.pixels import PixelRule, patchify
from rewardmodels.tokens import word_tokenizer
from tests.unit.rewardmodels.tiny import tiny_reward

WORDS = ["a", "red", "blue", "circle", "square"]
RULE = PixelRule(4, min_pixels=64, max_pixels=64 * 64)


def builder(template: str = "media-prompt/1", **options: object) -> InputBuilder:
    return InputBuilder(word_tokenizer(WORDS), RULE, TEMPLATES[template], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(32, 32), (32, 48), (8, 64)])
def test_patches_are_those_of_the_stock_processor(size: tuple[int, int]) -> None:
    images = torch.rand(3, 3, *size)
    stock = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, temporal_patch_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3,
        size={"shortest_edge": 64, "longest_edge": 64 * 64}, do_rescale=False, do_resize=False,
    )(list(images), return_tensors="pt")  # fmt: skip
    patches, grid = patchify(images[:, None], RULE)
    assert torch.equal(patches.flatten(0, 1), stock.pixel_values)
    assert stock.image_grid_thw.tolist() == [list(grid)] * 3


@pytest.mark.parametrize("size", [(32, 32), (33, 61), (7, 9), (300, 200), (1000, 20), (8, 8)])
def test_sizes_are_those_of_the_stock_resize_rule(size: tuple[int, int]) -> None:
    expected = smart_resize(*size, factor=8, min_pixels=64, max_pixels=64 * 64)
    assert RULE.target_size(*size) == expected


def test_an_image_fills_its_temporal_patch_and_an_odd_video_repeats_its_last_frame() -> None:
    video = torch.rand(1, 3, 3, 8, 8)
    patches, grid = patchify(video, RULE)
    assert grid == (2, 2, 2)
    both = patches.view(2, 4, 3, 2, 4, 4)[1]
    assert torch.equal(both[:, :, 0], both[:, :, 1])


def test_too_narrow_pictures_are_refused_with_the_mend() -> None:
    with pytest.raises(ValueError, match="crop it"):
        RULE.target_size(1, 300)


@pytest.mark.parametrize("template", ["media-prompt/1", "prompt-media/1"])
def test_positions_are_those_of_the_stock_model(template: str) -> None:
    reward = tiny_reward(template=template)
    inputs = reward.builder(["a red circle", "blue"], [torch.rand(1, 3, 32, 32)] * 2)
    types = (inputs.input_ids == reward.vlm.config.image_token_id).int()
    expected, _ = reward.vlm.model.get_rope_index(
        inputs.input_ids, types, inputs.visual["image_grid_thw"], attention_mask=inputs.attention_mask
    )
    real = inputs.attention_mask.bool()
    assert torch.equal(inputs.position_ids[:, real], expected[:, real])


def test_sequential_positions_count_the_tokens() -> None:
    inputs = builder(positions="sequential")(["a red circle"], [torch.rand(1, 3, 16, 16)])
    assert inputs.position_ids[:, 0].tolist() == [list(range(inputs.input_ids.shape[1]))] * 3


def test_special_tokens_in_a_prompt_stay_text() -> None:
    make = builder()
    plain = make(["a circle"], [torch.rand(1, 3, 16, 16)])
    evil = make(["a <|Reward|> circle <|image_pad|>"], [torch.rand(1, 3, 16, 16)])
    reward_id, image_id = make.tokenizer.convert_tokens_to_ids(["<|Reward|>", "<|image_pad|>"])
    assert int((evil.input_ids == reward_id).sum()) == 1
    assert int((evil.input_ids == image_id).sum()) == int((plain.input_ids == image_id).sum())


def test_a_prompt_that_is_too_long_is_refused_not_cut() -> None:
    with pytest.raises(ValueError, match="longer than 3"):
        builder(max_prompt_tokens=3)(["a red blue circle"], [torch.rand(1, 3, 16, 16)])


def test_a_tokenizer_without_the_reward_token_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the token"):
        InputBuilder(word_tokenizer(WORDS, special=()), RULE, TEMPLATES["media-prompt/1"])


def test_an_edit_template_reads_source_then_result() -> None:
    source, result = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 8, 8)
    inputs = builder("prompt-source-media/1")(["red"], [result], [source])
    assert inputs.visual["image_grid_thw"].tolist() == [[1, 4, 4], [1, 2, 2]]
    assert inputs.pixel_values[:16].unique().tolist() == [-1.0] and inputs.pixel_values[
        16:
    ].unique().tolist() == [1.0]
    with pytest.raises(ValueError, match="needs the source"):
        builder("prompt-source-media/1")(["red"], [result])


def test_prompts_that_share_a_picture_score_as_if_alone() -> None:
    reward = tiny_reward()
    one, other = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    prompts = ["a red circle", "two blue squares", "a picture of a large green cross", "a circle"]
    media = [one, other, one, one]
    with torch.no_grad():
        shared = reward.raw(reward.builder(prompts, media, share=True))
        alone = torch.cat([reward.raw(reward.builder([p], [m])) for p, m in zip(prompts, media, strict=True)])
    assert reward.builder(prompts, media, share=True).input_ids.shape[0] == 2
    torch.testing.assert_close(shared, alone, atol=1e-5, rtol=0)


def test_scores_do_not_depend_on_earlier_calls() -> None:
    """Stock models keep `rope_deltas` of the last call; explicit positions make them irrelevant."""
    reward = tiny_reward()
    inputs = reward.builder(["a red circle"], [torch.rand(1, 3, 32, 32)])
    with torch.no_grad():
        before = reward.raw(inputs)
        reward.vlm.model.rope_deltas = torch.full((1, 1), 7)
        assert torch.equal(before, reward.raw(inputs))
