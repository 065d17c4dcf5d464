"""The contract of every policy: one file, parametrised over all families and the bundled models.

Shape legend: `B` samples, `S` steps, `T` frames.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mmalign import policies
from mmalign.policies import PipelinePolicy
from mmalign.policies.flux_kontext import FluxKontext
from mmalign.policies.sd3 import StableDiffusion3
from mmalign.policies.wan import Wan
from mmalign.process import Sde
from mmalign.rollout import replay, rollout
from mmalign.shapes.bundle import bundled_path
from mmalign.types import Conditions
from tests.contract import tiny_pipelines as tiny

PROMPTS = ["a red circle", "a blue cup"]
STEPS = 4  # divides 1000, so that trailing timesteps agree with DDIM
TOLERANCE = 1e-5
SOURCES = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(9))


@dataclass(frozen=True)
class Case:
    """One policy under test: how its pipeline is made, and how the stock pipeline is told the same."""

    name: str
    build: Callable[[], Any]
    family: Any = None
    size: tuple[int, int] = (16, 16)
    num_frames: int = 1
    kinds: tuple[str, ...] = ("flow", "dance", "cps")
    stock: dict[str, Any] = field(default_factory=dict)
    scale: str = "guidance_scale"
    sources: Tensor | None = None


def bundled(name: str) -> Callable[[], Any]:
    def build() -> Any:
        from diffusers import DiffusionPipeline

        without_t5 = {"text_encoder_3": None, "tokenizer_3": None} if name == "flow" else {}
        return DiffusionPipeline.from_pretrained(str(bundled_path(name)), use_safetensors=True, **without_t5)

    return build


CASES = [
    Case("sd3", tiny.sd3, stock={"max_sequence_length": 0}),
    Case("sd3-t5-zeros", tiny.sd3, StableDiffusion3(text_length=5), stock={"max_sequence_length": 5}),
    Case("sd", tiny.sd, kinds=("ddim",)),
    Case("sdxl", tiny.sdxl, kinds=("ddim",)),
    Case(
        "flux-kontext",
        tiny.flux_kontext,
        FluxKontext(text_length=8),
        size=(24, 16),
        stock={"max_sequence_length": 8, "guidance_scale": 2.5, "max_area": 24 * 16, "_auto_resize": False},
        scale="true_cfg_scale",
        sources=SOURCES,
    ),
    Case(
        "wan",
        tiny.wan,
        Wan(text_length=8),
        size=(32, 16),
        num_frames=5,
        stock={"max_sequence_length": 8, "num_frames": 5},
    ),
    Case("bundled-flow", bundled("flow"), size=(32, 32), stock={"max_sequence_length": 0}),
    Case("bundled-epsilon", bundled("epsilon"), size=(32, 32), kinds=("ddim",)),
]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    chosen = request.param
    if chosen.name.startswith("bundled-"):
        try:
            bundled_path(chosen.name.removeprefix("bundled-"))
        except ValueError as absent:
            pytest.skip(str(absent))
    return chosen


def fresh(case: Case) -> Any:
    """A stock pipeline, as `from_pretrained` gives it: dropout off."""
    pipeline = case.build()
    pipeline.set_progress_bar_config(disable=True)
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            module.eval()
    return pipeline


def make(case: Case, **options: Any) -> PipelinePolicy:
    return policies.from_pipeline(
        fresh(case),
        family=case.family,
        size=case.size,
        num_frames=case.num_frames,
        **{"rank": 4, "alpha": 6.0, **options},
    )


def noise(seeds: range) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def sample(
    policy: PipelinePolicy, case: Case, *, guidance: float = 1.0, negatives: list[str] | None = None
) -> Tensor:
    """Media (2, T, 3, H, W) of a deterministic rollout."""
    conditions = policy.encode(PROMPTS, negative_prompts=negatives, sources=case.sources, guidance=guidance)
    latents = policy.initial_latents(2, generators=noise(range(2)))
    path = rollout(policy, conditions, latents, num_steps=STEPS, guidance=guidance, record=False)
    return policy.decode(path.clean)


def stock(pipeline: Any, case: Case, *, guidance: float = 1.0, negatives: list[str] | None = None) -> Tensor:
    """The same from the stock pipeline's own __call__."""
    options = {**case.stock, case.scale: guidance}
    if case.sources is not None:
        options["image"] = case.sources
        negatives = negatives or [""] * 2
    media = pipeline(
        prompt=PROMPTS,
        negative_prompt=negatives,
        height=case.size[0],
        width=case.size[1],
        num_inference_steps=STEPS,
        generator=noise(range(2)),
        output_type="pt",
        **options,
    )
    return media.frames if hasattr(media, "frames") else media.images[:, None]


@torch.no_grad()
def perturb(policy: PipelinePolicy, scale: float = 0.3) -> None:
    generator = torch.Generator().manual_seed(3)
    for parameter in policy.weights.trainable():
        parameter += scale * torch.randn(parameter.shape, generator=generator)


def one_step(policy: PipelinePolicy, case: Case) -> tuple[Tensor, Tensor, Conditions]:
    conditions = policy.encode(PROMPTS, sources=case.sources)
    latents = policy.initial_latents(2, generators=noise(range(2)))
    return latents, policy.schedule(STEPS, latents)[1], conditions


@pytest.mark.parametrize("guidance, negatives", [(1.0, None), (3.0, None), (3.0, ["green", "a big hat"])])
def test_rollout_equals_the_stock_pipeline(case: Case, guidance: float, negatives: list[str] | None) -> None:
    policy = make(case)
    mine = sample(policy, case, guidance=guidance, negatives=negatives)
    theirs = stock(policy.pipeline, case, guidance=guidance, negatives=negatives)
    assert mine.shape == theirs.shape == (2, case.num_frames, 3, *case.size)
    assert float((mine - theirs).abs().max()) <= TOLERANCE
    assert float(mine.std()) > 1e-3


def test_one_generator_draws_the_stock_noise(case: Case) -> None:
    policy = make(case)
    conditions = policy.encode(PROMPTS, sources=case.sources)
    latents = policy.initial_latents(2, generators=torch.Generator().manual_seed(5))
    mine = policy.decode(rollout(policy, conditions, latents, num_steps=STEPS).clean)
    extra = {} if case.sources is None else {"image": case.sources}
    media = policy.pipeline(
        prompt=PROMPTS, height=case.size[0], width=case.size[1], num_inference_steps=STEPS, output_type="pt",
        generator=torch.Generator().manual_seed(5), **{**case.stock, case.scale: 1.0}, **extra,
    )  # fmt: skip
    theirs = media.frames if hasattr(media, "frames") else media.images[:, None]
    assert float((mine - theirs).abs().max()) <= TOLERANCE


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("weights", ["lora", "full"])
def test_ratio_is_exactly_one_before_the_first_update(case: Case, weights: str, guidance: float) -> None:
    policy = make(case, weights=weights)
    if weights == "lora":
        perturb(policy, 0.05)
    conditions = policy.encode(PROMPTS, sources=case.sources, guidance=guidance)
    latents = policy.initial_latents(2, generators=noise(range(2)))
    for kind in case.kinds:
        sde = Sde(kind, 0.7)  # type: ignore[arg-type]
        path = rollout(
            policy,
            conditions,
            latents,
            num_steps=STEPS,
            guidance=guidance,
            sde=sde,
            generators=noise(range(7, 9)),
        )
        assert len(path.steps) >= STEPS - 1 and path.latents.shape[1] == STEPS + 1
        for column, step in enumerate(path.steps.tolist()):
            again = replay(policy, path, step, sde=sde, guidance=guidance)
            assert again.log_prob.requires_grad
            ratio = (again.log_prob - path.log_probs[:, column]).exp()
            assert torch.equal(ratio, torch.ones(2)), f"{kind} step {step}: {ratio.tolist()}"
            assert path.means is not None and torch.equal(again.mean, path.means[:, column])


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


def gradients(policy: PipelinePolicy) -> Iterator[tuple[str, Tensor | None]]:
    for name, parameter in policy.network.named_parameters():
        yield name, parameter.grad


def check_gradients(policy: PipelinePolicy) -> None:
    up = {name: grad for name, grad in gradients(policy) if "lora_B" in name}
    assert up and all(grad is not None for grad in up.values())
    idle = [name for name, grad in up.items() if grad is not None and not bool(grad.any())]
    # the last block of SD3 drops its text stream, so nothing depends on that stream's queries
    assert len(idle) <= 1 and all(".attn.add_q_proj." in name for name in idle), idle
    assert all(grad is None for name, grad in gradients(policy) if "lora_" not in name)
    for module in policy.pipeline.components.values():
        if isinstance(module, torch.nn.Module) and module is not policy.network:
            assert all(p.grad is None for p in module.parameters())


def test_one_policy_gradient_step(case: Case) -> None:
    policy = make(case, weights="lora")
    conditions = policy.encode(PROMPTS, sources=case.sources)
    latents = policy.initial_latents(2, generators=noise(range(2)))
    sde, advantage = Sde(case.kinds[0], 0.7), torch.tensor([1.0, -1.0])  # type: ignore[arg-type]
    path = rollout(
        policy, conditions, latents, num_steps=STEPS, sde=sde, generators=noise(range(2)), window=range(1, 2)
    )
    assert path.steps.tolist() == [1]
    before = replay(policy, path, 1, sde=sde).log_prob
    (-advantage * (before - path.log_probs[:, 0]).exp()).mean().backward()
    check_gradients(policy)
    torch.optim.SGD(policy.weights.trainable(), lr=1e-2).step()
    after = replay(policy, path, 1, sde=sde).log_prob
    assert float(((after - before) * advantage).sum().detach()) > 0


def test_one_forward_process_step(case: Case) -> None:
    """The shape of DiffusionNFT: x0 regression of the policy against a copy, at one level per sample."""
    policy = make(case, weights="lora")
    policy.weights.add("old")
    conditions = policy.encode(PROMPTS, sources=case.sources)
    generator = torch.Generator().manual_seed(1)
    clean = policy.initial_latents(2, generators=noise(range(2)))
    level = policy.process.sample_levels(2, density="uniform", generator=generator, device="cpu")
    drawn = torch.randn(clean.shape, generator=generator)
    noisy = policy.process.add_noise(clean, drawn, level)
    with torch.no_grad(), policy.weights.using("old"):
        old = policy.predict(noisy, level, conditions)
    prediction = policy.predict(noisy, level, conditions)
    assert torch.equal(prediction, old)
    target = policy.process.target(clean, drawn, level)
    loss = (2.0 * prediction - old - target).square().flatten(1).mean(1)
    loss.mean().backward()
    check_gradients(policy)
    torch.optim.SGD(policy.weights.trainable(), lr=1e-2).step()
    policy.weights.blend("old", "policy", decay=0.5)
    with torch.no_grad():
        error = (policy.predict(noisy, level, conditions) - target).square()
    assert float(error.mean()) < float(loss.detach().mean())


def test_conditions_are_encoded_once_and_selected(case: Case) -> None:
    policy = make(case)
    both = policy.encode(PROMPTS, sources=case.sources, guidance=2.0)
    assert both.negative is not None and both.batch_size == 2
    assert policy.encode(PROMPTS, sources=case.sources, guidance=1.0).negative is None
    latents, level, _ = one_step(policy, case)
    order = [1, 0, 1]
    repeated = policy.encode(
        [PROMPTS[i] for i in order],
        sources=None if case.sources is None else case.sources[order],
        guidance=2.0,
    )
    for key, value in both.select(order).tensors.items():
        assert torch.allclose(value, repeated.tensors[key], atol=1e-6)
    whole = policy.predict(latents, level, both, guidance=2.0)
    part = policy.predict(latents[1:], level, both.select([1]), guidance=2.0)
    assert torch.allclose(whole[1:], part, atol=1e-5)
    twice = policy.predict(latents.repeat_interleave(2, 0), level, both.repeat_interleave(2), guidance=2.0)
    assert torch.allclose(twice[::2], whole, atol=1e-5) and torch.allclose(twice[1::2], whole, atol=1e-5)
    assert torch.equal(policy.predict(latents, level.expand(2), both), policy.predict(latents, level, both))
    with pytest.raises(ValueError, match="negative side"):
        policy.predict(latents, level, policy.encode(PROMPTS, sources=case.sources), guidance=2.0)


def test_media_round_trip_shapes(case: Case) -> None:
    policy = make(case)
    latents = policy.initial_latents(2, generators=noise(range(2)))
    media = policy.decode(latents)
    assert media.shape == (2, case.num_frames, 3, *case.size) and media.dtype == torch.float32
    assert float(media.min()) >= 0.0 and float(media.max()) <= 1.0
    assert policy.encode_media(media).shape == latents.shape
    leaf = latents.clone().requires_grad_()
    policy.decode(leaf, with_grad=True).sum().backward()
    assert leaf.grad is not None and float(leaf.grad.abs().max()) > 0
    assert not policy.decode(leaf).requires_grad


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
