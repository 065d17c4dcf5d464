"""`mmalign train-reward` end to end on a tiny model: stopped and continued bit by bit, saved, loaded, told apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import rewardmodels
from mmalign.shapes import Law
from mmalign.shapes.pairs import write_pairs
from mmalign.train.distributed import Processes
from mmalign.train.loop import Update
from mmalign.types import Sample
from pipelines import train_reward
from rewardmodels.recipe import RewardRecipe
from rewardmodels.start import build_model
from rewardmodels.training import RewardTraining

RECIPE = "reward/shapes"
TINY = [
    "model.scratch.width=32", "model.scratch.layers=1", "model.scratch.heads=2", "model.scratch.vision_width=16",
    "model.scratch.vision_layers=1", "data.shapes.families=2", "data.shapes.prompts=2", "data.shapes.images=2",
    "data.shapes.cross=4", "budget.updates=4", "evaluation.every=2", "evaluation.num_prompts=4",
    "evaluation.final_prompts=8", "checkpoint.every=1", "save_dtype=float32",
]  # fmt: skip


OWN = ["data.heldout=null", "data.calibration=null"]
"""Of a training on a file: measured and calibrated on nothing."""


def quiet(words: str) -> None:
    """Say nothing."""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "reward" / "model.safetensors") | load_file(
        folder / "reward" / "reward_head.safetensors"
    )


def test_a_stopped_run_goes_on_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    quality = train_reward.run(RECIPE, [*TINY, f"output={whole}"], say=quiet)
    updates = RewardTraining.updates

    def stop(self: RewardTraining, iteration: int) -> Iterator[Update]:
        if iteration == 2:
            raise KeyboardInterrupt
        return updates(self, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(RewardTraining, "updates", stop)
        with pytest.raises(KeyboardInterrupt):
            train_reward.run(RECIPE, [*TINY, f"output={parts}"], say=quiet)
    train_reward.run(RECIPE, [*TINY, f"output={parts}"], say=quiet)
    one, two = weights(whole), weights(parts)
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    rows = [json.loads(line) for line in (parts / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [0, 1, 2, 3, 4] and "eval/ratio" in rows[-1]
    assert 0 < quality["ratio"] <= 1 and quality["accuracy"]["low"] <= quality["accuracy"]["mean"]


def test_training_from_a_file_and_going_on_from_a_saved_model(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "data", "train", num_prompts=7, law=Law(temperature=0.1), num_images=3)
    common = [
        *TINY, f"data.pairs={pairs}", f"data.heldout={pairs}", f"data.calibration={pairs}",
        "data.comparisons_per_bundle=3", "budget.updates=2",
    ]  # fmt: skip
    first = train_reward.run(RECIPE, [*common, f"output={tmp_path / 'a'}"], say=quiet)
    assert "best" not in first and 0 < first["num_pairs"] < 21 and first["num_pairs"] % 3 == 0
    second = [
        *common,
        "model.scratch=null",
        f"model.path={tmp_path / 'a' / 'reward'}",
        f"output={tmp_path / 'b'}",
    ]
    train_reward.run(RECIPE, second, say=quiet)
    reward = rewardmodels.load(str(tmp_path / "b" / "reward"))
    scores = reward(samples=[Sample("a red circle", torch.rand(3, 32, 32))])
    assert bool(scores.valid.all())
    card = (tmp_path / "b" / "reward" / "README.md").read_text()
    assert "mmalign train-reward" in card and "accuracy" in card


def test_bundles_are_shared_out_and_none_is_lost() -> None:
    recipe = train_reward.load_config(
        RECIPE, [*TINY, "budget.bundles_per_update=3"], train_reward.RewardRecipe
    )
    _, task = train_reward.compose(recipe, Processes())
    (alone,) = task.updates(1)
    shares = []
    for rank in range(2):
        task.processes.rank, task.processes.num = rank, 2
        (share,) = task.updates(1)
        shares.append(share)
    assert sum(share.num_losses for share in shares) == alone.num_losses
    assert [len(list(share.losses)) for share in shares] == [2, 1]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.scratch=null", "give one of path"),
        ("model.frames.fps=8", "pixels and frames belong to a backbone"),
        ("data.shapes.stages=[{until: 0.5}]", "until: 1.0"),
        ("optimizer.nam=adamw", "did you mean 'optimizer.name'"),
        ("method.loss=hinge", "method.loss"),
        ("data.pairs=none.jsonl", "no such file"),
    ],
)
def test_mistakes_are_one_line(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        train_reward.run(RECIPE, [*TINY, override, f"output={tmp_path}"], say=quiet)


def test_a_saved_reward_that_asks_or_answers_otherwise_is_not_gone_on_from_unseen(tmp_path: Path) -> None:
    words = ["model.scratch=null", "model.path=shapes-edits-reward", f"output={tmp_path / 'run'}"]
    problem = (
        r"has template source-media-prompt/1 \(the recipe: media-prompt/1\), head mlp \(the recipe: linear\).*"
        r"set model.template=source-media-prompt/1 model.head=mlp;.*model.backbone=shapes-edits-reward"
    )
    with pytest.raises(ValueError, match=problem):
        train_reward.run("reward/shapes", words, say=quiet)
    recipe = train_reward.load_config(
        "reward/shapes", [*words, "model.template=source-media-prompt/1", "model.head=mlp"], RewardRecipe
    )
    assert build_model(recipe).settings.head == "mlp"
