"""The contract of every policy's weights: reference, copies, LoRA targets, and what is saved and read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmalign import policies
from tests.contract import tiny_pipelines as tiny
from tests.contract.policy_cases import TOLERANCE, Case, fresh, make, one_step, perturb, sample, stock


def test_reference_is_the_network_with_the_adapter_off(case: Case) -> None:
    bare, policy = make(case), make(case, weights="lora")
    latents, level, conditions = one_step(policy, case)
    expected = bare.predict(latents, level, conditions)
    assert torch.equal(policy.predict(latents, level, conditions), expected)  # B starts at zero
    perturb(policy)
    flags = [p.requires_grad for p in policy.network.parameters()]
    changed = policy.predict(latents, level, conditions)
    assert float((changed - expected).detach().abs().max()) > 1e-4
    with policy.weights.using("reference"):
        assert torch.equal(policy.predict(latents, level, conditions), expected)
    assert [p.requires_grad for p in policy.network.parameters()] == flags
    assert torch.equal(policy.predict(latents, level, conditions), changed)


def test_full_weights_keep_their_reference(case: Case) -> None:
    bare, policy = make(case), make(case, weights="full")
    latents, level, conditions = one_step(policy, case)
    expected = bare.predict(latents, level, conditions)
    policy.weights.add("old")
    perturb(policy, 0.05)
    changed = policy.predict(latents, level, conditions)
    assert float((changed - expected).detach().abs().max()) > 1e-4
    for name in ("reference", "old"):
        with policy.weights.using(name):
            assert torch.equal(policy.predict(latents, level, conditions), expected)
    assert torch.equal(policy.predict(latents, level, conditions), changed)
    assert all(p.requires_grad for p in policy.network.parameters())


def test_copies_follow_the_policy(case: Case) -> None:
    policy = make(case, weights="lora")
    latents, level, conditions = one_step(policy, case)
    policy.weights.add("old")
    start = policy.predict(latents, level, conditions)
    perturb(policy)
    moved = policy.predict(latents, level, conditions)
    with policy.weights.using("old"):
        assert torch.equal(policy.predict(latents, level, conditions), start)
        with policy.weights.using("policy"):
            assert torch.equal(policy.predict(latents, level, conditions), moved)
    policy.weights.copy("policy", "old")
    with policy.weights.using("old"):
        assert torch.equal(policy.predict(latents, level, conditions), moved)


def test_every_lora_target_matches_and_is_trained(case: Case) -> None:
    policy = make(case, weights="lora")
    adapted = {
        name.rpartition(".lora_")[0] for name, p in policy.network.named_parameters() if p.requires_grad
    }
    for target in policy.family.lora_targets:
        assert any(name.endswith(f".{target}") for name in adapted), target
    with pytest.raises(ValueError, match=r"match no module.*to_qq"):
        make(case, weights="lora", targets=("to_qq", *policy.family.lora_targets))


def test_saved_lora_gives_the_same_image_in_the_stock_pipeline(case: Case, tmp_path: Path) -> None:
    policy = make(case, weights="lora")  # rank 4, alpha 6
    perturb(policy)
    mine = sample(policy, case, guidance=2.0)
    policy.weights.save_lora(tmp_path)
    pipeline = fresh(case)
    plain = stock(pipeline, case, guidance=2.0)
    pipeline.load_lora_weights(str(tmp_path))
    assert float((mine - stock(pipeline, case, guidance=2.0)).abs().max()) <= TOLERANCE
    assert float((mine - plain).abs().max()) > 10 * TOLERANCE
    started = make(case, weights="lora", adapter=tmp_path, rank=2)
    assert torch.equal(sample(started, case, guidance=2.0), mine)
    applied = make(case, adapter=tmp_path)
    assert torch.equal(sample(applied, case, guidance=2.0), mine)
    assert not any(p.requires_grad for p in applied.network.parameters())
    merged = make(case, weights="full", adapter=tmp_path)
    latents, level, conditions = one_step(merged, case)
    with torch.no_grad():  # W + s B A summed once or at every call: the same but for rounding
        summed, apart = (p.predict(latents, level, conditions) for p in (merged, policy))
    assert float((summed - apart).abs().max()) <= 1e-3 * float(apart.abs().max())


def test_saved_network_loads_in_its_class(case: Case, tmp_path: Path) -> None:
    for weights in ("lora", "full"):
        policy = make(case, weights=weights)
        perturb(policy, 0.05)
        latents, level, conditions = one_step(policy, case)
        expected = policy.predict(latents, level, conditions)
        policy.weights.save_full(tmp_path / weights)
        bare = make(case)
        bare.network.load_state_dict(load_file(tmp_path / weights / "diffusion_pytorch_model.safetensors"))
        assert float((bare.predict(latents, level, conditions) - expected).detach().abs().max()) <= 1e-4
        assert torch.equal(policy.predict(latents, level, conditions), expected)


def test_saved_pipeline_loads_as_a_policy(case: Case, tmp_path: Path) -> None:
    policy = make(case)
    policy.pipeline.save_pretrained(tmp_path, safe_serialization=True)
    loaded = policies.load(
        tmp_path, family=case.family, size=case.size, num_frames=case.num_frames, weights="lora", rank=2
    )
    assert loaded.modality == policy.modality and loaded.family.name == policy.family.name
    assert torch.equal(sample(loaded, case), sample(policy, case))
    with pytest.raises(ValueError, match=r"no policy family for 'sd9'; there are sd3"):
        policies.load(tmp_path, family="sd9")
    index = json.loads((tmp_path / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps({**index, "_class_name": "OtherPipeline"}))
    with pytest.raises(ValueError, match="no policy family for 'OtherPipeline'"):
        policies.load(tmp_path)


def test_wrong_paths_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        policies.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"no model_index\.json"):
        policies.load(tmp_path)
    with pytest.raises(ValueError, match="no LoRA at"):
        policies.from_pipeline(tiny.sd3(), adapter=tmp_path)
