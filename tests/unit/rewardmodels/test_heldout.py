"""What is measured on of a file: so many prompts, the same every time, of the half that is asked for."""

from __future__ import annotations

import json
import random
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from mmalign.media import write
from mmalign.strict import validate
from mmalign.train.skips import Skips
from mmalign.types import Comparison, Modality, PreferencePair, Sample, Scores
from pipelines import gains, train_reward
from rewardmodels.clip.recipe import ClipRecipe
from rewardmodels.examination import half_of_group
from rewardmodels.judges.verdict_recipe import JudgedPairs
from rewardmodels.recipe import RewardRecipe
from rewardmodels.sources import FileSource

NAMES = [f"prompt {k}" for k in range(40)]
TWO = {"candidates": [{"id": "a", "uri": "a.png"}, {"id": "b", "uri": "b.png"}]}


def line(number: int, prompt: str, *, dim: str = "overall") -> str:
    note = {"dim": dim, "kind": "pair", "i": 0, "j": 1, "label": "i" if number % 3 else "tie"}
    row = {"schema": "mmalign.pref/1", "id": str(number), "prompt": prompt, "group": prompt, **TWO}
    return json.dumps(row | {"annotations": [note]})


def written(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(f"{one}\n" for one in lines))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two comparisons of each of 40 prompts, which do not stand together."""
    for name in "ab":
        write(tmp_path / f"{name}.png", torch.full((3, 8, 8), 0.5))
    return written(tmp_path / "held.jsonl", [line(k, prompt) for k, prompt in enumerate(NAMES * 2)])


def source(path: Path, seed: int = 0, **more: Any) -> FileSource:
    return FileSource(path, 1, seed, ("overall",), **more)


def groups(pairs: Sequence[PreferencePair]) -> set[str]:
    return {pair.group for pair in pairs}


def test_so_many_prompts_are_taken_whole_and_are_the_same_every_time(file: Path) -> None:
    every, found = source(file).heldout(), source(file).heldout(7)
    assert groups(every) == set(NAMES) and len(every) == 80 and len(groups(found)) == 7
    assert [pair.a.id for pair in found] == [one.a.id for one in every if one.group in groups(found)]
    assert groups(source(file, seed=5).heldout(7)) == groups(found)
    assert groups(source(file).heldout(3)) < groups(found) < groups(source(file).heldout(20))
    assert len(source(file).heldout(500)) == 80


def test_they_are_no_stretch_of_the_file_and_do_not_depend_on_its_order(file: Path) -> None:
    found = groups(source(file).heldout(7))
    assert found != set(NAMES[:7])
    lines = file.read_text().splitlines()
    random.Random(0).shuffle(lines)
    assert groups(source(written(file, lines)).heldout(7)) == found


def test_the_half_is_taken_before_so_many(file: Path) -> None:
    for half in ("evaluation", "calibration"):
        found = groups(source(file).heldout(7, half))
        assert len(found) == 7 and {half_of_group(name) for name in found} == {half}


def test_bad_lines_are_told_wherever_they_stand(file: Path) -> None:
    written(file, ["no json", *file.read_text().splitlines(), "nor this"])
    skips = Skips()
    assert len(source(file, skips=skips).heldout(2)) == 4
    skips.settle()
    assert (skips.read, skips.lines) == (82, 2)


def test_what_is_not_taken_is_not_held(file: Path) -> None:
    made: list[weakref.ref[PreferencePair]] = []

    class Watched(FileSource):
        def _pairs(self, comparison: Comparison, where: str) -> list[PreferencePair]:
            found = super()._pairs(comparison, where)
            made.extend(map(weakref.ref, found))
            assert (
                sum(one() is not None for one in made) <= 2 * 3 + 3
            )  # pairs of 3 prompts, and what is at hand
            return found

    assert len(Watched(file, 1, 0, ("overall",)).heldout(3)) == 6


@dataclass
class Counting:
    """A reward that keeps what it was shown, and cannot judge the prompts in `blind`."""

    blind: Sequence[str] = ()
    seen: list[Sample] = field(default_factory=list)
    name, dimensions, differentiable = "counting", ("overall",), False
    modalities: frozenset[Modality] = frozenset({"image"})

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        self.seen += samples
        values = torch.arange(float(len(samples)))[:, None]
        reasons = tuple("too dark" if sample.prompt in self.blind else None for sample in samples)
        valid = torch.tensor([reason is None for reason in reasons])
        return Scores(values, ("overall",), values[:, 0], valid, reasons)


def recipe(heldout: Path, calibration: Path | None) -> RewardRecipe:
    data = {"pairs": "x.jsonl", "heldout": str(heldout)}
    data["calibration"] = None if calibration is None else str(calibration)
    return validate({"model": {"name": "tiny", "scratch": {}}, "data": data}, RewardRecipe)


def test_an_evaluation_of_a_reward_scores_so_many_prompts_only(file: Path) -> None:
    counting = Counting()
    found = train_reward.judged(recipe(file, None), counting, "evaluation", 5)["overall"]
    assert len(set(found.groups)) == 5 and len(counting.seen) == 20
    shared = recipe(file, file)
    for half in ("evaluation", "calibration"):
        found = train_reward.judged(shared, Counting(), half, 5)["overall"]
        assert len(set(found.groups)) == 5 and set(map(half_of_group, found.groups)) == {half}


def test_labels_that_cannot_be_judged_are_counted_among_those_drawn(file: Path) -> None:
    chosen = sorted(groups(source(file).heldout(10)))
    left_out: dict[str, int] = {}
    train_reward.judged(recipe(file, None), Counting(chosen[:2]), "evaluation", 10, left_out)
    assert left_out == {"lines": 0, "labels": 4}
    with pytest.raises(ValueError, match=r"16 of 20 held-out labels could not be judged \(too dark\)"):
        train_reward.judged(recipe(file, None), Counting(chosen[:8]), "evaluation", 10)
    few = sorted(groups(source(file).heldout(2)))
    assert train_reward.judged(recipe(file, None), Counting(few), "evaluation", 2, left_out) == {}
    assert left_out["labels"] == 4
    written(file, [line(k, few[0]) for k in range(3)])
    with pytest.raises(ValueError, match="3 of 3 held-out labels"):
        train_reward.judged(recipe(file, None), Counting(few), "evaluation", 2)


def test_prompts_without_a_label_of_its_dimension_take_no_place_of_a_clip_reward(file: Path) -> None:
    rows = [line(k, name, dim="overall" if k % 8 else "visual_quality") for k, name in enumerate(NAMES)]
    written(file, rows)
    model = {"name": "m", "score": "head", "texts": "frozen", "scratch": {}}
    data = {"pairs": "x.jsonl", "heldout": str(file), "calibration": None}
    made = validate({"model": model, "data": data, "method": {"dimension": "visual_quality"}}, ClipRecipe)
    counting = Counting()
    found = train_reward.judged(made, counting, "evaluation", 4)
    assert list(found) == ["visual_quality"] and len(set(found["visual_quality"].groups)) == 4
    assert len(counting.seen) == 8


def test_an_evaluation_of_a_judge_scores_so_many_prompts_only(file: Path) -> None:
    data = JudgedPairs(pairs="x.jsonl", heldout=str(file))
    counting = Counting()
    found = gains.heldout(data, 0, counting, num_prompts=5)
    assert found is not None and len(set(found.groups)) == 5 and len(counting.seen) == 20
    alone = [name for name in NAMES if half_of_group(name) == "evaluation"][:1]
    written(file, [line(1, alone[0])])
    assert gains.heldout(data, 0, counting, num_prompts=5, half="calibration") is None
    assert gains.heldout(data, 0, counting, num_prompts=5, half="evaluation") is not None
    alone = [name for name in NAMES if half_of_group(name) == "calibration"][:1]
    written(file, [line(1, alone[0])])
    with pytest.raises(ValueError, match="in the half of its prompts that is measured on"):
        gains.heldout(data, 0, counting, num_prompts=5, half="evaluation")
