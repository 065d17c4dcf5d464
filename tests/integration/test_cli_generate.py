"""`mmalign generate`, `evaluate` and `data` in this process: pictures as the stock pipeline makes them, and figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mmalign import media, shapes
from mmalign.data.prompts import Prompt
from tests.integration.told import call, rows


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
