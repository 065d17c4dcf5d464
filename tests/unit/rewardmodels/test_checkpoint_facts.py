"""What else decides a published score: sizes of pictures, facts in files, tokens, the base; and no weight may lack."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.transforms.functional as TF
from huggingface_hub.utils import filter_repo_objects
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.transforms import InterpolationMode

import rewardmodels
from mmalign.media import to_pil
from mmalign.types import Sample
from rewardmodels.checkpoints import wording
from tests.contract import tiny_clip
from tests.unit.rewardmodels import tiny_checkpoints as tiny
from tests.unit.rewardmodels.judges import tiny_chat
from tests.unit.rewardmodels.test_checkpoints import (
    PROMPT,
    block,
    hidden,
    mlp,
    patches,
    pictures,
    plain_positions,
)
from tests.unit.rewardmodels.tiny_vlms import REWARDS, SPECIAL, byte_tokenizer


def pillow(frames: Tensor, side: int) -> Tensor:
    """Frames resized by Pillow's bicubic filter."""
    made = [to_pil(frame).resize((side, side), Image.Resampling.BICUBIC) for frame in frames]
    return torch.stack([TF.to_tensor(image) for image in made])


@pytest.mark.parametrize("side", [20, 70])
def test_hpsv3_scales_every_picture_to_its_size_up_and_down(tmp_path: Path, side: int) -> None:
    reward = rewardmodels.load("hpsv3", **tiny.hpsv3(tmp_path))
    image = pictures(1, side)
    model, tokenizer = tiny.grown("qwen2_vl", REWARDS[:1])
    text = wording.HPSV3.replace("{media}", block("<|image_pad|>", 4)).replace("{prompt}", PROMPT)
    pixels = {
        "pixel_values": patches(pillow(image, 56), "qwen2_vl"),
        "image_grid_thw": torch.tensor([[1, 4, 4]]),
    }
    ids, states = hidden(model, tokenizer, text, pixels, position_ids=plain_positions(tokenizer, text))
    row = states[int((ids == tokenizer.convert_tokens_to_ids("<|Reward|>")).nonzero())]
    expected = mlp(load_file(tmp_path / "HPSv3.safetensors"), "rm_head", row)[0]
    torch.testing.assert_close(
        reward(samples=[Sample(PROMPT, image[0])]).overall[0], expected, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(("kind", "side"), [("qwen2_5_vl", 56), ("qwen3_vl", 64)])
def test_edit_reward_has_the_positions_of_its_base_and_scales_both_pictures(
    tmp_path: Path, kind: str, side: int
) -> None:
    reward = rewardmodels.load("editreward", **tiny.edit_reward(tmp_path, kind=kind, pixels=side * side))
    source, result = pictures(1, 20, 1), pictures(1, 76, 2)
    model, tokenizer = tiny.grown(kind, REWARDS[:1])
    pixels = {
        "pixel_values": torch.cat([patches(pillow(one, side), kind) for one in (source, result)]),
        "image_grid_thw": torch.tensor([[1, 4, 4], [1, 4, 4]]),
    }
    shown = block("<|image_pad|>", 4)
    text = wording.EDIT_FOLLOWING.replace("{source}", shown).replace("{media}", shown)
    text = text.replace("{prompt}", PROMPT)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    more: dict[str, Any] = {"mm_token_type_ids": (ids == model.config.image_token_id).int()}
    if kind == "qwen2_5_vl":
        more = {"position_ids": plain_positions(tokenizer, text)}
    row, states = hidden(model, tokenizer, text, pixels, **more)
    seen = states[int((row == tokenizer.convert_tokens_to_ids("<|Reward|>")).nonzero())]
    expected = mlp(tiny.ranknet("rm_heads.head_0", seed=20), "rm_heads.head_0", seen)[0]
    scores = reward(samples=[Sample(PROMPT, result[0], source[0])])
    torch.testing.assert_close(scores.values[0, 0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("side", "near"), [(392, 1e-4), (404, 2e-3)])
def test_vefx_scales_frames_to_multiples_of_28_and_then_of_32(tmp_path: Path, side: int, near: float) -> None:
    """404 -> 392 -> 384, where one step would give 416; one of a thousand of Pillow's pixels is a level off ours."""
    reward = rewardmodels.load("vefx-reward", **tiny.vefx(tmp_path))
    source, result = pictures(2, side, 1), pictures(2, side, 2)
    model, tokenizer = tiny.grown("qwen3_vl", REWARDS[1:])
    first = [pillow(one, 392) for one in (source, result)]  # whole levels; then floats, with overshoot
    seen = [TF.resize(one, [384, 384], InterpolationMode.BICUBIC, antialias=True) for one in first]
    shown = f"<0.1 seconds>{block('<|video_pad|>', 144)}"
    text = wording.VEFX.replace("{source}", shown).replace("{media}", shown).replace("{prompt}", PROMPT)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    pixels = {
        "pixel_values_videos": torch.cat([patches(one, "qwen3_vl") for one in seen]),
        "video_grid_thw": torch.tensor([[1, 24, 24], [1, 24, 24]]),
        "mm_token_type_ids": 2 * (ids == model.config.video_token_id).int(),
    }
    row, states = hidden(model, tokenizer, text, pixels)
    where = [int((row == tokenizer.convert_tokens_to_ids(token)).nonzero()) for token in REWARDS[4:]]
    levels = 1 + (states[where] @ tiny.random(3, 32, seed=9).T).sigmoid().cumprod(1).sum(1)
    scores = reward(samples=[Sample(PROMPT, result, source)])
    torch.testing.assert_close(scores.values[0], levels, atol=near, rtol=0)


# ---------------------------------------------------------------- VideoReward's files


def video_scores(options: dict[str, Any], **more: Any) -> Tensor:
    scores = rewardmodels.load("videoreward", **options, **more)(samples=[Sample(PROMPT, pictures(4, 56))])
    return scores.values[0]


def test_video_reward_without_normalisation_is_raw(tmp_path: Path) -> None:
    options = tiny.video_reward(tmp_path)
    mean, std = torch.tensor([0.5, -0.5, 0.1]), torch.tensor([2.0, 1.5, 0.5])
    torch.testing.assert_close(video_scores(options, normalise=False), video_scores(options) * std + mean)


def test_video_reward_has_the_published_constants_where_its_file_has_none(tmp_path: Path) -> None:
    options = tiny.video_reward(tmp_path)
    file = tmp_path / "model_config.json"
    facts = json.loads(file.read_text())
    del facts["inference_config"]
    file.write_text(json.dumps(facts))
    mean, std = torch.tensor([3.6757, 1.1646, 2.8105]), torch.tensor([2.2476, 1.3811, 2.5121])
    torch.testing.assert_close(video_scores(options), (video_scores(options, normalise=False) - mean) / std)


def test_video_reward_reads_frames_as_its_file_says(tmp_path: Path) -> None:
    options = tiny.video_reward(tmp_path)
    file = tmp_path / "model_config.json"
    facts = json.loads(file.read_text()) | {"data_config": {"fps": 3, "max_frame_pixels": 50176}}
    file.write_text(json.dumps(facts))
    del options["max_pixels"]
    rule = rewardmodels.load("videoreward", **options).builder.video  # type: ignore[attr-defined]
    assert (rule.fps, rule.max_pixels) == (3, 50176)
    facts.pop("data_config")
    file.write_text(json.dumps(facts))
    rule = rewardmodels.load("videoreward", **options).builder.video  # type: ignore[attr-defined]
    assert (rule.fps, rule.max_pixels) == (2.0, 200704)


def test_frames_of_a_generator_are_thinned_by_their_rate(tmp_path: Path) -> None:
    """48 frames at 16 a second are 3 seconds, of which 6 frames are read; without the rate they are all."""
    options, frames = tiny.video_reward(tmp_path), pictures(48, 56)
    chosen = frames[torch.linspace(0, 47, 6).round().long()]
    plain, told = (rewardmodels.load("videoreward", **options, frame_rate=rate) for rate in (None, 16.0))
    whole, few = (plain(samples=[Sample(PROMPT, some)]).values for some in (frames, chosen))
    torch.testing.assert_close(told(samples=[Sample(PROMPT, frames)]).values, few)
    assert not torch.allclose(whole, few, atol=1e-3)


def test_video_reward_of_three_outputs_is_their_diagonal(tmp_path: Path) -> None:
    options = tiny.video_reward(tmp_path)
    file = tmp_path / "checkpoint-12" / "model.pth"
    state = torch.load(file, weights_only=True)
    one = state["base_model.model.rm_head.weight"]
    factors = torch.tensor([[1.0], [-2.0], [3.0]])
    plain = video_scores(options, normalise=False)
    torch.save(state | {"base_model.model.rm_head.weight": factors * one}, file)
    torch.testing.assert_close(video_scores(options, normalise=False), plain * factors[:, 0])


def test_video_reward_brings_its_tokenizer_or_has_its_tokens_registered_in_order(tmp_path: Path) -> None:
    options = tiny.video_reward(tmp_path)
    expected = video_scores(options)
    byte_tokenizer(SPECIAL[:-1]).save_pretrained(options["base_config"])
    assert torch.equal(video_scores(options), expected)
    byte_tokenizer(SPECIAL).save_pretrained(options["base_config"])
    (tmp_path / "checkpoint-12" / "tokenizer").rename(tmp_path / "aside")
    assert torch.equal(video_scores(options), expected)


def test_a_map_that_peft_wrapped_must_have_its_adapter(tmp_path: Path) -> None:
    options = tiny.video_reward(tmp_path)
    file = tmp_path / "checkpoint-12" / "model.pth"
    state = torch.load(file, weights_only=True)
    torch.save(
        {name: item for name, item in state.items() if "layers.1.mlp.down_proj.lora" not in name}, file
    )
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.down_proj\.weight is incomplete: it has nothing"):
        rewardmodels.load("videoreward", **options)


def test_an_adapter_has_a_pair_for_every_module_that_it_names(tmp_path: Path) -> None:
    """One lost whole would leave the base's weight, and the report would say that none is missing."""
    options = tiny.adapter_pair(tmp_path)
    file = tmp_path / "checkpoint-12" / "adapter_model.safetensors"
    rest = {name: item for name, item in load_file(file).items() if "layers.1." not in name}
    save_file(rest, file)
    with pytest.raises(
        ValueError, match=r"adapter_model\.safetensors .* 2 modules of 4 .*model\.layers\.1\."
    ):
        rewardmodels.load("videoreward", **options)
    record = file.with_name("adapter_config.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"layers_to_transform": [0]}))
    assert "2 adapters merged" in str(rewardmodels.load("videoreward", **options).report)  # type: ignore[attr-defined]


# ---------------------------------------------------------------- no layout loads without any of its weights

Layout = tuple[Callable[[Path], dict[str, Any]], str]
LAYOUTS: dict[str, Layout] = {
    "videoreward": (tiny.video_reward, "checkpoint-12/model.pth"),
    "videoreward: adapter": (tiny.adapter_pair, "checkpoint-12/adapter_model.safetensors"),
    "videoreward: the rest": (tiny.adapter_pair, "checkpoint-12/non_lora_state_dict.pth"),
    "videoreward: base": (tiny.adapter_pair, "base/model.safetensors"),
    "hpsv3": (tiny.hpsv3, "HPSv3.safetensors"),
    "editreward": (tiny.edit_reward, "model.safetensors"),
    "vefx-reward": (tiny.vefx, "model-00001-of-00002.safetensors"),
    "pickscore": (tiny_clip.TINY["pickscore"], "model.safetensors"),
    "hpsv2": (tiny_clip.TINY["hpsv2"], "HPS_v2_compressed.pt"),
    "laion-aesthetic": (tiny_clip.aesthetic, "sac+logos+ava1-l14-linearMSE.pth"),
    "laion-aesthetic: clip": (tiny_clip.aesthetic, "clip/model.safetensors"),
    "image-reward": (tiny_clip.image_reward, "ImageReward.pt"),
    "unifiedreward-image": (lambda folder: {"path": str(tiny_chat.qwen(folder))}, "model.safetensors"),
    "editscore": (
        lambda folder: {"path": str(tiny_chat.adapter(folder / "a", tiny_chat.qwen(folder / "b")))},
        "a/adapter_model.safetensors",
    ),
}
SURE = re.compile(
    r"rm_head|lora_|layers\.\d+\.weight$|embed|logit_scale|lm_head|text_projection|norm\.weight$"
)
UNUSED = re.compile(r"vision_proj|text_proj\.|position_ids")
"""ImageReward's weights for contrastive training, which no score uses."""


def kinds(names: list[str], most: int = 14) -> list[str]:
    """One name for each kind of weight, the telling ones first."""
    one = {re.sub(r"\d+", "N", name): name for name in names if not UNUSED.search(name)}
    return sorted(one.values(), key=lambda name: (SURE.search(name) is None, name))[:most]


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_no_layout_loads_without_one_of_its_weights(layout: str, tmp_path: Path) -> None:
    write, place = LAYOUTS[layout]
    options, file, name = write(tmp_path), tmp_path / place, layout.partition(":")[0]
    if name == "hpsv2":
        pytest.importorskip("open_clip", reason="HPSv2 needs the extra clip")
    pickled = file.suffix != ".safetensors"
    whole = torch.load(file, weights_only=True) if pickled else load_file(file)
    inside = "state_dict" if "state_dict" in whole else None
    tensors = whole["state_dict"] if inside else whole
    rewardmodels.load(name, **options)
    for lost in kinds(list(tensors)):
        rest = {key: item for key, item in tensors.items() if key != lost}
        torch.save({inside: rest} if inside else rest, file) if pickled else save_file(rest, file)
        with pytest.raises(
            ValueError, match=r"missing|has no|holds no|incomplete|pairs|not among|no RankNet|do not fit"
        ):
            rewardmodels.load(name, **options)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if ":" not in name or name.endswith("adapter")])
def test_of_a_hub_id_all_is_fetched_that_is_read(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if layout == "hpsv2":
        pytest.importorskip("open_clip", reason="HPSv2 needs the extra clip")
    options = LAYOUTS[layout][0](tmp_path / "made")
    places = {
        key: Path(options[key]) for key in ("path", "base_config", "clip", "tokenizer") if key in options
    }

    def download(repo: str, *, allow_patterns: list[str]) -> str:
        place = places[repo.removeprefix("owner/")]
        files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
        names = {str(file.relative_to(place if place.is_dir() else place.parent)): file for file in files}
        for name in filter_repo_objects(list(names), allow_patterns=allow_patterns):
            target = tmp_path / "hub" / repo / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(names[name], target)
        return str(tmp_path / "hub" / repo)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    named = options | {key: f"owner/{key}" for key in places}
    name = layout.partition(":")[0]
    found, local = (rewardmodels.load(name, **given) for given in (named, options))
    assert found.dimensions == local.dimensions
