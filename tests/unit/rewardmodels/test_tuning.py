"""What is trained and what is not: adapters, special rows, the vision tower; merging; recomputed activations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import rewardmodels
from mmalign.types import Sample
from rewardmodels.model_recipe import Model
from rewardmodels.reading import read_samples
from rewardmodels.tuning import merged, tune
from rewardmodels.vlm import VlmReward
from tests.unit.rewardmodels.tiny import SIZES, tiny_family


def tuned(**fields: Any) -> VlmReward:
    settings = Model.model_validate({"name": "tiny", "scratch": SIZES, **fields}, strict=False)
    reward = tiny_family("mlp").train()
    tune(reward, settings)
    return reward


def samples() -> list[Sample]:
    draws = torch.Generator().manual_seed(0)
    return [Sample(text, torch.rand(3, 32, 32, generator=draws)) for text in ("a red circle", "two squares")]


def step(reward: VlmReward, lr: float = 0.05) -> None:
    """One step that raises the first score above the second."""
    trained = [p for p in reward.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=lr)
    for _ in range(2):  # the first moves only B of an adapter, whose A has no gradient while B is zero
        optimizer.zero_grad()
        values = read_samples(reward, samples()).values[:, 0]
        (values[1] - values[0]).backward()
        optimizer.step()


def test_everything_is_trained_unless_told() -> None:
    reward = tuned()
    assert all(p.requires_grad for name, p in reward.named_parameters() if "lm_head" not in name)
    frozen = tuned(vision="frozen")
    for name, parameter in frozen.named_parameters():
        assert parameter.requires_grad == (".visual." not in name), name


def test_adapters_start_as_nothing_move_alone_and_are_saved_as_plain_weights(tmp_path: Path) -> None:
    before = tiny_family("mlp")(samples=samples()).overall
    reward = tuned(weights="lora", vision="frozen", lora={"rank": 2, "alpha": 4.0})
    assert torch.equal(reward.eval()(samples=samples()).overall, before)
    kept = {name: p.detach().clone() for name, p in reward.named_parameters() if not p.requires_grad}
    trained = [name for name, p in reward.named_parameters() if p.requires_grad]
    assert all("lora_" in name or name.startswith("head.") for name in trained)
    assert not any(".visual." in name for name in trained) and len(trained) > 8
    step(reward)
    for name, parameter in reward.named_parameters():
        assert name not in kept or torch.equal(parameter, kept[name]), name
    apart = reward.eval()(samples=samples()).overall
    with merged(reward) as model:
        scores = model(samples=samples()).overall
        model.save(tmp_path)
    loaded = rewardmodels.load(str(tmp_path))
    assert torch.equal(loaded(samples=samples()).overall, scores)
    torch.testing.assert_close(scores, apart, atol=1e-4, rtol=0)
    assert not torch.allclose(scores, before, atol=1e-4)
    for name, parameter in reward.named_parameters():
        assert name not in kept or torch.equal(parameter, kept[name]), name


def test_only_the_rows_of_special_tokens_move(tmp_path: Path) -> None:
    reward = tuned(embeddings="special")
    table = reward.vlm.get_input_embeddings().weight
    before = table.detach().clone()
    token = reward.builder.tokenizer.convert_tokens_to_ids("<|Reward|>")
    step(reward)
    assert torch.equal(table, before)
    scores = reward.eval()(samples=samples()).overall
    with merged(reward) as model:
        assert torch.equal(model(samples=samples()).overall, scores)
        model.save(tmp_path)
    changed = (rewardmodels.load(str(tmp_path)).vlm.get_input_embeddings().weight != before).any(1)  # type: ignore[attr-defined]
    assert changed.nonzero().flatten().tolist() == [token]
    assert torch.equal(rewardmodels.load(str(tmp_path))(samples=samples()).overall, scores)
    assert torch.equal(table, before)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable")
def test_recomputed_activations_give_the_same_gradients() -> None:
    plain, thrifty = tuned(), tuned(checkpointing=True)
    for reward in (plain, thrifty):
        read_samples(reward, samples()).values.sum().backward()
    assert any(getattr(module, "gradient_checkpointing", False) for module in thrifty.modules())
    for (name, one), other in zip(plain.named_parameters(), thrifty.parameters(), strict=True):
        if one.grad is not None:
            assert other.grad is not None
            torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4, msg=name)
