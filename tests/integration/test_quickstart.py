"""The quickstart on the bundled models with a budget of seconds: the folder, a second call, Ctrl-C, stock loading.

Whether the gold reward truly rises is measured by the whole quickstart, see README.md.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmalign.train.checkpoint import complete
from mmalign.train.trackers import read_metrics
from pipelines import quickstart

TINY = (
    "budget.iterations=4",
    "checkpoint.every=2",
    "evaluation.every=2",
    "evaluation.num_prompts=8",
    "evaluation.seeds_per_prompt=1",
    "evaluation.num_steps=2",
    "evaluation.grid=[1, 4]",
    "rollout.num_steps=4",
    "rollout.group_size=2",
    "rollout.groups_per_iteration=2",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("quickstart") / "run"
    quickstart.run(folder, overrides=TINY)
    return folder


def test_folder_holds_what_is_promised(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert set(metrics) == {"gold", "proxy", "seconds"} and metrics["seconds"] > 0
    for measure in ("gold", "proxy"):
        for side in ("base", "aligned"):
            found = metrics[measure][side]
            assert set(found) == {"mean", "low", "high", "n"} and found["n"] == 8
            assert found["low"] <= found["mean"] <= found["high"]
    assert 0.0 <= metrics["gold"]["base"]["mean"] <= 1.0
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert page.count('class="card example"') == 8 and "mmalign demo" in page
    assert (finished / "config.yaml").is_file() and (finished / "before-after.png").is_file()
    assert [row["iteration"] for row in read_metrics(finished)] == [0, 1, 2, 3, 4]


def test_lora_loads_in_the_stock_pipeline(finished):
    from diffusers import DiffusionPipeline

    from mmalign.shapes import bundled_path

    without_t5 = {"text_encoder_3": None, "tokenizer_3": None}
    pipe = DiffusionPipeline.from_pretrained(bundled_path("flow"), **without_t5)
    pipe.set_progress_bar_config(disable=True)

    def draw() -> torch.Tensor:
        noise = torch.Generator().manual_seed(0)
        made = pipe(
            "a red circle", num_inference_steps=2, guidance_scale=1.0, generator=noise, output_type="pt"
        )
        return made.images

    before = draw()
    pipe.load_lora_weights(finished / "lora")
    tuned = draw()
    assert torch.isfinite(tuned).all() and not torch.equal(before, tuned)
    pipe.disable_lora()
    assert torch.allclose(before, draw(), atol=1e-6)


def test_second_call_trains_nothing_and_gives_the_same_figures(finished, capsys):
    first = json.loads((finished / "metrics.json").read_text())
    newest = complete(finished)[-1].stat().st_mtime_ns
    quickstart.run(finished, overrides=TINY)
    assert "finished run" in capsys.readouterr().out
    second = json.loads((finished / "metrics.json").read_text())
    assert {k: first[k] for k in ("gold", "proxy")} == {k: second[k] for k in ("gold", "proxy")}
    assert complete(finished)[-1].stat().st_mtime_ns == newest


def test_other_settings_in_the_same_folder_are_refused(finished):
    with pytest.raises(ValueError, match="another recipe"):
        quickstart.run(finished, overrides=(*TINY, "optimizer.lr=1e-5"))


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_done_and_the_same_command_goes_on(tmp_path):
    folder = tmp_path / "run"
    tiny = [*TINY, "budget.iterations=12"]
    code = (  # a shell that started the tests in the background has taught them, and so the child, to ignore Ctrl-C
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"from pipelines import quickstart; quickstart.run({str(folder)!r}, overrides={tiny!r})"
    )
    call = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    child = subprocess.Popen(
        call, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    deadline = time.monotonic() + 300
    while not complete(folder) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    told, _ = child.communicate(timeout=60)
    assert child.returncode != 0 and "the same command goes on" in told.splitlines()[-1]
    assert not (folder / "metrics.json").exists()
    again = subprocess.run(call, capture_output=True, text=True, env=environment, check=True)
    assert "Going on after iteration" in again.stdout
    assert (folder / "metrics.json").is_file() and (folder / "report.html").is_file()
