"""Checkpoints are whole or absent, restore every generator, and the metrics file forgets what came after."""

import json
import random

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from mmalign.train import checkpoint as checkpoints
from mmalign.train.checkpoint import Checkpoint, changed_keys
from mmalign.train.trackers import Trackers, check_available, grid, read_metrics


def _save(folder, iteration, keep=2):
    weights = {"policy.a": torch.arange(6.0).reshape(2, 3), "old.a": torch.full((2, 3), float(iteration))}
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    parameter.sum().backward()
    optimizer.step()
    made = Checkpoint(iteration, weights, optimizer.state_dict(), {"updates": 3 * iteration}, {"seed": 1})
    return checkpoints.save(folder, made, keep=keep)


def test_a_checkpoint_reads_back_with_equal_bits(tmp_path):
    path = _save(tmp_path, 5)
    loaded = checkpoints.load(path)
    assert loaded.iteration == 5
    assert loaded.counters == {"updates": 15}
    assert loaded.recipe == {"seed": 1}
    assert torch.equal(loaded.weights["old.a"], torch.full((2, 3), 5.0))
    fresh = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))], lr=0.5)
    fresh.load_state_dict(dict(loaded.optimizer))
    assert fresh.state_dict()["state"][0]["step"] == 1
    assert fresh.param_groups[0]["lr"] == 0.1


def test_global_generators_continue(tmp_path):
    path = _save(tmp_path, 1)
    expected = random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002
    checkpoints.load(path)
    assert (random.random(), float(np.random.rand()), float(torch.rand(()))) == expected  # noqa: NPY002


def test_only_the_newest_are_kept(tmp_path):
    for iteration in (2, 10, 100, 1000000):
        _save(tmp_path, iteration)
    assert [p.name for p in checkpoints.complete(tmp_path)] == ["000100", "1000000"]
    assert checkpoints.newest(tmp_path).name == "1000000"


def test_a_half_written_checkpoint_is_not_seen_and_is_cleared(tmp_path):
    _save(tmp_path, 1)
    partial = tmp_path / "checkpoints" / ".partial-000002"
    partial.mkdir()
    (partial / "weights.safetensors").write_bytes(b"cut")
    assert checkpoints.newest(tmp_path).name == "000001"
    _save(tmp_path, 3)
    assert not partial.exists()


def test_no_checkpoint_is_none(tmp_path):
    assert checkpoints.newest(tmp_path) is None


def test_writing_the_same_iteration_again_replaces_it(tmp_path):
    _save(tmp_path, 4)
    _save(tmp_path, 4)
    assert [p.name for p in checkpoints.complete(tmp_path)] == ["000004"]


def test_changed_keys_name_the_difference_outside_the_ignored():
    saved = {"budget": {"iterations": 5, "passes": 1}, "seed": 0, "rewards": [1]}
    now = {"budget": {"iterations": 9, "passes": 2}, "seed": 0, "rewards": [2]}
    assert changed_keys(saved, now, ignore=frozenset({"budget.iterations"})) == ["budget.passes", "rewards"]


def test_metrics_after_the_checkpoint_are_forgotten(tmp_path):
    trackers = Trackers(tmp_path, accelerator=Accelerator(), config={})
    for iteration in range(1, 6):
        trackers.log(iteration, {"loss": 0.5, "bad": float("nan")})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 6, "lo')
    trackers.resume(3)
    trackers.log(4, {"loss": 0.25})
    rows = read_metrics(tmp_path)
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["bad"] is None
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["loss"] == 0.25


def test_grid_places_images_row_by_row():
    images = torch.stack([torch.full((3, 2, 2), v) for v in (0.0, 0.4, 0.8)])
    picture = grid(images, columns=2, gap=1)
    assert picture.shape == (5, 5, 3)
    assert picture[0, 0, 0] == 0
    assert picture[0, 3, 0] == 102
    assert picture[3, 0, 0] == 204
    assert picture[3, 3, 0] == 255  # the empty place is white
    assert picture[2, 0, 0] == 255  # so is the gap


def test_missing_tracker_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"tracker 'wandb' needs the package 'wandb'"):
        check_available(["wandb"])
