"""The command in this process: what it says of mistakes, tables, and what is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmalign.__main__ import main
from tests.integration.told import call

ROOT = Path(__file__).resolve().parents[2]
HALVES = ("pairs", "heldout", "calibration")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["finetune", "grpo/shapes-flow", "optimizer.lrr=1"], "did you mean 'optimizer.lr'?"),
        (["finetune", "grpo/shapes-flo"], "did you mean 'grpo/shapes-flow'?"),
        (["finetune", "grpo/shapes-flow", "optimizer.lr=fast"], "optimizer.lr"),
        (["score", "nowhere", "--reward", "shapes-verifier", "-o", "out"], "no such file or folder"),
        (["score", "nowhere", "--reward", "shapes-verifier", "-o", "out", "batchsize=2"], "'batch_size'"),
        (["score", "--config", "none.yaml"], "no such file"),
        (["score", ".", "--reward", "sharpness"], "mmalign: score: 'output' is missing: give -o/--output"),
        (["validate", "grpo/shapes-flow", "rewards=[{name: nope}]"], "no reward 'nope'"),
        (["validate", "grpo/shapes-flow", "rewards=[sharpnes]"], "did you mean 'sharpness'?"),
        (["validate", "grpo/shapes-flow", "evaluation.rewards=[sharpnes]"], "did you mean 'sharpness'?"),
        (["validate", "grpo/shapes-flow", "rewards=[mine.yaml]"], "no reward file mine.yaml"),
        (["generate", "-o", "out"], "'prompts'"),
        (
            ["evaluate", "rank", "--pairs", "x.csv", "--a", "a", "--b", "b", "--preference", "p", "-o", "o"],
            "no such file",
        ),
        (["data", "check", "none.jsonl"], "no such file"),
        (["ls", "reward"], "rewards"),
        (["ls", "rewards", "hpsv"], "did you mean 'hpsv"),
        (
            ["validate", "grpo/shapes-flow", "rewards=[nosuch]"],
            "no reward 'nosuch': `mmalign ls rewards` lists",
        ),
        (["ls", "recipes", "x"], "only rewards"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*words) == 2
    error = capsys.readouterr().err.strip()
    assert sentence in error
    assert error.startswith("mmalign: ")
    assert "\n" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("rewards=[sharpnes]", "did you mean 'sharpness'?"),
        (
            "rewards=[{name: both, rewards: [motion, {name: in, rewards: [sharpnes]}]}]",
            "did you mean 'sharpness'?",
        ),
        ("evaluation.rewards=[sharpnes]", "did you mean 'sharpness'?"),
        ("data.prompts=none.txt", "'data.prompts': no such file none.txt"),
        ("data.heldout=shapes:heldot", "did you mean 'shapes:heldout'?"),
    ],
)
def test_finetune_looks_for_what_is_named_before_it_loads_a_generator(
    override: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import train

    monkeypatch.setattr(train, "build_policy", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(ValueError) as told:
        train.run("grpo/shapes-flow", [override, f"output={tmp_path / 'out'}"])
    assert sentence in str(told.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("recipe", "half"),
    [(name, half) for name in ("reward/shapes", "clip/pick-like") for half in HALVES],
)
def test_train_reward_looks_for_its_data_before_it_builds_a_model(
    recipe: str, half: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import train_clip, train_reward

    for pipeline in (train_reward, train_clip):
        monkeypatch.setattr(pipeline, "compose", lambda *_, **__: pytest.fail("built"))
    run = train_reward.run if recipe == "reward/shapes" else train_clip.run
    data = [f"data.{one}={'none.jsonl' if one == half else 'shapes'}" for one in HALVES]
    with pytest.raises(ValueError, match=f"'data.{half}': no such file none.jsonl"):
        run(recipe, [*data, f"output={tmp_path / 'out'}"])


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines import ls

    monkeypatch.setattr(ls, "run", lambda *_: json.loads("{"))
    with pytest.raises(json.JSONDecodeError):
        main(["ls"])


@pytest.mark.slow
def test_mistakes_are_told_before_torch_is_loaded() -> None:
    program = (
        "import sys\nfrom mmalign.__main__ import main\n"
        "try:\n    main(['finetune', 'grpo/shapes-flow', 'optimizer.lrr=1'])\n"
        "except SystemExit as stop:\n    print('CODE', stop.code, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "CODE 2 False" in done.stdout


def test_agreement_of_a_table(tmp_path: Path) -> None:
    lines = ["item,model,r1,r2,judge"]
    for k in range(40):
        lines.append(f"{k},{'ab'[k % 2]},{k % 7},{(k + k % 2) % 7},{-(k % 7)}")
    lines += ["40,a,,3,1", "41,a,1,2,nan"]
    table, out = tmp_path / "t.csv", tmp_path / "o.json"
    table.write_text("\n".join(lines) + "\n")
    words = (
        "--table",
        table,
        "--human",
        "r1,r2",
        "--judge",
        "judge",
        "--by",
        "model",
        "--resamples",
        100,
        "--output",
        out,
    )
    assert call("evaluate", "agreement", *words) == 0
    result = json.loads(out.read_text())
    assert (result["num_rows"], result["num_used"]) == (42, 40)
    assert result["left_out"] == {"human rating missing": 1, "judge rating missing": 1, "both missing": 0}
    assert result["overall"]["spearman"]["value"] < -0.5
    assert result["overall"]["spearman"]["low"] <= result["overall"]["spearman"]["value"]
    assert set(result["by"]["groups"]) == {"a", "b"}
    assert set(result["by"]["fisher_mean"]) == {"spearman", "kendall", "pearson"}
    assert result["human_human"]["pairs"]["r1 ~ r2"]["pearson"] > 0.5


def test_rank_of_four_way_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = ["A is better"] * 6 + ["B is better"] * 2 + ["same good", "same bad"] * 2
    table, out = tmp_path / "p.csv", tmp_path / "o.json"
    table.write_text("a,b,v,k\n" + "".join(f"x,y,{v},t\n" for v in verdicts) + "x,x,same good,t\nx,y,,t\n")
    words = (
        "--pairs",
        table,
        "--a",
        "a",
        "--b",
        "b",
        "--preference",
        "v",
        "--resamples",
        100,
        "--output",
        out,
    )
    assert call("evaluate", "rank", *words, "--by", "k") == 0
    result = json.loads(out.read_text())
    assert result["left_out"] == {"compared with itself": 1, "verdict missing": 1}
    first, second = result["ratings"]
    assert (first["name"], first["n"], set(first)) == ("x", 12, {"name", "elo", "low", "high", "n"})
    assert first["elo"] - second["elo"] == pytest.approx(
        400 * torch.log10(torch.tensor(2.0)).item(), abs=1e-3
    )
    assert result["davidson"]["tie_parameter"] == pytest.approx(4 / 12**0.5, abs=1e-6)
    assert "t" in result["by"]["groups"]
    table.write_text("a,b,v\nx,y,perhaps\n")
    assert call("evaluate", "rank", *words) == 2
    assert "'perhaps' is not understood" in capsys.readouterr().err


def test_ls_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("ls", "recipes") == 0
    assert "grpo/shapes-flow" in capsys.readouterr().out
    assert call("ls", "rewards") == 0
    assert "shapes-verifier" in capsys.readouterr().out.replace("\n", "")
    assert call("ls", "rewards", "hpsv3") == 0
    assert "MizzenAI/HPSv3" in capsys.readouterr().out
    assert call("--version") == 0


def test_validate_tells_of_both_kinds_of_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("validate", "grpo/shapes-flow", "rollout.group_size=16") == 0
    assert "16" in capsys.readouterr().out
    elsewhere = "rewards=[{name: remote, options: {url: 'http://127.0.0.1:1'}}, {name: 'mine:red'}]"
    assert call("validate", "grpo/shapes-flow", elsewhere) == 0
    assert "mine:red" in capsys.readouterr().out
    assert call("validate", "reward/shapes") == 0
    assert "shapes-reward" in capsys.readouterr().out
