"""Advantages and reward transforms, with hand-computed numbers and failed judgements."""

from __future__ import annotations

import math

import pytest
import torch

from mmalign.objectives.advantages import combined_advantages, group_advantages, whiten
from mmalign.objectives.shaping import clip_rewards, log_sigmoid, log_tame, rank_rewards

NAN = math.nan
REWARDS = torch.tensor([1.0, 3.0, 2.0, 4.0, 6.0, 8.0])
GROUPS = torch.tensor([7, 7, 7, 2, 2, 2])


def test_group_scale_by_hand() -> None:
    std = math.sqrt(2 / 3)
    expected = [-1 / std, 1 / std, 0.0, -2 / (2 * std), 0.0, 2 / (2 * std)]
    assert group_advantages(REWARDS, GROUPS, eps=0.0).tolist() == pytest.approx(expected)
    unbiased = group_advantages(REWARDS, GROUPS, eps=0.0, unbiased=True)
    assert unbiased.tolist() == pytest.approx([-1.0, 1.0, 0.0, -1.0, 0.0, 1.0])


def test_global_scale_divides_by_the_batch_std() -> None:
    std = REWARDS.double().std(unbiased=False).item()
    advantages = group_advantages(REWARDS, GROUPS, scale="global", eps=1e-4)
    assert advantages.tolist() == pytest.approx([x / (std + 1e-4) for x in (-1, 1, 0, -2, 0, 2)])
    assert group_advantages(REWARDS, GROUPS, scale="none").tolist() == [-1, 1, 0, -2, 0, 2]


def test_order_does_not_matter() -> None:
    order = torch.tensor([5, 0, 3, 2, 4, 1])
    for scale in ("group", "global", "none"):
        together = group_advantages(REWARDS, GROUPS, scale=scale)
        torch.testing.assert_close(
            group_advantages(REWARDS[order], GROUPS[order], scale=scale), together[order]
        )


@pytest.mark.parametrize("scale", ["group", "global", "none"])
def test_failed_judgements_have_no_say(scale: str) -> None:
    rewards = torch.tensor([1.0, NAN, 3.0, NAN, 5.0])
    groups = torch.tensor([0, 0, 0, 1, 2])
    advantages = group_advantages(rewards, groups, scale=scale)  # type: ignore[arg-type]
    kept = group_advantages(rewards[[0, 2, 4]], groups[[0, 2, 4]], scale=scale)  # type: ignore[arg-type]
    torch.testing.assert_close(advantages[[0, 2, 4]], kept)
    assert advantages[1] == 0 and advantages[3] == 0 and advantages[4] == 0


def test_groups_without_spread_have_no_advantage_even_without_eps() -> None:
    rewards = torch.tensor([0.1, 0.1, 0.1, 1e8, 1e8 + 64])
    advantages = group_advantages(rewards, torch.tensor([0, 0, 0, 1, 1]), eps=0.0)
    assert advantages[:3].tolist() == [0, 0, 0]
    assert advantages[3:].tolist() == [-1, 1]


def test_clip() -> None:
    rewards = torch.tensor([0.0] * 99 + [1.0])
    assert group_advantages(rewards, torch.zeros(100, dtype=torch.long), clip=5.0).max() == 5


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"\(B,\)"):
        group_advantages(REWARDS[:2], GROUPS)
    with pytest.raises(ValueError, match="use group, global or none"):
        group_advantages(REWARDS, GROUPS, scale="batch")  # type: ignore[arg-type]


def test_several_rewards() -> None:
    both = torch.stack([REWARDS, 100 * REWARDS.flip(0)], dim=1)
    total = combined_advantages(both, GROUPS, weights=[1.0, 0.5])
    torch.testing.assert_close(total, group_advantages(both[:, 0] + 0.5 * both[:, 1], GROUPS))
    scaled = combined_advantages(both, GROUPS, weights=[1.0, 0.5], rule="zscore")
    parts = [group_advantages(column, GROUPS) for column in both.unbind(dim=1)]
    torch.testing.assert_close(scaled, parts[0] + 0.5 * parts[1])
    with pytest.raises(ValueError, match="1 weights for 2 rewards"):
        combined_advantages(both, GROUPS, weights=[1.0])
    with pytest.raises(ValueError, match="use sum, zscore or gdpo"):
        combined_advantages(both, GROUPS, rule="max")  # type: ignore[arg-type]


def test_gdpo_with_one_reward_is_zscore_then_whitening() -> None:
    advantages = combined_advantages(REWARDS[:, None], GROUPS, rule="gdpo")
    expected = whiten(group_advantages(REWARDS, GROUPS, unbiased=True))
    torch.testing.assert_close(advantages, expected)
    assert advantages.std().item() == pytest.approx(1, abs=1e-3)


def test_a_sample_that_one_reward_could_not_judge_is_left_out_by_all() -> None:
    both = torch.stack([REWARDS, REWARDS], dim=1)
    both[1, 1] = NAN
    for rule in ("sum", "zscore", "gdpo"):
        advantages = combined_advantages(both, GROUPS, rule=rule)  # type: ignore[arg-type]
        kept = torch.tensor([0, 2, 3, 4, 5])
        assert advantages[1] == 0
        torch.testing.assert_close(advantages[kept], combined_advantages(both[kept], GROUPS[kept], rule=rule))  # type: ignore[arg-type]
    ignored = combined_advantages(both, GROUPS, weights=[1.0, 0.0])
    torch.testing.assert_close(ignored, group_advantages(REWARDS, GROUPS))


def test_rank_and_clip_and_log_sigmoid() -> None:
    ranks = rank_rewards(torch.tensor([5.0, 1.0, 1.0, NAN, 9.0]), torch.tensor([0, 0, 0, 0, 1]))
    assert ranks[[0, 1, 2, 4]].tolist() == [1.0, 0.25, 0.25, 0.5] and ranks[3].isnan()
    assert clip_rewards(torch.tensor([-9.0, 9.0]), low=-1, high=2).tolist() == [-1, 2]
    assert log_sigmoid(torch.tensor([0.3]), reference=0.3).item() == pytest.approx(-math.log(2))


def test_log_tame_tames_the_wild_reward_only() -> None:
    rewards = torch.tensor([[1.0, 0.0], [1.1, 9.0], [NAN, 0.0]])
    tamed = log_tame(rewards)
    assert tamed[1].tolist() == pytest.approx([1.1, math.log(10)])
    assert tamed[2, 0].isnan()
    with pytest.raises(ValueError, match="above -1"):
        log_tame(torch.tensor([[5.0], [-3.0]]), threshold=0.1)
