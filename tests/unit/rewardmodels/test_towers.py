"""Towers that read equal pictures once: stock numbers and gradients from fewer patches, never a wrong picture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rewardmodels.clips import Clip
from rewardmodels.towers import SHARING, equal_pictures
from rewardmodels.vlm import VlmReward
from tests.unit.rewardmodels.tiny_vlms import tiny_reward_of, tiny_vlm


def picture(seed: int, side: int = 56) -> Tensor:
    """(1, 3, H, W)."""
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


def clip(seed: int) -> Clip:
    """Two seconds at two frames a second."""
    frames = torch.rand(4, 3, 56, 56, generator=torch.Generator().manual_seed(seed))
    return Clip(frames, (0.0, 0.5, 1.0, 1.5), 0.5)


def watched(reward: VlmReward) -> list[int]:
    """How many patches the tower computes, by forward pass."""
    seen: list[int] = []
    reward.vlm.model.visual.patch_embed.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    return seen


@pytest.mark.parametrize("kind", SHARING)
@pytest.mark.parametrize("what", ["pictures of two sizes", "clips"])
def test_repeated_media_are_read_once_with_the_stock_hidden_states(kind: str, what: str) -> None:
    reward = tiny_reward_of(kind)
    seen = watched(reward)
    distinct = [clip(0), clip(1)] if what == "clips" else [picture(0), picture(1, 84), picture(2)]
    media = [distinct[i] for i in ([1, 0, 1, 0] if what == "clips" else [1, 0, 2, 0, 1, 2])]
    inputs = reward.builder([f"a red circle {i}" for i in range(len(media))], media)
    with torch.no_grad():
        mine = reward.see(inputs).layers[-1]
        alone = reward.builder(["x"] * len(distinct), distinct)
        reward.see(alone)
        plain = tiny_vlm(kind)[0]
        plain.load_state_dict(reward.vlm.state_dict())
        stock = plain.model(**inputs.model_arguments(), use_cache=False).last_hidden_state
    real = inputs.attention_mask.bool()
    torch.testing.assert_close(mine[real], stock[real], rtol=1e-5, atol=1e-5)
    assert seen[0] == seen[1], "only the different ones were computed"


@pytest.mark.parametrize("kind", SHARING)
def test_gradients_of_the_tower_count_every_use(kind: str) -> None:
    reward = tiny_reward_of(kind).requires_grad_(True)
    prompts, one, other = ["a red circle", "two squares", "a blue star"], picture(0), picture(1)
    mine = gradient(reward, reward.builder(prompts, [one, one, other]))
    parts = [
        gradient(reward, reward.builder([p], [m])) for p, m in zip(prompts, [one, one, other], strict=True)
    ]
    torch.testing.assert_close(mine, sum(parts), rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]
    assert mine.abs().sum() > 0


def gradient(reward: VlmReward, inputs: Any) -> Tensor:
    """Of the summed scores, for the first weights of the tower."""
    weight = next(reward.vlm.model.visual.parameters())
    return torch.autograd.grad(reward.raw(inputs).sum(), weight)[0]


def test_pixels_that_want_gradients_keep_their_own() -> None:
    reward = tiny_reward_of("qwen3_vl")
    first, second = picture(0).requires_grad_(), picture(0).requires_grad_()
    scores = reward.raw(reward.builder(["a red circle", "a blue star"], [first, second]))
    one, two = torch.autograd.grad(scores.sum(), [first, second])
    assert one.abs().sum() > 0 and two.abs().sum() > 0 and not torch.equal(one, two)


def test_one_changed_value_is_another_picture() -> None:
    patches = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)).repeat(3, 1)
    grid = torch.tensor([[1, 2, 2]] * 3)
    assert equal_pictures(patches, grid) == [0, 0, 0]
    patches[11, 5] = torch.nextafter(patches[11, 5], torch.tensor(2.0))
    assert equal_pictures(patches, grid) in ([0, 0, 2], None)
    patches[11, 5] += 0.01
    assert equal_pictures(patches, grid) == [0, 0, 2]
    assert equal_pictures(patches, torch.tensor([[1, 2, 2], [1, 4, 1], [1, 2, 2]])) is None, "shapes differ"


def test_sums_that_agree_by_chance_are_looked_up() -> None:
    """Patches with the same weighted sum but other values: nothing is shared."""
    weights = torch.rand(2, generator=torch.Generator().manual_seed(0))
    a = torch.tensor([[0.0, 0.0]])
    b = torch.tensor([[float(weights[1]), -float(weights[0])]])
    assert float((b * weights).sum()) == 0.0
    assert equal_pictures(torch.cat([a, b]), torch.tensor([[1, 1, 1]] * 2)) is None
