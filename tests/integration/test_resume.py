"""A run killed at a random moment and resumed ends with the very bits of a run that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmalign.train import checkpoint as checkpoints
from mmalign.train.trackers import read_metrics
from tests.integration.tiny_run import build, tiny_recipe

ROOT = Path(__file__).resolve().parents[2]
ITERATIONS = 30
LONG = {"budget": {"iterations": ITERATIONS}}


def _start(folder, method, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests/integration/tiny_run.py"), str(folder)]
    command.append(json.dumps({"name": method, **options}))
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def _kill_after(process, folder, iteration, delay):
    """SIGKILL some time after the checkpoint of an iteration has appeared."""
    deadline = time.monotonic() + 240
    while not any(int(p.name) >= iteration for p in checkpoints.complete(folder)):
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the run ended before it could be killed: {process.stderr.read()[-2000:]}")
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()


def _weights(folder):
    return checkpoints.load(checkpoints.newest(folder), restore_rng=False)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grpo", "nft"])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, one_thread, method):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    build(tiny_recipe(method, **LONG), whole).train()

    chance = random.Random()
    process = _start(broken, method, **LONG)
    _kill_after(process, broken, chance.randint(1, 4), chance.uniform(0.0, 0.25))
    assert process.returncode == -signal.SIGKILL
    assert _weights(broken).iteration < ITERATIONS
    build(tiny_recipe(method, **LONG), broken).train()

    expected, resumed = _weights(whole), _weights(broken)
    assert expected.iteration == resumed.iteration == ITERATIONS
    assert set(expected.weights) == set(resumed.weights)
    for name, value in expected.weights.items():
        assert torch.equal(value, resumed.weights[name]), name
    for slot, values in expected.optimizer["state"].items():
        for key, value in values.items():
            assert torch.equal(value, resumed.optimizer["state"][slot][key])
    rows = [
        [{k: v for k, v in r.items() if k != "seconds"} for r in read_metrics(f)] for f in (whole, broken)
    ]
    assert rows[0] == rows[1]


def test_copies_move_while_training(tmp_path, one_thread):
    build(tiny_recipe("nft", ema={"decay": 0.5}), tmp_path).train()
    state = _weights(tmp_path).weights
    names = {key.split("/")[0] for key in state}
    assert names == {"policy", "old", "ema"}
    up = next(key.removeprefix("policy/") for key in state if key.startswith("policy/") and "lora_B" in key)
    assert state[f"policy/{up}"].abs().max() > 0
    assert not torch.equal(state[f"policy/{up}"], state[f"old/{up}"])
    assert not torch.equal(state[f"policy/{up}"], state[f"ema/{up}"])


def test_another_recipe_is_not_resumed(tmp_path, one_thread):
    build(tiny_recipe("sft"), tmp_path).train()
    with pytest.raises(ValueError, match=r"made with another recipe \(optimizer.lr changed\)"):
        build(tiny_recipe("sft", optimizer={"lr": 1e-4}), tmp_path).train()


def test_a_finished_run_can_be_prolonged_and_started_over(tmp_path, one_thread):
    build(tiny_recipe("sft"), tmp_path).train()
    counters = build(tiny_recipe("sft", budget={"iterations": 3}), tmp_path).train()
    assert (counters.iteration, counters.updates) == (3, 3)
    assert [row["iteration"] for row in read_metrics(tmp_path)] == [0, 1, 2, 3]
    again = build(
        tiny_recipe("sft", budget={"iterations": 1}, checkpoint={"resume": "never"}), tmp_path
    ).train()
    assert again.updates == 1
    assert [row["iteration"] for row in read_metrics(tmp_path)] == [0, 1]
    assert [p.name for p in checkpoints.complete(tmp_path)] == ["000001"]  # the old ones are gone
