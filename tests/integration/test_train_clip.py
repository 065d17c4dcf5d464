"""`mmalign train-reward clip/...`: trained on shapes and on files, stopped and continued, scored by `mmalign score`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import rewardmodels
from mmalign.__main__ import main
from mmalign.config import available_recipes, load_config
from mmalign.media import write
from mmalign.shapes import Law
from mmalign.shapes.pairs import write_pairs
from mmalign.train.distributed import Processes
from mmalign.train.loop import Update
from mmalign.types import Sample
from pipelines import train_clip
from rewardmodels.clip.recipe import ClipRecipe
from rewardmodels.clip.trained import ClipReward
from rewardmodels.clip.training import ClipTraining

TINY = [
    "model.scratch.width=64", "model.scratch.embedding=16", "model.scratch.image_layers=1",
    "model.scratch.text_layers=1", "data.shapes.families=2", "data.shapes.images=2", "budget.updates=4",
    "evaluation.every=2", "evaluation.num_prompts=4", "evaluation.final_prompts=8", "checkpoint.every=1",
]  # fmt: skip
CASES = {
    "clip/pick-like": [],
    "clip/hps-like": [],
    "clip/aesthetic-like": ["model.head.widths=[16, 8]"],
    "clip/image-reward-like": ["model.head.widths=[16, 8]", "model.texts=1"],
    "clip/social-like": [],
}


def test_every_recipe_is_trained_here() -> None:
    assert set(CASES) == {name for name in available_recipes() if name.startswith("clip/")}


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(list(words))
    return int(done.value.code or 0)


def quiet(words: str) -> None:
    """Say nothing."""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    reward = rewardmodels.load(str(folder / "reward"))
    assert isinstance(reward, ClipReward)
    return reward.state_dict()


@pytest.mark.parametrize("recipe", CASES)
def test_score_gives_what_the_trained_reward_gives(tmp_path: Path, recipe: str) -> None:
    assert call("train-reward", recipe, *TINY, *CASES[recipe], f"output={tmp_path / 'run'}") == 0
    quality = json.loads((tmp_path / "run" / "quality.json").read_text())
    assert 0 < quality["ratio"] <= 1 and quality["updates"] == 4
    reward = rewardmodels.load(str(tmp_path / "run" / "reward"))
    assert isinstance(reward, ClipReward) and reward.settings.quality["updates"] == 4
    assert reward.settings.std != (1.0,)  # calibrated
    draws, rows, samples = torch.Generator().manual_seed(0), [], []
    (tmp_path / "pictures").mkdir()
    for k, prompt in enumerate(["a red circle", "a blue square", "two red circles"]):
        image = (torch.rand(3, 32, 40, generator=draws) * 255).round() / 255
        write(tmp_path / "pictures" / f"{k}.png", image)
        rows.append(json.dumps({"prompt": prompt, "file": f"{k}.png"}))
        samples.append(Sample(prompt, image))
    (tmp_path / "pictures" / "manifest.jsonl").write_text("\n".join(rows) + "\n")
    folder, out = str(tmp_path / "run" / "reward"), tmp_path / "scores"
    assert (
        call("score", str(tmp_path / "pictures" / "manifest.jsonl"), "--reward", folder, "-o", str(out)) == 0
    )
    found = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    got = torch.tensor([next(iter(row["scores"].values()))["overall"] for row in found])
    torch.testing.assert_close(got, reward(samples=samples).overall, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_the_saved_reward_is_the_one_in_memory_bit_by_bit(tmp_path: Path, name: str) -> None:
    recipe = load_config(name, [*TINY, *CASES[name], "budget.updates=2", f"output={tmp_path}"], ClipRecipe)
    trainer, task = train_clip.compose(recipe, Processes())
    first = {key: value.clone() for key, value in task.model.state_dict().items()}
    assert trainer.train().updates == 2
    train_clip.finish(recipe, task, tmp_path, {})
    samples = [Sample("a red circle", image) for image in torch.rand(5, 3, 32, 32)]
    with task.result() as model:
        expected = model(samples=samples).overall
        assert any(not torch.equal(value, first[key]) for key, value in model.state_dict().items())
    loaded = rewardmodels.load(str(tmp_path / "reward"))
    assert torch.equal(loaded(samples=samples).overall, expected) and bool(torch.isfinite(expected).all())
    assert loaded.settings.score == recipe.model.score and loaded.settings.std != (1.0,)  # standardised


def test_a_stopped_run_goes_on_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_clip.run("clip/hps-like", [*TINY, f"output={whole}"], say=quiet)
    updates = ClipTraining.updates

    def stop(self: ClipTraining, iteration: int) -> Iterator[Update]:
        if iteration == 2:
            raise KeyboardInterrupt
        return updates(self, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(ClipTraining, "updates", stop)
        with pytest.raises(KeyboardInterrupt):
            train_clip.run("clip/hps-like", [*TINY, f"output={parts}"], say=quiet)
    train_clip.run("clip/hps-like", [*TINY, f"output={parts}"], say=quiet)
    one, two = weights(whole), weights(parts)
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_files_of_comparisons_train_it_too_and_it_goes_on_from_its_own_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = write_pairs(
        tmp_path / "data", "train", num_prompts=12, law=Law(temperature=0.1, theta=2.0), num_images=3
    )
    files = [f"data.{key}={pairs}" for key in ("pairs", "heldout", "calibration")]
    first, second = tmp_path / "first", tmp_path / "second"
    assert call("train-reward", "clip/pick-like", *TINY, *files, f"output={first}") == 0
    on = ["model.scratch=null", f"model.path={first / 'reward'}", "model.images=1", "model.texts=frozen"]
    words = [word for word in TINY if "scratch" not in word]
    assert (
        call("train-reward", "clip/hps-like", *words, *files, *on, "model.score=logit", f"output={second}")
        == 0
    )
    before, after = weights(first), weights(second)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and not any("text_model" in name for name in moved)
    third = f"output={tmp_path / 'third'}"
    assert call("train-reward", "clip/image-reward-like", *words, *files, *on, third) == 2
    assert "say the same" in capsys.readouterr().err.replace("\n", " ")


def test_a_recipe_is_validated_and_mistakes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("validate", "clip/aesthetic-like", "model.head.widths=[8]") == 0
    assert "visual_quality" in capsys.readouterr().out
    assert call("train-reward", "clip/aesthetic-like", "model.texts=all") == 2
    assert call("train-reward", "clip/pick-like", "model.imagse=all") == 2


@pytest.mark.parametrize("recipe", ["clip/pick-like", "clip/hps-like"])
def test_a_picture_that_cannot_be_read_is_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recipe: str
) -> None:
    pairs = write_pairs(tmp_path / "data", "train", num_prompts=12, law=Law(temperature=0.1), num_images=2)
    broken = sorted((tmp_path / "data" / "train").glob("*.png"))[0]
    broken.write_bytes(b"no picture")
    with pairs.open("a") as lines:
        lines.write('{"schema": "mmalign.pref/1"}\n')
    words = [
        f"data.pairs={pairs}",
        "data.heldout=null",
        "data.calibration=null",
        "data.comparisons_per_bundle=13",
    ]
    assert call("train-reward", recipe, *TINY, *words, f"output={tmp_path / 'run'}") == 0
    told = json.loads((tmp_path / "run" / "quality.json").read_text())["left_out"]
    assert (told["read"], told["lines"], told["media"]) == (13, 1, 1)  # of 4 epochs
    assert "left out 2 of 13 comparisons" in capsys.readouterr().out
