"""The verb `train-judge` on the bundled model: both stages, what is written, and a run that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmalign.shapes import render
from mmalign.types import Sample
from pipelines import train_judge
from rewardmodels.judges.verdict_model import load_verdict_model

pytestmark = pytest.mark.slow
SMALL = (
    "data.shapes.families=2", "data.shapes.images=2", "data.shapes.prompts=1", "warm_up.updates=2", "method.answers=3",
    "evaluation.final_prompts=4", "evaluation.num_prompts=2", "evaluation.every=2", "checkpoint.every=1",
)  # fmt: skip


@pytest.mark.parametrize("asks", ["point", "pair"])
def test_a_short_run_writes_a_judge_and_its_figures(tmp_path: Path, asks: str) -> None:
    reward = "rule" if asks == "pair" else "gcpo"
    overrides = (*SMALL, f"output={tmp_path}", f"judge.asks={asks}", f"method.reward={reward}")
    quality = train_judge.run("judge/shapes", [*overrides, "budget.iterations=2"])
    saved = json.loads((tmp_path / "quality.json").read_text())
    assert saved["before"].keys() == saved["after"].keys() == saved["gain"].keys() == quality["gain"].keys()
    assert set(saved["gain"]["expected_mark"]) == {"mean", "low", "high", "n"}
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [0, 1, 2] and rows[1]["first_ratio_deviation"] == 0.0
    judge = load_verdict_model(tmp_path / "judge")
    picture = render(["a red circle"])[0]
    if asks == "pair":
        assert judge.prefer(
            [Sample("a red circle", picture)], [Sample("a red circle", 1 - picture)]
        ).shape == (1,)
    else:
        assert bool(judge(samples=[Sample("a red circle", picture)]).valid.all())
