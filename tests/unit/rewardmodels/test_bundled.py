"""The rewards that come with mmalign: each judges its own world, near the best that anyone could."""

from __future__ import annotations

from pathlib import Path

import pytest

import rewardmodels
from mmalign.shapes.annotators import Law
from mmalign.shapes.bundle import bundled_path, model_path
from mmalign.shapes.worlds import WORLDS
from rewardmodels.examination import against_law, judge_world
from rewardmodels.judges.trainable import is_reward_model

NAMES = {
    "shapes-reward": "shapes",
    "shapes-edits-reward": "shapes-edits",
    "shapes-videos-reward": "shapes-videos",
}


@pytest.mark.parametrize(("name", "world"), NAMES.items())
def test_bundled_rewards_judge_their_world(name: str, world: str) -> None:
    model, law = rewardmodels.load(name), Law(temperature=0.1, theta=2.0)
    assert model.modalities == {WORLDS[world].modality} and is_reward_model(name)
    found = judge_world(model, "evaluation", num_prompts=40, law=law, world=WORLDS[world])["overall"]
    assert against_law(found)["ratio"] > 0.9


def test_what_is_not_bundled_is_told() -> None:
    with pytest.raises(
        ValueError, match=r"no bundled model 'page-reward': there are edits-reward, .*videos-reward"
    ):
        is_reward_model("shapes-page-reward")


def test_a_folder_of_ones_own_may_be_called_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("shapes-mine", "shapes-reward"):
        Path(name).mkdir()
    assert model_path("shapes-mine") == "shapes-mine" and not is_reward_model("shapes-mine")
    assert model_path("shapes-reward") == str(bundled_path("reward"))
