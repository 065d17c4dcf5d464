"""`mmalign train-judge` for judges that write: on built-in worlds and files, stopped and continued, scored again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

import rewardmodels
from mmalign.__main__ import main
from mmalign.media import write
from mmalign.types import Sample
from pipelines import train_text
from rewardmodels.judges.pairwise import WinRate
from rewardmodels.judges.text import TextReward
from tests.integration.test_bad_pairs import drawn, spoiled

pytestmark = pytest.mark.slow
SMALL = [
    "data.shapes.families=2", "data.shapes.images=2", "data.shapes.prompts=1", "data.shapes.cross=2",
    "warm_up.updates=30", "warm_up.lr=4e-3", "optimizer.name=adamw", "method.answers=3", "method.format_weight=1",
    "evaluation.final_prompts=3", "evaluation.num_prompts=2", "evaluation.every=null", "checkpoint.every=1",
    "judge.batch_size=16", "judge.asks.judge.passes=1", "judge.asks.judge.draw={max_tokens: 10}",
]  # fmt: skip
CONSTANT = "optimizer.schedule=constant"


def called(*arguments: str) -> object:
    """The exit code of the command."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return stop.value.code


def images(tmp_path: Path, kind: str) -> list[str]:
    """Options for a judge of pictures: our file of this name with a question in words that the tiny model has."""
    record = yaml.safe_load(
        (Path(train_text.__file__).parent / "recipes/judge/editscore-like.yaml").read_text()
    )
    asks = record["judge"]["asks"] | {"modalities": ["image"]}
    asks["judge"] = {
        "point": {"kind": "points", "overall": "final", "draw": {"max_tokens": 8}, "asks": [
            {"name": "grade", "wording": "plain/1", "shows": ["media"], "format": "lines",
             "fields": [{"name": "final", "label": "final score", "low": 1, "high": 5}]}]},
        "pair": {"kind": "pair", "wording": "plain-pair/1", "style": "sentence", "draw": {"max_tokens": 10}},
    }[kind]  # fmt: skip
    (tmp_path / f"{kind}.yaml").write_text(yaml.safe_dump(asks))
    small = [one for one in SMALL if not one.startswith("judge.asks")]
    return [
        *small,
        f"judge.asks={tmp_path / f'{kind}.yaml'}",
        "judge.path=shapes-reward",
        "warm_up.ratings={}",
    ]


def scored(folder: Path, tmp_path: Path, *, edits: bool = False) -> list[object]:
    """What `mmalign score` says of two pictures, in the judge's words."""
    pictures = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    rows = []
    for i, picture in enumerate(pictures):
        write(tmp_path / f"{i}.png", picture)
        rows.append({"id": str(i), "prompt": "make the red circle larger", "image": f"{i}.png"})
    told = [{**row, "source": "2.png"} if edits else row for row in rows[:2]]
    items = tmp_path / "items.jsonl"
    items.write_text("".join(json.dumps(row) + "\n" for row in told))
    reward = str(folder / "judge")
    assert called("score", str(items), "--reward", reward, "-o", str(tmp_path / "scores")) in (0, 3)
    lines = (tmp_path / "scores/scores.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_editscore_is_trained_saved_and_scored_by_name(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert called("train-judge", "judge/editscore-like", *SMALL, "budget.iterations=2", f"output={out}") == 0
    quality = json.loads((out / "quality.json").read_text())
    assert set(quality["gain"]["overall"]) == {"mean", "low", "high", "n"}
    assert quality["before"]["overall"]["num_prompts"] == 3
    assert {"questions.txt", "question.following.txt", "question.quality.txt"} & {
        file.name for file in (out / "judge").iterdir()
    } == {"question.following.txt", "question.quality.txt"}
    judge = rewardmodels.load(str(out / "judge"))
    assert isinstance(judge, TextReward) and judge.modalities == {"edit"}
    rows = scored(out, tmp_path, edits=True)
    files = [
        Sample("make the red circle larger", tmp_path / f"{i}.png", tmp_path / "2.png") for i in range(2)
    ]
    for row, review in zip(rows, judge.review(samples=files), strict=True):
        label = str(out / "judge")
        assert isinstance(row, dict)
        assert row["reasons"].get(label) == review.reason


@pytest.mark.parametrize("kind", ["point", "pair"])
def test_a_stopped_run_goes_on_to_the_same_bits(kind: str, tmp_path: Path) -> None:
    options = [*images(tmp_path, kind), "data.pairs=shapes", "data.heldout=shapes", CONSTANT]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    train_text.run("judge/editscore-like", [*options, "budget.iterations=3", f"output={whole}"])
    for num in (2, 3):
        train_text.run("judge/editscore-like", [*options, f"budget.iterations={num}", f"output={halves}"])
    one, two = (rewardmodels.load(str(folder / "judge")) for folder in (whole, halves))
    assert isinstance(one, WinRate) == (kind == "pair")
    inner = [(made.judge if isinstance(made, WinRate) else made).engine.model for made in (one, two)]  # type: ignore[union-attr]
    states = [model.state_dict() for model in inner]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    figures = [json.loads((folder / "quality.json").read_text())["after"] for folder in (whole, halves)]
    assert figures[0] == figures[1]


def test_a_bad_line_and_two_broken_pictures_cost_themselves_only(tmp_path: Path) -> None:
    path = drawn(tmp_path / "data", 12)
    rated = []
    for line in path.read_text().splitlines():
        record = json.loads(line)
        record["annotations"] += [
            {"dim": "overall", "kind": "rating", "scores": [3.0, 5.0]},
            {"dim": "overall", "kind": "critique", "texts": ["a circle", "a square"]},
        ]
        rated.append(json.dumps(record))
    path.write_text("\n".join(rated) + "\n")
    spoiled(path)
    told: list[str] = []
    options = [
        *images(tmp_path, "point"), f"data.pairs={path}", "data.heldout=null", "data.comparisons_per_bundle=3",
        "warm_up.scale=[1, 5]", "budget.iterations=4", f"output={tmp_path / 'run'}",
    ]  # fmt: skip
    left_out = train_text.run("judge/editscore-like", options, say=told.append)["left_out"]
    assert (left_out["read"], left_out["lines"], left_out["media"]) == (12, 1, 2)
    assert any("left out 3 of 12 comparisons" in line for line in told)
