"""Trained CLIP-type rewards: saved bit by bit, read by published loaders, and what training goes on from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import rewardmodels
from mmalign.types import Sample
from rewardmodels.clip.embedding_head import new_chain
from rewardmodels.clip.starts import start
from rewardmodels.clip.trained import ClipReward, load_folder, looks_of
from tests.contract import tiny_clip
from tests.unit.rewardmodels.tiny_clips import HEAD, MODELS, WORDS, made, model_of, samples


@pytest.mark.parametrize("kind", MODELS)
def test_what_training_reads_is_what_is_scored(kind: str) -> None:
    reward, items = made(kind).eval(), samples()
    video = Sample(
        "a red circle", torch.stack([item.media for item in items if item.media.shape[1] == 16][:2])
    )
    items = [*items, items[0], video]
    with torch.no_grad():
        values = reward.values(looks_of(items, reward.scorer.rule))
    if kind == "logit":
        values = values * reward.scorer.scale()
    torch.testing.assert_close(reward(samples=items).overall, values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_saved_and_loaded_scores_are_the_same_bits(tmp_path: Path, kind: str) -> None:
    reward, items = made(kind).eval(), samples()
    reward.settings = replace(reward.settings, mean=(0.3,), std=(0.7,), temperature=0.4, tie_threshold=0.1)
    before = reward(samples=items)
    loaded = rewardmodels.load(str(reward.save(tmp_path / "reward")))
    assert isinstance(loaded, ClipReward)
    assert torch.equal(loaded(samples=items).overall, before.overall) and bool(before.valid.all())
    assert float(before.overall.std()) > 0
    assert (loaded.settings.temperature, loaded.settings.tie_threshold) == (0.4, 0.1)
    torch.testing.assert_close(loaded.probability(before, before), torch.full((6,), 0.5))


@pytest.mark.parametrize("kind", MODELS)
def test_the_files_are_in_the_published_layout(tmp_path: Path, kind: str) -> None:
    reward, items = made(kind).eval(), samples()
    folder = reward.save(tmp_path / "reward")
    head, clip = str(folder / "head.safetensors"), str(folder / "clip")
    name, options = {
        "logit": ("pickscore", {"path": str(folder)}),
        "cosine": ("clip-score", {"path": str(folder), "prefix": "a "}),
        "head": ("laion-aesthetic", {"path": head, "clip": clip}),
        "picture-prompt": ("clip-head", {"path": head, "clip": clip, "activation": "relu"}),
        "blip": ("image-reward", {"path": str(folder), "tokenizer": str(folder / "tokenizer")}),
    }[kind]
    if kind == "cosine":  # HPSv2's padding is said in reward_config.json: of squares both rules make the same
        items = [item for item in items if item.media.shape[1] == 16]
    expected = reward(samples=items).overall
    if kind == "blip":
        expected = (expected - 0.16717362830052426) / 1.0333394966054072
    torch.testing.assert_close(
        rewardmodels.load(name, **options)(samples=items).overall, expected, atol=1e-5, rtol=1e-5
    )


def test_published_files_are_where_training_starts(tmp_path: Path) -> None:
    pick = tiny_clip.hf_clip(tmp_path / "pick")
    hps = tiny_clip.open_clip_file(tmp_path / "hps", "HPS_v2.1_compressed.pt", inside="state_dict")
    laion = tiny_clip.aesthetic(tmp_path / "laion")
    blip = tiny_clip.image_reward(tmp_path / "blip")
    only_pictures: dict[str, object] = {"score": "head", "texts": "frozen"}
    cases: list[tuple[str, dict[str, object], dict[str, object]]] = [
        ("pickscore", {"path": str(pick)}, {"score": "logit", "path": str(pick)}),
        ("hpsv2.1", hps, {"score": "cosine", "squares": "pad", "inside": "state_dict", **hps}),
        ("laion-aesthetic", laion, only_pictures | {"path": laion["clip"], "head_file": laion["path"]}),
        ("image-reward", blip, {"score": "blip", **blip}),
    ]  # fmt: skip
    for name, options, fields in cases:
        expected = rewardmodels.load(name, **options)(samples=samples()).overall
        reward = start(model_of(**fields), WORDS, dimension="overall").eval()
        torch.testing.assert_close(reward(samples=samples()).overall, expected, atol=1e-5, rtol=1e-5)
        again = rewardmodels.load(str(reward.save(tmp_path / "saved" / name)))
        assert torch.equal(again(samples=samples()).overall, reward(samples=samples()).overall), name
        on = start(
            model_of(
                score=fields["score"], path=str(tmp_path / "saved" / name), texts=fields.get("texts", "all")
            ),
            WORDS,
            dimension="overall",
        )
        assert torch.equal(on.eval()(samples=samples()).overall, reward(samples=samples()).overall), name


def test_a_new_head_stands_on_the_towers_of_a_saved_reward(tmp_path: Path) -> None:
    saved = made("logit")
    folder = str(saved.save(tmp_path / "pick"))
    fields = {"score": "head", "path": folder, "head": HEAD, "texts": "frozen", "images": "frozen"}
    reward = start(model_of(**fields), WORDS, dimension="quality")
    towers, before = reward.scorer.encoder.state_dict(), saved.scorer.encoder.state_dict()
    assert reward.dimensions == ("quality",) and towers.keys() == before.keys()
    assert all(torch.equal(towers[key], before[key]) for key in before)
    with pytest.raises(ValueError, match="say the same"):
        start(model_of(score="blip", path=folder), WORDS, dimension="quality")


def test_a_saved_logit_goes_on_as_a_cosine(tmp_path: Path) -> None:
    saved = made("logit")
    folder = str(saved.save(tmp_path / "pick"))
    reward = start(model_of(score="cosine", path=folder), WORDS, dimension="overall")
    factor = float(saved.scorer.scale().detach())
    torch.testing.assert_close(
        factor * reward.eval()(samples=samples()).overall, saved.eval()(samples=samples()).overall
    )
    assert reward.settings.score == "cosine" and reward.settings.std == (1.0,)


def test_gradients_reach_the_pixels_and_nothing_else_of_a_loaded_reward(tmp_path: Path) -> None:
    reward = load_folder(made("logit").save(tmp_path / "reward"))
    image: Tensor = torch.rand(3, 16, 16, requires_grad=True)
    reward(samples=[Sample("a red circle", image)]).overall.sum().backward()
    assert image.grad is not None and float(image.grad.abs().sum()) > 0
    assert all(p.grad is None for p in reward.parameters())


def test_dropout_stands_where_published_numbers_leave_a_gap() -> None:
    chain = new_chain(8, (6, 4, 3, 2), "none", dropout=0.9)
    assert sorted(chain.dropped) == [0, 1, 2, 4]
    seen = torch.ones(4, 8)
    assert torch.equal(chain.eval()(seen), chain(seen))
