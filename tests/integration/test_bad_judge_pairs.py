"""`train-judge` on files with bad lines and broken media: left out, told, and refused past the limit of all rewards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmalign.strict import validate
from mmalign.train.distributed import Processes
from mmalign.train.loop import Update
from mmalign.train.skips import Skips
from mmalign.train.trackers import read_metrics
from pipelines import train_judge, train_probability
from rewardmodels.judges.verdict_model import PAIR, POINT, VerdictModel, speaking
from rewardmodels.judges.verdict_recipe import JudgeRecipe
from rewardmodels.judges.verdict_training import VerdictTask
from rewardmodels.sources import FileSource
from tests.integration.test_bad_pairs import drawn, spoiled
from tests.unit.rewardmodels.tiny import tiny_reward

NUM = 12
SMALL = [
    "data.comparisons_per_bundle=3", "evaluation.final_prompts=4", "evaluation.num_prompts=2", "checkpoint.every=1",
    "optimizer.schedule=constant",
]  # fmt: skip


def verdict_model(template: str) -> VerdictModel:
    words = ("1", "2") if template == PAIR else tuple(str(mark) for mark in range(5))
    return speaking(tiny_reward(), name="tiny", template=template, words=words)


def options(tmp_path: Path, path: Path, asks: str = "point", iterations: int = 4) -> list[str]:
    start = verdict_model(PAIR if asks == "pair" else POINT).save(tmp_path / "start")
    return [
        *SMALL, f"data.pairs={path}", "data.heldout=null", f"judge.path={start}", f"judge.asks={asks}",
        "warm_up.updates=0",
        f"method.reward={'rule' if asks == 'pair' else 'gcpo'}", "method.answers=3", f"budget.iterations={iterations}",
    ]  # fmt: skip


@pytest.mark.parametrize("asks", ["point", "pair"])
def test_a_judge_of_verdicts_leaves_out_a_bad_line_and_two_broken_pictures(tmp_path: Path, asks: str) -> None:
    path = drawn(tmp_path / "data", NUM)
    spoiled(path)
    told: list[str] = []
    output = f"output={tmp_path / 'run'}"
    quality = train_judge.run("judge/shapes", [*options(tmp_path, path, asks), output], say=told.append)
    left_out = quality["left_out"]  # 4 bundles of 3 comparisons are one epoch
    assert (left_out["read"], left_out["lines"], left_out["media"]) == (12, 1, 2)
    assert any("left out 3 of 12 comparisons" in line for line in told)
    assert json.loads((tmp_path / "run" / "quality.json").read_text())["left_out"] == left_out
    last = read_metrics(tmp_path / "run")[-1]
    assert last["skipped_lines"] == 1 and last["skipped_media"] == 2


@pytest.mark.parametrize("asks", ["point", "pair"])
def test_verdicts_are_measured_on_a_file_and_what_cannot_be_read_of_it_is_a_tie(
    tmp_path: Path, asks: str
) -> None:
    path, heldout = drawn(tmp_path / "data", 3), drawn(tmp_path / "heldout", 4)
    picture = json.loads(heldout.read_text().splitlines()[1])["candidates"][0]["uri"]
    (heldout.parent / picture).unlink()
    words = options(tmp_path, path, asks, iterations=1)
    quality = train_judge.run(
        "judge/shapes", [*words, f"data.heldout={heldout}", f"output={tmp_path / 'run'}"], say=str
    )
    found = quality["before"]["expected_mark"]
    assert found["num_prompts"] == 4 and found["num_pairs"] >= 4
    nothing = train_judge.run(
        "judge/shapes", [*words, "data.heldout=null", f"output={tmp_path / 'none'}"], say=str
    )
    assert nothing["before"] == nothing["after"] == {}


def test_what_is_left_out_is_the_same_after_a_stop(tmp_path: Path) -> None:
    path = drawn(tmp_path / "data", NUM)
    spoiled(path)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = train_judge.run("judge/shapes", [*options(tmp_path, path), f"output={whole}"], say=str)
    for num in (2, 4):
        words = options(tmp_path, path, iterations=num)
        found = train_judge.run("judge/shapes", [*words, f"output={parts}"], say=str)
    assert found["left_out"] == expected["left_out"]
    one, two = (load_file(folder / "judge" / "model.safetensors") for folder in (whole, parts))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_file_that_is_mostly_bad_is_refused(tmp_path: Path) -> None:
    path = drawn(tmp_path / "data", NUM)
    path.write_text("\n".join(["{"] * 9))
    with pytest.raises(ValueError, match="9 of 9 comparisons cannot be used"):
        train_judge.run("judge/shapes", [*options(tmp_path, path), f"output={tmp_path / 'run'}"], say=str)


@pytest.mark.parametrize("verb", [train_judge, train_probability])
def test_a_judge_is_saved_before_half_of_its_file_is_refused(verb: Any, tmp_path: Path) -> None:
    path = drawn(tmp_path / "data", NUM)
    for line in path.read_text().splitlines()[:7]:
        (path.parent / json.loads(line)["candidates"][1]["uri"]).unlink()
    name, words = "judge/shapes", options(tmp_path, path)
    if verb is train_probability:
        name, words = "judge/paco-like", [*SMALL[1:], f"data.pairs={path}", "data.comparisons_per_bundle=3",
                                    "data.heldout=null", "budget.iterations=4"]  # fmt: skip
    with pytest.raises(ValueError, match=r"7 of 12 comparisons cannot be used .*is saved in .*run.judge"):
        verb.run(name, [*words, f"output={tmp_path / 'run'}"], say=str)
    assert (tmp_path / "run" / "quality.json").is_file() and list((tmp_path / "run" / "judge").iterdir())


def task_of(path: Path, num: int, skips: Skips | None) -> VerdictTask:
    made = validate(
        {"method": {"answers": 6}, "data": {"pairs": str(path)}, "warm_up": {"updates": 0}}, JudgeRecipe
    )
    source = FileSource(path, num, 0, ("overall",), skips=skips)
    return VerdictTask(verdict_model(POINT), made, source, Processes(), skips=skips)


def first_update(task: VerdictTask) -> Update:
    (update,) = task.updates(0)
    return update


def test_without_counting_a_broken_picture_is_an_error(tmp_path: Path) -> None:
    path = drawn(tmp_path / "data", 4)
    picture = json.loads(path.read_text().splitlines()[1])["candidates"][0]["uri"]
    (path.parent / picture).unlink()
    with pytest.raises(ValueError, match="no such file"):
        first_update(task_of(path, 4, None))


def test_verdicts_on_the_rest_of_a_bundle_are_those_on_the_rest_alone(tmp_path: Path) -> None:
    path = drawn(tmp_path / "data", 1)
    line = path.read_text().strip()
    bad = json.loads(line)
    bad["candidates"][0]["uri"] = "nowhere.png"
    path.write_text(f"{json.dumps(bad)}\n{line}\n")
    skips = Skips()
    update = first_update(task_of(path, 2, skips))
    alone = path.with_name("good.jsonl")
    alone.write_text(line + "\n")
    expected = first_update(task_of(alone, 1, None))
    assert update.num_losses == expected.num_losses == 12  # two pictures, six answers
    (one,), (two,) = ([make() for make in found.losses] for found in (update, expected))
    torch.testing.assert_close(one.per_sample.sort().values, two.per_sample.sort().values)
    skips.settle()
    assert skips.media == 1 and "nowhere.png" in skips.reasons[0]


def test_a_bundle_of_nothing_is_an_update_of_nothing(tmp_path: Path) -> None:
    path = drawn(tmp_path / "data", 1)
    (path.parent / json.loads(path.read_text())["candidates"][0]["uri"]).unlink()
    update = first_update(task_of(path, 1, Skips()))
    assert update.num_losses == 0 and not list(update.losses)


@pytest.mark.parametrize("name", ["paco-like", "rewarddance-like", "checklist-like"])
def test_judges_of_probabilities_and_checklists_leave_it_out_too(tmp_path: Path, name: str) -> None:
    path = drawn(tmp_path / "data", NUM)
    spoiled(path)
    told: list[str] = []
    words = SMALL[1:3] if name == "checklist-like" else SMALL[1:]
    words = [
        *words,
        "data.comparisons_per_bundle=3",
        f"data.pairs={path}",
        "data.heldout=null",
        "budget.iterations=4",
        f"output={tmp_path / 'run'}",
    ]
    run = train_probability.run_checklist if name == "checklist-like" else train_probability.run
    left_out = run(f"judge/{name}", words, say=told.append)["left_out"]
    assert (left_out["read"], left_out["lines"], left_out["media"]) == (12, 1, 2)
    assert any("left out 3 of 12 comparisons" in line for line in told)


@pytest.mark.parametrize("name", ["shapes", "paco-like"])
def test_a_file_without_a_winner_is_told_and_not_passed_over(tmp_path: Path, name: str) -> None:
    path = drawn(tmp_path / "data", 3)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["annotations"] = [{"dim": "overall", "kind": "pair", "i": 0, "j": 1, "label": "tie"}]
    path.write_text("\n".join(map(json.dumps, lines)))
    output = f"output={tmp_path / 'run'}"
    words = options(tmp_path, path, iterations=2)
    if name != "shapes":
        words = [*SMALL[1:], f"data.pairs={path}", "data.heldout=null", "budget.iterations=2"]
    run = train_judge.run if name == "shapes" else train_probability.run
    with pytest.raises(ValueError, match=r"no comparison has two pictures of one prompt and a winner"):
        run(f"judge/{name}", [*words, output], say=str)


def test_a_checkpoint_from_before_there_were_counts_is_gone_on_from(tmp_path: Path) -> None:
    path = drawn(tmp_path / "data", 1)
    task = task_of(path, 1, None)
    skips = Skips(read=3)
    again = task_of(path, 1, skips)
    again.load_state_dict(task.state_dict())
    assert skips.read == 3
    again.load_state_dict(task_of(path, 1, Skips(read=7, media=1)).state_dict())
    assert (skips.read, skips.media) == (7, 1)
