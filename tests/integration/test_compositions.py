"""Compositions where they are used: training on groups, scoring files, and the refusals that say what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mmalign.__main__ import main
from mmalign.media import write
from mmalign.pending import Judging
from mmalign.train.distributed import Processes
from pipelines.train import load_rewards, require_whole_groups
from rewardmodels.combine import Combined
from tests.integration.tiny_run import build, tiny_recipe

REWARDS = [
    "brightness",
    {"name": "both", "weight": 0.5, "rewards": [
        {"name": "sharpness", "scale": "rank"},
        {"name": "set-vendi", "options": {"features": "pixels"}},
    ]},
]  # fmt: skip
ROLLOUT = {
    "num_steps": 3, "group_size": 4, "groups_per_iteration": 2, "batch_size": 4, "sde": {"kind": "flow", "noise": 0.7},
}  # fmt: skip


def test_group_rules_and_sets_train(tmp_path: Path) -> None:
    recipe = tiny_recipe("grpo", rewards=REWARDS, combine="zscore", rollout=ROLLOUT)
    model = Combined(load_rewards(recipe.rewards))
    require_whole_groups(model, recipe, Processes())
    trainer = build(recipe, tmp_path, reward=Judging(model))
    trainer.train()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if "reward/both" in row]
    assert len(trained) == 2 and all(row["not_judged"] == 0 and row["kept_groups"] == 1 for row in trained)
    assert all(torch.isfinite(torch.tensor(row["reward/brightness"])) for row in trained)


def test_groups_cut_apart_are_refused() -> None:
    recipe = tiny_recipe("grpo", rewards=REWARDS, rollout=ROLLOUT | {"batch_size": 3})
    model = Combined(load_rewards(recipe.rewards))
    with pytest.raises(ValueError, match=r"make it a multiple of rollout\.group_size"):
        require_whole_groups(model, recipe, Processes())
    require_whole_groups(Combined(load_rewards(recipe.rewards[:1])), recipe, Processes())


def test_files_are_scored_by_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k, level in enumerate((0.25, 0.5)):
        write(tmp_path / "media" / f"{k}.png", torch.full((3, 8, 8), level))
    good = tmp_path / "good.yaml"
    good.write_text(
        "name: good\ncombine: min\nrewards: [brightness, {name: brightness, scale: {name: affine, std: 0.5}}]"
    )
    words = ["score", str(tmp_path / "media"), "--prompt", "p", "-o", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as done:
        main([*words, "--reward", str(good)])
    assert not done.value.code
    rows = [json.loads(line) for line in (tmp_path / "out" / "scores.jsonl").read_text().splitlines()]
    scores = [row["scores"][str(good)] for row in rows]
    assert [round(one["overall"], 2) for one in scores] == [0.25, 0.5]
    assert [round(one["brightness#2"], 2) for one in scores] == [0.5, 1.0]
    good.write_text("name: good\nrewards: [brightness, {name: brightness, scale: {name: affine, std: 0.5}}]")
    with pytest.raises(SystemExit):  # the same file, another content: scores of both must not be mixed
        main([*words, "--reward", str(good)])
    assert "holds scores of another" in capsys.readouterr().err
