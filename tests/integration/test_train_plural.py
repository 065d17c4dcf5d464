"""The verb for personal rewards: simulated tastes, votes from a file, and what is saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import rewardmodels
from mmalign.__main__ import main
from mmalign.data.formats import write_jsonl
from mmalign.media import write
from mmalign.shapes.tastes import taste_votes
from mmalign.types import Annotation, Candidate, Comparison, Sample

FAST = ["fit.num_steps=120", "fit.starts=1", "data.num_annotators=16", "data.votes_each=40"]


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(list(words))
    return int(done.value.code or 0)


def test_tastes_are_learned_and_new_annotators_placed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert call("train-reward", "plural/shapes", *FAST, f"output={out}") == 0
    quality = json.loads((out / "quality.json").read_text())
    best = max(taste_votes("train", num_annotators=2, num_votes=200).best.values())
    for key in ("known", "new"):
        assert quality[key]["personal"]["mean"] > quality[key]["mean_annotator"]["mean"] + 0.1
        assert quality[key]["personal"]["mean"] > 0.85 * best
    reward = rewardmodels.load(str(out / "reward"))
    assert reward(samples=[Sample("a red circle", torch.rand(3, 32, 32))]).names == ("type_1", "type_2")
    assert call("validate", "plural/shapes", "model.width=5") == 0


def test_votes_from_a_file_with_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = taste_votes("train", num_annotators=4, num_votes=10)
    votes = []
    for n, (who, (a, b), label) in enumerate(zip(made.annotator, made.pairs, made.label, strict=True)):
        for sample in (a, b):
            write(tmp_path / f"{sample.id}.png", sample.media)
        note = Annotation("overall", "pair", {"i": 0, "j": 1, "label": "i" if label else "j"})
        shown = (Candidate("a", f"{a.id}.png"), Candidate("b", f"{b.id}.png"))
        votes.append(Comparison(str(n), a.prompt, shown, (note,), annotator={"type": "human", "name": who}))
    write_jsonl(tmp_path / "votes.jsonl", votes)
    words = [
        f"data.votes={tmp_path / 'votes.jsonl'}",
        "fit.num_steps=5",
        "data.new_annotators=0.25",
        "data.few=4",
    ]
    assert call("train-reward", "plural/shapes", *words, f"output={tmp_path / 'run'}") == 0
    quality = json.loads((tmp_path / "run" / "quality.json").read_text())
    assert quality["votes"] == 40 and quality["annotators"] == 4 and quality["new"]["personal"]["n"] == 6
    assert call("train-reward", "plural/shapes", "model.prototyps=3") == 2

    with (tmp_path / "votes.jsonl").open("a") as file:
        file.write('{"id": \n')
    (tmp_path / f"{made.pairs[0][0].id}.png").write_text("no picture")
    assert call("train-reward", "plural/shapes", *words, f"output={tmp_path / 'again'}") == 0
    again = json.loads((tmp_path / "again" / "quality.json").read_text())
    assert again["bad_lines"] == 1 and again["left_out"] >= 1
    assert again["votes"] == 40 - again["left_out"]
    assert "left out 1 of 41 comparisons, each counted once (1 bad line" in capsys.readouterr().out
