"""The contract of every policy: the stock pipeline's pictures, ratio 1, updates, conditions and shapes.

Shape legend: `B` samples, `S` steps, `T` frames.
"""

from __future__ import annotations

import pytest
import torch

from mmalign.process import Sde
from mmalign.rollout import replay, rollout
from tests.contract.policy_cases import (
    PROMPTS,
    STEPS,
    TOLERANCE,
    Case,
    check_gradients,
    make,
    noise,
    one_step,
    perturb,
    sample,
    stock,
)


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
