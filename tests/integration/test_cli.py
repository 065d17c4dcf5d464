"""The command, verb by verb, in this process: what it writes, how it goes on, what it says of mistakes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mmalign import media, shapes
from mmalign.__main__ import main
from mmalign.data.prompts import Prompt
from mmalign.types import Sample
from tests.unit.rewardmodels.tiny import tiny_family

ROOT = Path(__file__).resolve().parents[2]
HALVES = ("pairs", "heldout", "calibration")
PROMPTS = ("a red circle", "two blue squares", "a green cross")


def call(*words: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """What went to stderr since the last look."""
    return capsys.readouterr().err


def rows(path: Path) -> list[dict[str, Any]]:
    """A JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three true pictures with their prompts, as a JSONL file beside them."""
    folder = tmp_path / "pictures"
    drawn = shapes.render(list(PROMPTS), seed=0)
    lines = []
    for k, prompt in enumerate(PROMPTS):
        media.write(folder / f"{k}.png", drawn[k].clamp(0, 1))
        lines.append(json.dumps({"id": str(k), "image": f"{k}.png", "prompt": prompt}))
    (folder / "pictures.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


# ---------------------------------------------------------------- mistakes


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
    error = told(capsys).strip()
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


# ---------------------------------------------------------------- score


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
    assert "nothing to score" in told(capsys)


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


# ---------------------------------------------------------------- generate and evaluate


@pytest.fixture
def flow() -> str:
    """The bundled generator."""
    try:
        shapes.bundled_path("flow")
    except ValueError as problem:
        pytest.skip(str(problem))
    return "shapes-flow"


@pytest.mark.slow
def test_generate_then_score_then_go_on(flow: str, tmp_path: Path) -> None:
    out = tmp_path / "made"
    words = ("--prompts", "shapes:heldout", "--model", flow, "-o", out, "sampling.num_steps=2")
    assert call("generate", *words, "--num-prompts", 2, "--seeds", 2) == 0
    first = rows(out / "manifest.jsonl")
    assert [row["id"] for row in first] == ["00000-00", "00000-01", "00001-00", "00001-01"]
    assert len({row["seed"] for row in first}) == 4
    pixels = {row["id"]: media.read(out / row["file"]) for row in first}

    kept = (out / first[3]["file"]).stat().st_mtime_ns
    (out / first[0]["file"]).unlink()
    assert call("generate", *words, "--num-prompts", 2, "--seeds", 2) == 0
    assert torch.equal(media.read(out / first[0]["file"]), pixels["00000-00"])  # the same alone as in a batch
    assert (out / first[3]["file"]).stat().st_mtime_ns == kept
    assert call("generate", *words, "--num-prompts", 2, "--seeds", 2, "sampling.guidance=3") == 2
    assert call("score", out, "--reward", "shapes-verifier", "-o", tmp_path / "scores") == 0
    assert [row["id"] for row in rows(tmp_path / "scores" / "scores.jsonl")] == [row["id"] for row in first]


@pytest.mark.slow
def test_a_generated_picture_is_the_stock_pipelines(flow: str, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    (tmp_path / "p.txt").write_text("a red circle\n")
    out = tmp_path / "made"
    assert (
        call("generate", "--prompts", tmp_path / "p.txt", "--model", flow, "-o", out, "sampling.num_steps=3")
        == 0
    )
    (row,) = rows(out / "manifest.jsonl")
    without_t5 = {"text_encoder_3": None, "tokenizer_3": None}
    pipe = DiffusionPipeline.from_pretrained(shapes.bundled_path("flow"), **without_t5)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(row["seed"])
    asked = {"num_inference_steps": 3, "guidance_scale": 1.0, "max_sequence_length": 0}
    stock = pipe("a red circle", generator=noise, output_type="pt", **asked).images
    assert (media.read(out / row["file"]) - stock).abs().max() <= 0.6 / 255


@pytest.mark.slow
def test_evaluate_generator_pairs_prompt_and_seed(flow: str, tmp_path: Path) -> None:
    out = tmp_path / "eval"
    words = ("--model", f"one={flow}", "--model", f"same={flow}", "--reward", "shapes-verifier", "-o", out)
    assert (
        call("evaluate", "generator", *words, "--num-prompts", 3, "--seeds", 2, "sampling.num_steps=2") == 0
    )
    result = json.loads((out / "results.json").read_text())
    assert (result["compared_with"], result["num_prompts"], result["num_pictures"]) == ("one", 3, 6)
    same = [row for row in result["rows"] if row["generator"] == "same"]
    assert all(row["difference"]["low"] == row["difference"]["high"] == 0.0 for row in same)
    assert all(row["win_rate"]["mean"] == 0.5 for row in same)
    assert len(rows(out / "pictures.jsonl")) == 12
    assert "data:image/png" in (out / "report.html").read_text()


def test_data_shapes_check_and_evaluate_reward(tmp_path: Path) -> None:
    folder = tmp_path / "world"
    assert call("data", "shapes", "--num-prompts", 6, "-o", folder, "--temperature", 0.01) == 0
    pairs = folder / "pairs.jsonl"
    assert call("data", "check", pairs, "-o", tmp_path / "check.json") == 0
    assert json.loads((tmp_path / "check.json").read_text())["dimensions"]["overall"]["pairs"] == 36
    out = tmp_path / "accuracy.json"
    assert call("evaluate", "reward", "--reward", "shapes-verifier", "--pairs", pairs, "-o", out) == 0
    result = json.loads(out.read_text())
    assert result["score"] == "overall" and result["whole_orders"]["n"] == 6
    assert result["strict"]["accuracy"] > 0.85
    assert result["num_judged"] == result["num_pairs"] == 36
    assert (
        result["strict_interval"]["low"] <= result["strict"]["accuracy"] <= result["strict_interval"]["high"]
    )


def test_a_label_that_the_reward_has_no_score_for_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("data", "shapes", "--num-prompts", 2, "-o", tmp_path / "world") == 0
    pairs, out = tmp_path / "world" / "pairs.jsonl", tmp_path / "accuracy.json"
    pairs.write_text(pairs.read_text().replace('"dim": "overall"', '"dim": "beauty"'))
    words = ("--reward", "shapes-verifier", "--pairs", pairs, "dimension=beauty", "-o", out)
    assert call("evaluate", "reward", *words) == 0
    assert json.loads(out.read_text())["score"] == "overall"
    assert "has no score for beauty: its overall score was compared" in " ".join(
        capsys.readouterr().out.split()
    )


# ---------------------------------------------------------------- tables and the rest


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
    assert "'perhaps' is not understood" in told(capsys)


def test_videoalign_goes_through_import_and_check(real_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.jsonl"
    assert call("data", "import", real_data / "videoalign" / "example.csv", "-o", out) == 0
    found = rows(out)
    assert len(found) == 3
    assert all(Path(c["uri"]).is_file() for row in found for c in row["candidates"])
    assert {note["dim"] for row in found for note in row["annotations"]} == {
        "visual_quality",
        "motion_quality",
        "text_alignment",
    }


def test_ls_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("ls", "recipes") == 0
    assert "grpo/shapes-flow" in capsys.readouterr().out
    assert call("ls", "rewards") == 0
    assert "shapes-verifier" in capsys.readouterr().out.replace("\n", "")
    assert call("ls", "rewards", "hpsv3") == 0
    assert "MizzenAI/HPSv3" in capsys.readouterr().out
    assert call("--version") == 0


@pytest.mark.slow
def test_a_negative_lora_is_the_negative_branch(flow: str, tmp_path: Path) -> None:
    from mmalign import policies
    from pipelines.sampling import Painter, Request
    from pipelines.settings import Generator, Sampling

    policy = policies.load(shapes.bundled_path("flow"), weights="lora", rank=2)
    policy.weights.save_lora(tmp_path / "idle")  # a fresh LoRA changes nothing
    for parameter in policy.weights.trainable():
        parameter.data.normal_(std=0.2, generator=torch.Generator().manual_seed(0))
    policy.weights.save_lora(tmp_path / "busy")
    sampling = Sampling(num_steps=3, guidance=3.0)
    request = Request("0", Prompt("a red circle"), 5)

    def draw(**names: str) -> torch.Tensor:
        painter = Painter(Generator(model=flow, **names), sampling)
        return next(iter(painter.draw([request])))[1]

    base, idle, busy = draw(), str(tmp_path / "idle"), str(tmp_path / "busy")
    torch.testing.assert_close(draw(negative=idle), base, atol=1e-4, rtol=0)
    torch.testing.assert_close(draw(lora=idle, negative=idle), base, atol=1e-4, rtol=0)
    turned, tuned = draw(negative=busy), draw(lora=busy)
    assert (turned - base).abs().max() > 0.01
    assert (tuned - base).abs().max() > 0.01
    assert (turned - tuned).abs().max() > 0.01
    with pytest.raises(ValueError, match="above 1"):
        Painter(Generator(model=flow, negative=busy), Sampling())


def test_validate_tells_of_both_kinds_of_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("validate", "grpo/shapes-flow", "rollout.group_size=16") == 0
    assert "16" in capsys.readouterr().out
    elsewhere = "rewards=[{name: remote, options: {url: 'http://127.0.0.1:1'}}, {name: 'mine:red'}]"
    assert call("validate", "grpo/shapes-flow", elsewhere) == 0
    assert "mine:red" in capsys.readouterr().out
    assert call("validate", "reward/shapes") == 0
    assert "shapes-reward" in capsys.readouterr().out
