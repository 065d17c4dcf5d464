"""What only a CUDA device can show: attention kernels, half precision, memory, and the whole loop on the device.

`make test-gpu` runs it; without a CUDA device every test skips itself with the reason. The first ratio is held to a
hundredth of the recipes' clip range: a rollout runs without gradient and a replay with it, and a device is free to
choose another kernel for each.

Shape legend: `B` samples, `S` steps, `...` the shape of one latent.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmalign import attention
from mmalign.config import load_recipe
from mmalign.policies import PipelinePolicy, from_pipeline
from mmalign.process import Sde
from mmalign.rollout import replay, rollout
from mmalign.shapes.bundle import bundled_path
from mmalign.types import Trajectory
from tests.contract import tiny_pipelines

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
PROMPTS = ["a red circle", "a blue cup"]
STEPS = 4
RATIO_TOLERANCE = 1e-5
HALF = [torch.bfloat16, torch.float16]
BUILDS: dict[str, tuple[Callable[[], Any], Sde]] = {
    "sd3": (tiny_pipelines.sd3, Sde("flow", 0.7)),
    "sd": (tiny_pipelines.sd, Sde("ddim", 1.0)),
}
needs_xformers = pytest.mark.skipif(find_spec("xformers") is None, reason="needs the package xformers")


def make(name: str, *, dtype: torch.dtype = torch.float32, **options: Any) -> PipelinePolicy:
    """A tiny policy on the device whose LoRA is not zero."""
    torch.manual_seed(0)
    pipeline = BUILDS[name][0]().to(DEVICE, dtype)
    pipeline.set_progress_bar_config(disable=True)
    policy = from_pipeline(pipeline, size=(16, 16), **{"weights": "lora", "rank": 4, "alpha": 8.0, **options})
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in policy.weights.trainable():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return policy


def path_of(policy: PipelinePolicy, sde: Sde, *, num: int = 2, guidance: float = 1.0) -> Trajectory:
    """A stochastic rollout of `num` samples."""
    prompts = [PROMPTS[number % 2] for number in range(num)]
    conditions = policy.encode(prompts, guidance=guidance)
    streams = [torch.Generator().manual_seed(seed) for seed in range(num)]
    latents = policy.initial_latents(num, generators=streams)
    return rollout(
        policy, conditions, latents, num_steps=STEPS, guidance=guidance, sde=sde, generators=streams
    )


def gradients(policy: PipelinePolicy, path: Trajectory, sde: Sde) -> tuple[Tensor, Tensor]:
    """The predicted mean of the first step, and the gradient of its log-probability, as one vector."""
    policy.network.zero_grad(set_to_none=True)
    again = replay(policy, path, int(path.steps[0]), sde=sde)
    again.log_prob.sum().backward()
    parts = [p.grad.flatten().float() for p in policy.weights.trainable() if p.grad is not None]
    assert parts
    return again.mean.detach(), torch.cat(parts)


@needs_xformers
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_xformers_attention_is_right_alone(dtype: torch.dtype) -> None:
    proof = attention.prove("xformers", DEVICE, dtype)
    assert max(proof.max_difference, proof.max_gradient_difference) <= attention.TOLERANCE[dtype]


@needs_xformers
@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_xformers_equals_sdpa_in_a_network(name: str, dtype: torch.dtype) -> None:
    """The same weights under both backends: predicted mean and gradient of one step, relative to their size."""
    sde = BUILDS[name][1]
    plain, other = make(name, dtype=dtype), make(name, dtype=dtype, attention="xformers")
    path = path_of(plain, sde)
    limit = 1e-4 if dtype == torch.float32 else 5e-2
    for mine, theirs in zip(gradients(plain, path, sde), gradients(other, path, sde), strict=True):
        assert float(mine.norm()) > 0
        assert float((mine - theirs).norm() / mine.norm()) < limit


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize("name", BUILDS)
def test_first_ratio_is_one_in_half_precision(name: str, dtype: torch.dtype, guidance: float) -> None:
    sde = BUILDS[name][1]
    policy = make(name, dtype=dtype)
    path = path_of(policy, sde, guidance=guidance)
    assert path.log_probs.dtype == torch.float32
    for column, step in enumerate(path.steps.tolist()):
        again = replay(policy, path, step, sde=sde, guidance=guidance)
        ratio = (again.log_prob - path.log_probs[:, column]).exp()
        assert float((ratio - 1).abs().max()) <= RATIO_TOLERANCE


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_points_the_same_way(dtype: torch.dtype) -> None:
    """The LoRA's gradient through a half-precision network is close to the float32 one."""
    sde = BUILDS["sd3"][1]
    exact, half = make("sd3"), make("sd3", dtype=dtype)
    path = path_of(exact, sde)
    told_in_half = replace(path, conditions=path.conditions.to(dtype=dtype))
    mine, theirs = gradients(exact, path, sde)[1], gradients(half, told_in_half, sde)[1]
    assert float(torch.nn.functional.cosine_similarity(mine, theirs, dim=0)) > 0.95


def peak_of_steps(policy: PipelinePolicy, path: Trajectory, sde: Sde, steps: list[int]) -> int:
    """Bytes at the peak of judging some steps again, gradients added up, beyond what was there before."""
    policy.network.zero_grad(set_to_none=True)
    for parameter in policy.weights.trainable():
        parameter.grad = torch.zeros_like(parameter)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for step in steps:
        replay(policy, path, step, sde=sde).log_prob.sum().backward()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def test_memory_of_a_policy_gradient_step() -> None:
    """Activations of one step at a time: more recorded steps cost nothing, twice the samples about twice."""
    sde = BUILDS["sd3"][1]
    policy = make("sd3")
    small, large = (path_of(policy, sde, num=num) for num in (256, 512))
    steps = small.steps.tolist()
    peak_of_steps(policy, large, sde, steps[:1])  # workspaces of the libraries
    one, all_steps, twice = (
        peak_of_steps(policy, path, sde, chosen)
        for path, chosen in ((small, steps[:1]), (small, steps), (large, steps[:1]))
    )
    assert one > 0
    assert all_steps <= 1.05 * one
    assert 1.5 * one <= twice <= 2.2 * one


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["grpo", "nft"])
def test_a_shipped_recipe_takes_a_step_on_the_device(method: str, dtype: str, tmp_path: Path) -> None:
    """Rollout, decoding, reward, credit, update, evaluation, checkpoint and result, all with the policy on CUDA."""
    from pipelines.train import compose

    try:
        bundled_path("flow")
    except ValueError as absent:
        pytest.skip(str(absent))
    overrides = [
        f"output={tmp_path}", f"model.dtype={dtype}", "budget.iterations=1", "evaluation.num_prompts=2",
        "evaluation.every=1", "rollout.num_steps=4", "trackers=[]",
    ]  # fmt: skip
    trainer, task = compose(load_recipe(f"{method}/shapes-flow", overrides))
    assert task.policy.device.type == "cuda"
    trainer.train()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["skipped_updates"] == 0
    if method == "grpo":
        assert rows[-1]["first_ratio_deviation"] <= RATIO_TOLERANCE
    assert (tmp_path / "lora" / "pytorch_lora_weights.safetensors").is_file()
