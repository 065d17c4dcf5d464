"""A reward that learned from video files chooses their frames itself, whatever verb shows them to it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

import rewardmodels
from mmalign import media
from mmalign.composition import Reward
from mmalign.config import load_config
from mmalign.types import PreferencePair, Sample
from pipelines import check_reward, judges, score
from pipelines.evaluate_reward import judge_pairs
from pipelines.settings import CheckReward, EvaluateReward, Score
from rewardmodels.combine import Combined, reads_files
from rewardmodels.recipe import RewardRecipe
from rewardmodels.start import build_model
from tests.integration.test_reward_kinds import pairs_of
from tests.integration.test_train_reward import TINY
from tests.unit.rewardmodels import tiny_checkpoints as tiny

PROMPT = "a red circle moves left"


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    """Two of 48 frames in 3 seconds, of which VideoReward reads 6."""
    folder = tmp_path / "videos"
    return [
        media.write(
            folder / f"{k}.mp4", torch.rand(48, 3, 56, 56, generator=torch.Generator().manual_seed(k)), fps=16
        )
        for k in range(2)
    ]


def test_scores_of_files_are_those_of_the_reward_itself(videos: list[Path], tmp_path: Path) -> None:
    options = tiny.video_reward(tmp_path / "checkpoint")
    reward = rewardmodels.load("videoreward", **options)
    own = reward(samples=[Sample(PROMPT, file) for file in videos]).overall
    lines = [{"image": str(file), "prompt": PROMPT} for file in videos]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    wanted = Reward(name="videoreward", options=options)
    outcome = score.run(
        Score(input=str(tmp_path / "in.jsonl"), rewards=(wanted,), output=str(tmp_path / "out"), workers=0, gallery=0)
    )  # fmt: skip
    rows = [json.loads(line) for line in (outcome.folder / "scores.jsonl").read_text().splitlines()]
    found = [row["scores"]["videoreward"]["overall"] for row in rows]
    torch.testing.assert_close(torch.tensor(found), own, atol=1e-5, rtol=0)

    settings = EvaluateReward(reward=wanted, pairs="unused", output=str(tmp_path / "o.json"))
    pair = PreferencePair(PROMPT, *(Sample(PROMPT, file) for file in videos), {"overall": 1.0})
    (judge,) = judges.load([wanted])
    (difference,) = judge_pairs(judge, [pair], settings, Counter()).difference
    assert difference == pytest.approx(float(own[0] - own[1]), abs=1e-5)

    shown = check_reward._decoded(pair.a, CheckReward(reward=wanted, output="unused"), judge)
    assert shown.media == videos[0]


def test_a_reward_of_parts_reads_files_where_all_parts_do(tmp_path: Path) -> None:
    reward, motion = (
        rewardmodels.load("videoreward", **tiny.video_reward(tmp_path)),
        rewardmodels.load("motion"),
    )
    assert reads_files(Combined((("a", 1.0, reward),)))
    assert not reads_files(Combined((("a", 1.0, reward), ("b", 1.0, motion))))
    assert not reads_files(rewardmodels.load("shapes-videos-reward"))


@pytest.mark.parametrize("pairs", ["shapes-videos", "file"])
def test_what_is_trained_on_files_is_shown_files(pairs: str, tmp_path: Path) -> None:
    named = pairs if pairs != "file" else str(pairs_of("video", tmp_path / "data", num=1))
    recipe = load_config("reward/edit-reward-like", [*TINY, f"data.pairs={named}"], RewardRecipe)
    build_model(recipe).save(tmp_path / "saved")
    assert reads_files(rewardmodels.load(str(tmp_path / "saved"))) is (pairs == "file")
