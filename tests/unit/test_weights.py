"""Weights under several names: exchanged, copied, blended, merged and saved.

Shape legend: the network is one linear map, W (3, 4); a LoRA pair is A (r, 4) and B (3, r).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ModelMixin, StableDiffusion3Pipeline
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmalign.policies.adapters import LoraWeights
from mmalign.policies.lora_files import LORA_FILE, read_lora
from mmalign.policies.weights import FullWeights


class Line(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """x -> W x, with the loading and saving of a diffusers network."""

    @register_to_config
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.to_q = nn.Linear(width, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.to_q(x)


def line() -> Line:
    network = Line()
    network.to_q.weight.data = torch.arange(12.0).reshape(3, 4) / 10
    return network


def lora(rank: int = 2, alpha: float = 3.0, seed: int = 0, network: Line | None = None) -> LoraWeights:
    options: dict[str, Any] = {"pipeline_class": StableDiffusion3Pipeline, "component": "transformer"}
    return LoraWeights(network or line(), targets=["to_q"], rank=rank, alpha=alpha, seed=seed, **options)


@torch.no_grad()
def fill(weights: LoraWeights | FullWeights, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in weights.trainable():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))


def matrix(weights: LoraWeights | FullWeights, name: str = "policy") -> Tensor:
    """The linear map that the network computes under the weights called `name`."""
    with torch.no_grad(), weights.using(name):
        return weights.network(torch.eye(4)).T


def pair(weights: LoraWeights) -> tuple[Tensor, Tensor]:
    down, up = weights.trainable()
    return down.detach().clone(), up.detach().clone()


def test_lora_starts_as_the_original_network_and_adds_alpha_over_rank() -> None:
    weights = lora(rank=2, alpha=3.0)
    assert torch.equal(matrix(weights), line().to_q.weight)
    down, up = weights.trainable()
    assert bool(down.any()) and not bool(up.any())
    fill(weights, 1)
    expected = line().to_q.weight + 1.5 * up @ down
    assert torch.allclose(matrix(weights), expected, atol=1e-6)
    assert torch.equal(matrix(weights, "reference"), line().to_q.weight)


def test_lora_start_depends_on_its_seed_alone() -> None:
    network = line()
    before = torch.get_rng_state()
    one = pair(lora(seed=3, network=network))[0]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(pair(lora(seed=3))[0], one)
    assert not torch.equal(pair(lora(seed=4))[0], one)


def test_lora_is_float32_in_a_half_precision_network() -> None:
    weights = lora(network=line().to(torch.bfloat16))
    assert all(p.dtype == torch.float32 and p.requires_grad for p in weights.trainable())
    assert [p.requires_grad for p in weights.network.parameters()] == [False, True, True]
    assert weights.network(torch.ones(1, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_using_leaves_the_parameters_and_their_flags_alone() -> None:
    for weights in (lora(), FullWeights(line())):
        fill(weights, 1)
        weights.add("old")
        fill(weights, 2)
        frozen = weights.trainable()[0].requires_grad_(False)
        values = [p.detach().clone() for p in weights.trainable()]
        for name in ("old", "reference", "policy"):
            with pytest.raises(KeyError), weights.using(name):
                raise KeyError
            with weights.using(name):
                assert not frozen.requires_grad
        assert all(torch.equal(p, value) for p, value in zip(weights.trainable(), values, strict=True))
        assert [p.requires_grad for p in weights.trainable()] == [False, *[True] * (len(values) - 1)]


def test_a_recorded_graph_sees_its_own_values() -> None:
    """Gradient of (W x)^2 recorded before other weights were used: 2 W x x^T of the policy, not of the copy."""
    weights = FullWeights(line())
    weights.add("other")
    weights.copies.stored["other"]["to_q.weight"].mul_(100)
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    loss = weights.network(x).square().sum()
    for name in ("other", "reference"):
        with torch.no_grad(), weights.using(name):
            weights.network(x)
    loss.backward()
    matrix_now = line().to_q.weight.detach()
    expected = 2 * (matrix_now @ x.T) @ x
    assert torch.allclose(weights.trainable()[0].grad, expected)


def test_copies_are_separate_and_nested_use_finds_the_policy() -> None:
    weights = lora()
    fill(weights, 1)
    first = matrix(weights)
    weights.add("old")
    weights.add("zero", copy_of="reference")
    fill(weights, 2)
    second = matrix(weights)
    assert torch.equal(matrix(weights, "old"), first)
    assert torch.equal(matrix(weights, "zero"), matrix(weights, "reference"))
    with weights.using("old"), weights.using("reference"):
        assert torch.equal(matrix(weights), second)
        weights.copy("policy", "zero")
    assert torch.equal(matrix(weights, "zero"), second) and torch.equal(matrix(weights), second)
    assert weights.names == ("policy", "old", "zero", "reference")


@pytest.mark.parametrize("decay", [0.0, 0.25, 1.0])
def test_blend_is_decay_times_old_plus_the_rest(decay: float) -> None:
    for weights in (lora(), FullWeights(line())):
        fill(weights, 1)
        weights.add("ema")
        old = [p.detach().clone() for p in weights.trainable()]
        fill(weights, 2)
        new = [p.detach().clone() for p in weights.trainable()]
        weights.blend("ema", "policy", decay)
        for value, a, b in zip(weights.copies.stored["ema"].values(), old, new, strict=True):
            assert torch.allclose(value, decay * a + (1 - decay) * b, atol=1e-6)
        assert all(torch.equal(p, value) for p, value in zip(weights.trainable(), new, strict=True))


def test_negative_weights_of_full_networks() -> None:
    """theta + alpha * (pos - theta) + beta * (npo - theta), by hand."""
    weights = FullWeights(line())
    theta = line().to_q.weight.detach()
    weights.add("npo")
    weights.copies.stored["npo"]["to_q.weight"].copy_(theta + 7.0)
    with torch.no_grad():
        weights.trainable()[0].copy_(theta + 2.0)
    weights.merge_negative("negative", offset="npo", alpha=0.5, beta=0.25)
    assert torch.allclose(matrix(weights, "negative"), theta + 0.5 * 2.0 + 0.25 * 7.0)


@pytest.mark.parametrize("alpha, beta", [(1.0, 1.0), (0.5, 0.25), (0.0, 1.0)])
def test_negative_weights_of_loras_are_the_exact_sum(alpha: float, beta: float) -> None:
    weights = lora()
    fill(weights, 1)
    weights.add("npo")
    fill(weights, 2)
    theta, positive, npo = (matrix(weights, name) for name in ("reference", "policy", "npo"))
    weights.merge_negative("negative", offset="npo", alpha=alpha, beta=beta)
    expected = theta + alpha * (positive - theta) + beta * (npo - theta)
    assert torch.allclose(matrix(weights, "negative"), expected, atol=1e-5)
    assert torch.equal(matrix(weights), positive)


def test_state_holds_the_policy_and_all_copies(tmp_path: Path) -> None:
    for make in (lora, lambda: FullWeights(line())):
        weights = make()
        fill(weights, 1)
        weights.add("old")
        fill(weights, 2)
        save_file(weights.state_dict(), tmp_path / "state.safetensors")
        other = make()
        other.load_state_dict(load_file(tmp_path / "state.safetensors"))
        assert torch.equal(matrix(other), matrix(weights))
        assert torch.equal(matrix(other, "old"), matrix(weights, "old"))
        assert torch.equal(matrix(other, "reference"), line().to_q.weight)
        assert not any(key.startswith("reference") for key in weights.state_dict())


def test_state_of_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit this network at 2 parameters"):
        lora(rank=2).load_state_dict(lora(rank=3).state_dict())
    with pytest.raises(ValueError, match="hold no policy"):
        lora().load_state_dict({})
    with pytest.raises(ValueError, match="do not fit"):
        lora().load_state_dict(FullWeights(line()).state_dict())


@pytest.mark.parametrize("rank, alpha", [(2, 3.0), (3, 12.0)])
def test_saved_lora_returns_with_any_rank_and_alpha(rank: int, alpha: float, tmp_path: Path) -> None:
    saved = lora(rank=rank, alpha=alpha)
    fill(saved, 1)
    saved.save_lora(tmp_path)
    file = read_lora(tmp_path, "transformer")
    assert (file.rank, file.alpha, file.targets) == (rank, alpha, ("to_q",))
    other = lora(rank=2, alpha=5.0)
    other.add_lora("negative", tmp_path)
    assert torch.allclose(matrix(other, "negative"), matrix(saved), atol=1e-5)
    assert torch.equal(matrix(other), matrix(other, "reference"))
    full = FullWeights(line())
    full.load_lora(tmp_path)
    assert torch.allclose(matrix(full), matrix(saved), atol=1e-5)
    assert torch.equal(matrix(full, "reference"), line().to_q.weight)
    if rank == 2:
        other.load_lora(tmp_path)
        assert torch.allclose(matrix(other), matrix(saved), atol=1e-5)
    else:
        with pytest.raises(ValueError, match="differ in shape"):
            other.load_lora(tmp_path)


def test_merged_negative_is_saved_with_its_own_rank(tmp_path: Path) -> None:
    weights = lora(rank=2, alpha=3.0)
    fill(weights, 1)
    weights.add("npo")
    fill(weights, 2)
    weights.merge_negative("negative", offset="npo", alpha=0.5)
    weights.save_lora(tmp_path / "lora", "negative")
    assert read_lora(tmp_path / "lora", "transformer").rank == 4
    plain = line()
    plain.load_lora_adapter(
        str(tmp_path / "lora"), prefix="transformer", weight_name=LORA_FILE, use_safetensors=True
    )
    assert torch.allclose(plain(torch.eye(4)).T, matrix(weights, "negative"), atol=1e-5)
    for name in ("policy", "negative", "reference"):
        weights.save_full(tmp_path / name, name)
        merged = Line.from_pretrained(tmp_path / name)
        assert torch.allclose(merged.to_q.weight, matrix(weights, name), atol=1e-5)


def test_mistakes_name_the_mend(tmp_path: Path) -> None:
    weights = lora()
    with (
        pytest.raises(ValueError, match=r"no weights called 'old', only policy.*add\('old'\)"),
        weights.using("old"),
    ):
        pass
    weights.add("old")
    for taken in ("old", "policy", "reference"):
        with pytest.raises(ValueError, match="exist already"):
            weights.add(taken)
    with pytest.raises(ValueError, match="reference never changes"):
        weights.blend("reference", "policy", 0.5)
    with pytest.raises(ValueError, match="no LoRA at"):
        weights.add_lora("x", tmp_path)
    with pytest.raises(ValueError, match=r"match no module of Line: to_z; its linear layers end in to_q"):
        LoraWeights(
            line(),
            targets=["to_z"],
            rank=1,
            alpha=1.0,
            pipeline_class=StableDiffusion3Pipeline,
            component="t",
        )
    save_file({"transformer.to_q.alpha": torch.ones(1)}, tmp_path / LORA_FILE)
    with pytest.raises(ValueError, match="layout of diffusers and peft"):
        weights.add_lora("x", tmp_path)
    with pytest.raises(ValueError, match="has no LoRA: use save_full"):
        FullWeights(line()).save_lora(tmp_path)
    with (
        pytest.raises(ValueError, match="loaded without its reference: load it with reference=True"),
        FullWeights(line(), reference=False).using("reference"),
    ):
        pass


def test_frozen_weights_train_and_copy_nothing() -> None:
    weights = FullWeights(line(), trainable=False)
    assert weights.trainable() == [] and weights.state_dict() == {}
    assert torch.equal(matrix(weights, "reference"), matrix(weights))
    assert not any(p.requires_grad for p in weights.network.parameters())
