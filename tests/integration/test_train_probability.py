"""`mmalign train-judge` for judges of token probabilities: on shapes and files, stopped and continued, scored again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

import rewardmodels
from mmalign.__main__ import main
from mmalign.config import load_config
from mmalign.data.records import group_of
from mmalign.media import write
from mmalign.shapes import Law
from mmalign.shapes.pairs import write_pairs
from mmalign.stats.calibration import fit_temperature
from mmalign.types import Sample
from pipelines import train_probability
from rewardmodels.examination import Half, accuracy, half_of_group, tie_threshold
from rewardmodels.judges.checklist import ChecklistReward
from rewardmodels.judges.pairwise import WinRate
from rewardmodels.judges.probability import YesNoReward
from rewardmodels.judges.probability_recipe import ProbabilityRecipe

pytestmark = pytest.mark.slow
SMALL = [
    "data.shapes.families=2", "data.shapes.images=2", "data.shapes.prompts=1", "data.shapes.cross=2",
    "data.comparisons_per_bundle=4", "evaluation.final_prompts=4", "evaluation.num_prompts=2", "evaluation.every=null",
    "checkpoint.every=1", "judge.batch_size=16",
]  # fmt: skip
HALVES: tuple[Half, ...] = ("evaluation", "calibration")
PICTURES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def called(*arguments: str) -> object:
    """The exit code of the command."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return stop.value.code


def judged(folder: Path) -> torch.Tensor:
    """What the judge of a run says of three pictures."""
    samples = [Sample("a red circle", picture) for picture in PICTURES]
    return rewardmodels.load(str(folder / "judge"), batch_size=16)(samples=samples).overall


@pytest.mark.parametrize("name", ["paco-like", "rewarddance-like", "uniworld-like"])
def test_a_short_run_writes_a_judge_that_is_scored_by_name(name: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert called("train-judge", f"judge/{name}", *SMALL, "budget.iterations=2", f"output={out}") == 0
    quality = json.loads((out / "quality.json").read_text())
    assert set(quality["gain"]["probability"]) == {"mean", "low", "high", "n"} and quality["updates"] == 2
    assert quality["before"].keys() == quality["after"].keys()
    names = []
    for i, picture in enumerate(PICTURES):
        write(tmp_path / f"{i}.png", picture)
        names.append({"id": str(i), "prompt": "a red circle", "image": f"{i}.png"})
    items = tmp_path / "items.jsonl"
    items.write_text("".join(json.dumps(row) + "\n" for row in names))
    reward = str(out / "judge")
    assert called("score", str(items), "--reward", reward, "-o", str(tmp_path / "scores")) == 0
    rows = [json.loads(line) for line in (tmp_path / "scores/scores.jsonl").read_text().splitlines()]
    said = torch.tensor([row["scores"][reward]["overall"] for row in rows])
    files = [Sample("a red circle", tmp_path / f"{i}.png") for i in range(3)]
    alone = rewardmodels.load(reward)
    torch.testing.assert_close(said, alone(samples=files).overall, atol=1e-6, rtol=0)
    assert isinstance(alone, WinRate) == (name == "rewarddance-like")


@pytest.mark.parametrize("name", ["paco-like", "uniworld-like"])
def test_a_stopped_run_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    constant = [*SMALL, "optimizer.schedule=constant"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    train_probability.run(f"judge/{name}", [*constant, "budget.iterations=3", f"output={whole}"])
    for num in (2, 3):
        train_probability.run(f"judge/{name}", [*constant, f"budget.iterations={num}", f"output={halves}"])
    assert torch.equal(judged(whole), judged(halves))
    figures = [json.loads((folder / "quality.json").read_text())["after"] for folder in (whole, halves)]
    assert figures[0] == figures[1]


def test_what_a_judge_cannot_say_is_a_tie_and_wrong() -> None:
    recipe = load_config("judge/paco-like", [*SMALL, "judge.asks.judge.min_mass=1"], ProbabilityRecipe)
    found = train_probability.measured(recipe, train_probability.start_judge(recipe, "cpu"))["probability"]
    assert found.gap.shape == (24,) and not found.gap.any()
    assert accuracy(found)["accuracy"]["mean"] == 0.0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pairs")
    law = Law(temperature=0.1, theta=2.0)
    made = [
        write_pairs(folder, split, num_prompts=12, law=law, num_images=2) for split in ("train", "heldout")
    ]
    return made[0], made[1]


def swapped_in_half(file: Path, half: str) -> Path:
    """The same comparisons, those in one half with their answers turned round."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        name = line.get("group") or group_of(line["prompt"], ())
        for note in line["annotations"] if half_of_group(name) == half else ():
            note["label"] = {"i": "j", "j": "i", "tie": "i"}[note["label"]]
    other = file.with_name(f"{file.stem}-{half}.jsonl")
    other.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return other


@pytest.mark.parametrize("name", ["paco-like", "rewarddance-like"])
def test_a_judge_is_calibrated_on_the_half_of_a_file_that_it_is_not_measured_on(
    name: str, files: tuple[Path, Path]
) -> None:
    def recipe(heldout: Path) -> ProbabilityRecipe:
        words = [*SMALL, "evaluation.final_prompts=20", f"data.pairs={files[0]}", f"data.heldout={heldout}"]
        return load_config(f"judge/{name}", words, ProbabilityRecipe)

    judge = train_probability.start_judge(recipe(files[1]), "cpu")
    halves = [train_probability.measured(recipe(files[1]), judge, half=half) for half in HALVES]
    seen, unseen = (found["probability"] for found in halves)
    assert set(seen.groups).isdisjoint(unseen.groups) and len({*seen.groups, *unseen.groups}) == 12
    fitted = train_probability.calibrated(recipe(files[1]), judge)
    assert fitted.tie_threshold == tie_threshold(unseen.gap, unseen.label)
    if name == "paco-like":
        assert fitted.temperature == fit_temperature(unseen.gap.numpy(), unseen.label.numpy()) != 1.0
    else:
        assert fitted.temperature == 1.0
    same, other = (recipe(swapped_in_half(files[1], half)) for half in HALVES)
    assert train_probability.calibrated(same, judge) == fitted
    assert train_probability.calibrated(other, judge) != fitted
    assert train_probability.measured(same, judge)["probability"].label.tolist() != seen.label.tolist()


def test_files_are_trained_on_and_measured_on(tmp_path: Path, files: tuple[Path, Path]) -> None:
    data = [f"data.pairs={files[0]}", f"data.heldout={files[1]}"]
    quality = train_probability.run(
        "judge/paco-like", [*SMALL, *data, "budget.iterations=2", f"output={tmp_path / 'run'}"]
    )
    assert quality["left_out"]["read"] > 0 and quality["left_out"]["media"] == 0
    assert 0 < quality["before"]["probability"]["num_pairs"] < 12 and quality["temperature"] != 1.0
    saved = json.loads((tmp_path / "run" / "judge" / "reward_config.json").read_text())
    again = rewardmodels.load(str(tmp_path / "run" / "judge"))
    assert isinstance(again, YesNoReward)
    fitted = {"temperature": quality["temperature"], "tie_threshold": quality["tie_threshold"]}
    assert asdict(again.calibration) == fitted == {key: saved[key] for key in fitted}
    listed = tmp_path / "list"
    small = [one for one in SMALL if not one.startswith("checkpoint")]
    arguments = [*small, *data, "budget.iterations=2", f"judge.path={tmp_path / 'run' / 'judge'}"]
    assert called("train-judge", "judge/checklist-like", *arguments, f"output={listed}") == 0
    weights = json.loads((listed / "weights.json").read_text())
    sheet = rewardmodels.load(str(listed / "judge"))
    assert isinstance(sheet, ChecklistReward) and sheet.calibration.temperature != 1.0
    found = json.loads((listed / "quality.json").read_text())
    assert weights == found["weights"] and found["pairs_used"] == found["pairs"] > 0
    assert torch.isfinite(judged(listed)).all() and not list((listed / "judge").glob("*.safetensors"))
