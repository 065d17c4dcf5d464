"""Two processes under `accelerate launch` follow the same gradients as one, with whole groups or bundles on each."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from safetensors.torch import load_file

from mmalign.train.distributed import Processes, refuse_what_is_not_used, start
from mmalign.train.trackers import read_metrics
from tests.integration.test_train_probability import SMALL as SMALL_JUDGE
from tests.integration.test_train_reward import TINY as TINY_REWARD

ROOT = Path(__file__).resolve().parents[2]
# one iteration of 4 groups x 2, cut into 2 updates; on two processes each takes a whole group of every update
OPTIONS = {
    "rollout": {
        "num_steps": 3, "group_size": 2, "groups_per_iteration": 4, "batch_size": 2,
        "sde": {"kind": "flow", "noise": 0.7},
    },
    "budget": {"iterations": 2, "updates_per_iteration": 2},
    "evaluation": {"every": 2, "num_prompts": 2, "seeds_per_prompt": 1, "num_steps": 2},
}  # fmt: skip


def _launch(folder, num_processes, method):
    options = {"name": method, **OPTIONS}
    if method not in ("grpo", "guard"):
        options["rollout"] = OPTIONS["rollout"] | {"sde": None}
    script = str(ROOT / "tests/integration/tiny_run.py")
    done = _launched([script, str(folder), json.dumps(options)], num_processes)
    assert done.returncode == 0, done.stderr[-4000:]


def _launched(program, num_processes):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = [sys.executable, "-m", "accelerate.commands.launch", f"--num_processes={num_processes}"]
    launch += ["--multi_gpu"] if num_processes > 1 else ["--cpu"]
    launch += [
        f"--main_process_port={port}",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
    ]
    command = [*launch, *program]
    return subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )


SHARED = {
    "reward/shapes": ["train-reward", *TINY_REWARD, "budget.updates=2", "budget.bundles_per_update=2"],
    "judge/paco-like": ["train-judge", *SMALL_JUDGE, "budget.iterations=2", "budget.bundles_per_iteration=2"],
    "judge/shapes": [
        "train-judge", "warm_up.updates=1", "data.shapes.families=2", "data.shapes.images=2", "method.answers=2",
        "evaluation.final_prompts=2", "evaluation.every=null", "budget.iterations=2", "budget.bundles_per_iteration=2",
    ],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("recipe", list(SHARED))
def test_two_processes_share_the_bundles_of_a_reward_or_judge(tmp_path, recipe):
    verb, *options = SHARED[recipe]
    rows = []
    for num in (1, 2):
        out = tmp_path / str(num)
        done = _launched(["-m", "mmalign", verb, recipe, *options, f"output={out}"], num)
        assert done.returncode == 0, done.stderr[-4000:]
        rows.append([row for row in read_metrics(out) if "loss" in row])
    assert len(rows[0]) == len(rows[1]) > 0
    for alone, together in zip(*rows, strict=True):
        for key in ("loss", "grad_norm"):
            assert together[key] == pytest.approx(alone[key], rel=1e-3, abs=1e-6), (key, alone["iteration"])


def test_fewer_bundles_than_processes_are_refused():
    sibling = Processes.__new__(Processes)
    sibling.rank, sibling.num = 1, 2
    assert list(sibling.share(3, 4, "budget.bundles_per_update")) == [13, 15]
    with pytest.raises(
        ValueError, match=r"budget\.bundles_per_update is 1, and 2 processes .* some would idle"
    ):
        sibling.share(0, 1, "budget.bundles_per_update")


def test_a_launch_that_starts_one_process_for_two_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ValueError, match="use --multi_gpu instead of --cpu"):
        start()


@pytest.mark.parametrize(
    "precision,kind,mend",
    [
        ("bf16", DistributedType.NO, r"set model\.dtype"),
        ("no", DistributedType.FSDP, "launch with --multi_gpu"),
        ("no", DistributedType.DEEPSPEED, "launch with --multi_gpu"),
    ],
)
def test_launch_settings_that_would_do_nothing_are_refused(precision, kind, mend):
    launched = SimpleNamespace(mixed_precision=precision, distributed_type=kind)
    with pytest.raises(ValueError, match=mend):
        refuse_what_is_not_used(launched)
    refuse_what_is_not_used(SimpleNamespace(mixed_precision="no", distributed_type=DistributedType.MULTI_GPU))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grpo", "dpo"])
def test_two_processes_agree_with_one(tmp_path, method):
    one, two = tmp_path / "one", tmp_path / "two"
    _launch(one, 1, method)
    _launch(two, 2, method)
    for update in range(4):
        alone = load_file(one / f"gradients-{update}.safetensors")
        together = load_file(two / f"gradients-{update}.safetensors")
        assert set(alone) == set(together)
        scale = max(float(gradient.abs().max()) for gradient in alone.values())
        assert scale > 0
        noise = (
            1e-5 if update < 2 else 1e-2
        )  # Adam's first steps blow rounding up where a gradient is about 0
        for name, gradient in alone.items():
            torch.testing.assert_close(
                gradient, together[name], rtol=noise, atol=noise * scale, msg=f"{update} {name}"
            )
    rows = [read_metrics(folder)[-1] for folder in (one, two)]
    for key in ("reward", "reward_std", "kept_groups", "eval/reward", "loss"):
        assert rows[0][key] == pytest.approx(rows[1][key], rel=1e-3, abs=1e-5), key
    plans = [json.loads((two / f"plan-{rank}.json").read_text()) for rank in range(2)]
    assert plans == [[[[0, 1]], [[4, 5]]], [[[2, 3]], [[6, 7]]]]
