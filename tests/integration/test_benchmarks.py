"""Benchmarks that nothing else runs: each in small, by its own command line, with what its file must hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import abstention, clip_scoring, neutral_pairs, personal_rewards, reward_families


def written(path: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


@pytest.mark.slow
def test_neutral_pairs_of_a_vlm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "vlm.json"
    neutral_pairs.main(
        ["--vlm", "--updates", "1", "--bundle", "2", "--examined", "8", "--probes", "8",
         "--runs", str(tmp_path / "runs"), "--output", str(out)]
    )  # fmt: skip
    rows = written(out)["rows"]
    assert [row["training"] for row in rows] == ["start", "plain", "+ neutral", "+ causal", "+ all three"]
    assert all(0 < row["order"] <= 1 and row["saturation"] >= 0 for row in rows)
    assert len({json.dumps({**row, "training": ""}) for row in rows}) == len(
        rows
    )  # each was taught otherwise
    assert "| + all three |" in capsys.readouterr().out


def test_clip_scoring(tmp_path: Path) -> None:
    clip_scoring.main(["--num", "4", "--repeats", "1", "--output", str(tmp_path / "clip.json")])
    result = written(tmp_path / "clip.json")
    assert result["times_faster"] > 0 and result["loop_cpu_ms_a_picture"] > 0 and result["machine"]["cores"]


def test_personal_rewards(tmp_path: Path) -> None:
    words = ["--tastes", "2", "--annotators", "20", "--votes", "40", "--seeds", "2"]
    personal_rewards.main([*words, "--output", str(tmp_path / "personal.json")])
    (row,) = written(tmp_path / "personal.json")["rows"]
    assert row["known_personal"]["mean"] > row["known_shared"]["mean"] + 0.1
    assert row["new_after_32"]["mean"] > row["new_after_0"]["mean"] + 0.1


def test_a_promise_is_kept_and_a_raw_threshold_is_not(tmp_path: Path) -> None:
    words = ["--prompts", "200", "--pairs", "200", "--alphas", "0.1", "--repeats", "100"]
    abstention.main([*words, "--output", str(tmp_path / "promise.json")])
    (row,) = written(tmp_path / "promise.json")["rows"]
    assert row["broken"]["low"] <= 0.1 < row["naive"]["mean"]
    assert 0 < row["coverage"]["mean"] <= row["most"] and row["select_error"]["low"] <= 0.1


def test_families_that_start_from_nothing(tmp_path: Path) -> None:
    """Each by its own verb, and judged by what it can know."""
    common = ["--num-prompts", "12", "--num-probes", "6", "--threads", "1", "--output", str(tmp_path)]
    small = ["budget.updates=2", "optimizer.warmup=1", "data.shapes.families=3", "evaluation.every=null"]
    reward_families.main(["--families", "pick-like", "aesthetic-like", *common, "--set", *small])
    reward_families.main(["--families", "pal-like", *common, "--set", "fit.num_steps=20"])
    reward_families.main(
        ["--worlds", "videos", "--families", "pick-like", *common]
    )  # sees no motion: left out
    assert {path.name for path in tmp_path.glob("*.json")} == {
        f"images-{name}-like.json" for name in ("pick", "aesthetic", "pal")
    }
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert table.count("| images |") == 3
    aesthetic = written(tmp_path / "images-aesthetic-like.json")
    assert aesthetic["probes"]["wrong_prompt"]["mean"] == 0.5  # it reads no prompt
