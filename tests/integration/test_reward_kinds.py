"""What a reward judges that was trained from a file: what the file holds, unless the recipe says otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

import rewardmodels
from mmalign.media import write
from mmalign.shapes import Law
from mmalign.shapes.pairs import write_pairs
from mmalign.train.loop import Update
from mmalign.types import Sample
from pipelines import plans, train_clip, train_reward
from rewardmodels.recipe import RewardRecipe
from rewardmodels.training import RewardTraining
from tests.integration.test_train_reward import OWN, TINY, quiet
from tests.unit.rewardmodels.tiny import tiny_reward

EDITS = [
    *TINY,
    "budget.updates=1",
    "evaluation.every=null",
    "data.comparisons_per_bundle=4",
    "data.calibration=null",
]
FIVE = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SAMPLES = {
    "image": Sample("a red circle", FIVE[0]),
    "edit": Sample("make it red", FIVE[0], FIVE[1]),
    "video": Sample("a red circle moves", FIVE),
}


def pairs_of(kind: str, folder: Path, num: int = 8) -> Path:
    """Pairs of pictures, of edits of one, or of clips."""
    path = write_pairs(folder, "train", num_prompts=num, law=Law(temperature=0.1), num_images=2)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if kind == "edit":
            line["inputs"] = [{"role": "source", "uri": line["candidates"][0]["uri"]}]
        for one in line["candidates"] if kind == "video" else ():
            one["uri"] = f"{Path(one['uri']).stem}.mp4"
            write(folder / one["uri"], FIVE)
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


@pytest.mark.parametrize("kind", ["image", "edit", "video"])
def test_it_judges_what_its_file_holds(kind: str, tmp_path: Path) -> None:
    path = pairs_of(kind, tmp_path / "data")
    more = [f"data.pairs={path}", f"data.heldout={path}", f"output={tmp_path / 'run'}"]
    quality = train_reward.run("reward/edit-reward-like", [*EDITS, *more], say=quiet)
    assert quality["left_out"]["media"] == 0 and quality["num_pairs"] == 8
    reward = rewardmodels.load(str(tmp_path / "run" / "reward"))
    assert reward.modalities == {kind}
    valid = {name: bool(reward(samples=[sample]).valid) for name, sample in SAMPLES.items()}
    assert valid == {name: name == kind for name in SAMPLES}


def test_what_a_recipe_says_it_judges_is_all_it_learns(tmp_path: Path) -> None:
    path = pairs_of("edit", tmp_path / "data", 4)
    more = [
        f"data.pairs={path}",
        "data.heldout=null",
        "model.modalities=[video]",
        f"output={tmp_path / 'run'}",
    ]
    with pytest.raises(
        ValueError, match=r"'edit' \(first in line 1, 4 of 4 comp.*, and the reward judges video:"
    ):
        train_reward.run("reward/edit-reward-like", [*EDITS, *more], say=quiet)
    for key in ("pairs", "heldout"):
        wrong = [
            "data.pairs=shapes-edits",
            "data.heldout=null",
            f"data.{key}=shapes",
            "model.modalities=[edit]",
        ]
        with pytest.raises(
            ValueError, match=rf"data.{key}=shapes holds the kind 'image', and the reward judges"
        ):
            train_reward.run(
                "reward/edit-reward-like", [*EDITS, *wrong, f"output={tmp_path / key}"], say=quiet
            )


def no_updates(self: RewardTraining, iteration: int) -> Iterator[Update]:
    raise AssertionError("trained before its data were refused")


def test_heldout_pairs_of_another_kind_are_refused_before_the_first_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits, pictures = pairs_of("edit", tmp_path / "edits"), pairs_of("image", tmp_path / "pictures")
    more = [f"data.pairs={edits}", f"data.heldout={pictures}", f"output={tmp_path / 'run'}"]
    monkeypatch.setattr(RewardTraining, "updates", no_updates)
    with pytest.raises(
        ValueError, match=r"data.heldout=.* the kind 'image' .*the reward judges edit: change"
    ):
        train_reward.run("reward/edit-reward-like", [*EDITS, *more], say=quiet)


def test_what_a_saved_reward_judges_decides_for_the_files_it_goes_on_with(tmp_path: Path) -> None:
    folder, path = tiny_reward().save(tmp_path / "reward"), pairs_of("video", tmp_path / "data", 2)
    words = ["model.scratch=null", f"model.path={folder}", f"data.pairs={path}", *OWN]
    problem = r"data.pairs=.* the kind 'video' .*the reward judges image: change"
    for refuse in (train_reward.run, partial(plans.resolve, schema=RewardRecipe)):
        with pytest.raises(ValueError, match=problem):
            refuse("reward/shapes", [*words, f"output={tmp_path / 'run'}"])


def test_a_clip_reward_that_sees_no_source_does_not_learn_edits_from_a_file(tmp_path: Path) -> None:
    path = pairs_of("edit", tmp_path / "data", 4)
    more = ["budget.updates=1", "data.heldout=null", "data.calibration=null", f"output={tmp_path / 'run'}"]
    with pytest.raises(
        ValueError,
        match=r"'edit' \(first in line 1, 4 of 4 comparisons\), and the reward judges image and video",
    ):
        train_clip.run("clip/pick-like", [*more, f"data.pairs={path}"], say=quiet)
