"""`mmalign score` in this process: what it writes, how it goes on, and what it says of broken files."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
import torch

from mmalign import media
from mmalign.types import Sample
from tests.integration.told import PROMPTS, call, rows
from tests.unit.rewardmodels.tiny import tiny_family


def test_score_writes_scores_summary_and_page(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    words = ("--reward", "shapes-verifier", "--reward", "jpeg-compressibility")
    assert call("score", pictures / "pictures.jsonl", *words, "-o", out) == 0
    found = rows(out / "scores.jsonl")
    assert [row["id"] for row in found] == ["0", "1", "2"]
    for row in found:
        assert row["scores"]["shapes-verifier"]["instruction_following"] == 1.0
        assert row["scores"]["jpeg-compressibility"]["overall"] < 0
        assert row["reasons"] == {}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["rewards"]["shapes-verifier"]["dimensions"]["overall"]["n"] == 3
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") == 3
    assert "http" not in page.replace("http-equiv", "")


def test_the_variance_of_a_fused_overall_stands_beside_those_of_its_heads(
    pictures: Path, tmp_path: Path
) -> None:
    out, sure = tmp_path / "scores", tmp_path / "sure"
    tiny_family("fused").save(sure)
    assert call("score", pictures / "pictures.jsonl", "--reward", sure, "-o", out) == 0
    for row in rows(out / "scores.jsonl"):
        (told,) = row["log_variance"].values()
        heads = [value for name, value in told.items() if name != "overall"]
        assert len(heads) == 2 and told["overall"] == pytest.approx(sum(heads) / 2, abs=1e-5)


def test_a_reward_that_says_how_sure_it_is_gets_its_log_variance(pictures: Path, tmp_path: Path) -> None:
    out, sure = tmp_path / "scores", tmp_path / "sure"
    model = tiny_family("gaussian")
    model.save(sure)
    words = ("--reward", sure, "--reward", "shapes-verifier", "-o", out)
    assert call("score", pictures / "pictures.jsonl", *words) == 0
    found = rows(out / "scores.jsonl")
    drawn = [media.read(pictures / f"{k}.png")[0] for k in range(len(PROMPTS))]
    expected = model(samples=[Sample(*one) for one in zip(PROMPTS, drawn, strict=True)])
    assert expected.log_variance is not None
    for row, logs in zip(found, expected.log_variance[:, 0].tolist(), strict=True):
        (told,) = row["log_variance"].values()  # the verifier has none
        assert told == {"overall": pytest.approx(logs, abs=1e-4)} and math.isfinite(logs)
        assert row["log_variance"].keys() < row["scores"].keys()
    (pictures / "1.png").write_bytes(b"no picture")
    assert call("score", pictures / "pictures.jsonl", *words) == 3
    again = rows(out / "scores.jsonl")
    assert again[1]["log_variance"] == {} and again[0] == found[0] and again[2] == found[2]


def test_a_broken_file_harms_no_other_and_is_tried_again(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, jsonl = tmp_path / "scores", pictures / "pictures.jsonl"
    whole = (pictures / "1.png").read_bytes()
    (pictures / "1.png").write_bytes(whole[:60])
    odd = [
        "{not json",
        json.dumps({"prompt": "no file"}),
        json.dumps({"id": "0", "image": "0.png", "prompt": PROMPTS[0]}),
    ]
    odd.append(json.dumps({"id": "gone", "image": "gone.png", "prompt": ""}))
    odd.append(json.dumps({"id": "unreadable prompt", "image": "0.png", "prompt": "ein roter Kreis"}))
    jsonl.write_text(jsonl.read_text() + "\n".join(odd) + "\n", encoding="utf-8")
    assert call("score", jsonl, "--reward", "shapes-verifier", "-o", out) == 3
    found = {row["id"]: row for row in rows(out / "scores.jsonl")}
    assert len(found) == 8
    good = [name for name, row in found.items() if row["scores"]["shapes-verifier"]["overall"] is not None]
    assert good == ["0", "2"]
    for name, words in {
        "1": "damaged or cut short",
        "line 4": "not valid JSON",
        "line 5": "names no file",
        "0 (again, 2)": "more than once",
        "gone": "no such file",
        "unreadable prompt": "cannot read 'ein'",
    }.items():
        assert words in found[name]["reasons"]["shapes-verifier"], name

    (pictures / "1.png").write_bytes(whole)
    jsonl.write_text("\n".join(jsonl.read_text().splitlines()[:3]) + "\n", encoding="utf-8")
    before = (out / "shards" / "shapes-verifier" / "00000.jsonl").read_text().splitlines()
    assert call("score", jsonl, "--reward", "shapes-verifier", "-o", out) == 0
    after = (out / "shards" / "shapes-verifier" / "00000.jsonl").read_text().splitlines()
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1  # only the mended file was judged again
    assert len(rows(out / "scores.jsonl")) == 3


def test_score_goes_on_after_being_killed_in_the_middle_of_a_line(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    assert call("score", pictures, "--prompt", PROMPTS[0], "--reward", "jpeg-compressibility", "-o", out) == 0
    shard = out / "shards" / "jpeg-compressibility" / "00000.jsonl"
    complete = shard.read_text()
    shard.write_text(complete[: len(complete) - 40], encoding="utf-8")
    assert call("score", pictures, "--prompt", PROMPTS[0], "--reward", "jpeg-compressibility", "-o", out) == 0
    assert [json.loads(line)["id"] for line in shard.read_text().splitlines()] == ["0.png", "1.png", "2.png"]


def test_a_changed_file_is_scored_again(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    words = ("score", pictures / "pictures.jsonl", "--reward", "shapes-verifier", "-o", out)
    assert call(*words) == 0
    media.write(pictures / "0.png", torch.zeros(3, 32, 32))
    os.utime(pictures / "0.png", ns=(1, 1))
    assert call(*words) == 0
    assert rows(out / "scores.jsonl")[0]["scores"]["shapes-verifier"]["instruction_following"] < 1.0


def test_an_empty_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert call("score", tmp_path / "empty", "--reward", "jpeg-compressibility", "-o", tmp_path / "out") == 2
    assert "nothing to score" in capsys.readouterr().err


def test_any_python_function_scores_and_settings_come_from_yaml(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_rewards.py").write_text(
        "def height(images, prompts):\n    return [float(images.shape[-2])] * len(prompts)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "score.yaml").write_text(
        f"input: {pictures}\nrewards: ['my_rewards:height']\noutput: {tmp_path / 'o'}\n"
    )
    assert call("score", "--config", tmp_path / "score.yaml", "batch_size=2", "workers=0") == 0
    assert {
        row["scores"]["my_rewards:height"]["overall"] for row in rows(tmp_path / "o" / "scores.jsonl")
    } == {32.0}
