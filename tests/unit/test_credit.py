"""Credit by hand: better samples earn more, unjudged and tied ones are left out, negative models turn it round."""

import pytest
import torch

from mmalign.config import Recipe
from mmalign.strict import validate
from mmalign.train import credit

NAN = float("nan")
GROUPS = torch.tensor([0, 0, 0, 1, 1, 1])
REWARDS = torch.tensor([1.0, 3.0, 2.0, 5.0, NAN, 4.0])


def _recipe(method, **changes):
    sde = {"kind": "flow", "noise": 0.7} if method["name"] == "grpo" else None
    base = {"model": {"path": "x"}, "rewards": [{"name": "a"}], "method": method, "rollout": {"sde": sde}}
    return validate(base | {"evaluation": {"guidance": 3.0}} | changes, Recipe)


def _close(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected), equal_nan=True, rtol=1e-3, atol=1e-3)


def test_advantages_are_group_z_scores():
    options = _recipe({"name": "grpo"}).method
    found = credit.advantages(REWARDS, GROUPS, options)
    _close(found, [-1.2247, 1.2247, 0.0, 1.0, NAN, -1.0])


def test_global_scale_divides_by_the_spread_of_all():
    options = _recipe({"name": "nft", "advantages": "global"}).method
    found = credit.advantages(REWARDS, GROUPS, options)
    spread = 2.0**0.5  # population std of 1, 3, 2, 5, 4
    _close(found, [-1 / spread, 1 / spread, 0.0, 0.5 / spread, NAN, -0.5 / spread])


def test_nft_may_learn_from_the_outermost_of_a_group_alone():
    options = _recipe({"name": "nft", "advantages": "group", "extremes": 1}).method
    _close(credit.advantages(REWARDS, GROUPS, options), [-1.2247, 1.2247, NAN, 1.0, NAN, -1.0])
    wide = _recipe({"name": "nft", "advantages": "group", "extremes": 9}).method
    _close(credit.advantages(REWARDS, GROUPS, wide), [-1.2247, 1.2247, 0.0, 1.0, NAN, -1.0])


def test_best_and_extremes():
    options = _recipe({"name": "sft"}).method
    _close(credit.best(REWARDS, GROUPS, options), [NAN, 1.0, NAN, 1.0, NAN, NAN])
    _close(credit.extremes(REWARDS, GROUPS, options), [-1.0, 1.0, NAN, 1.0, NAN, -1.0])


def test_weights_grow_with_the_reward_and_have_mean_one():
    options = _recipe({"name": "rwr", "temperature": 1.0, "max_weight": 100.0}).method
    found = credit.weights(REWARDS, GROUPS, options)
    assert found[1] > found[2] > found[0]
    assert torch.isnan(found[4])
    assert float(found.nansum()) == pytest.approx(5.0, rel=1e-5)


def test_ties_and_lone_survivors_teach_nothing():
    rewards = torch.tensor([2.0, 2.0, 2.0, 5.0, NAN, NAN])
    found = credit.without_ties(torch.ones(6), rewards, GROUPS)
    assert torch.isnan(found).all()
    _close(credit.without_ties(torch.ones(6), REWARDS, GROUPS), [1.0] * 6)


def test_a_negative_model_learns_from_turned_rewards():
    values = REWARDS[:, None]
    plain = credit.combined(values, REWARDS, GROUPS, _recipe({"name": "nft"}))
    turned = credit.combined(values, REWARDS, GROUPS, _recipe({"name": "nft", "negative": True}))
    _close(turned, (-plain).tolist())
    pairs = credit.combined(values, REWARDS, GROUPS, _recipe({"name": "npo"}))
    _close(pairs, REWARDS.tolist())  # npo turns the pair in its loss, not the rewards


def test_z_scores_forget_the_scale_of_a_reward():
    rewards = [{"name": "a"}, {"name": "b", "weight": 2.0}]
    recipe = _recipe({"name": "grpo"}, rewards=rewards, combine="zscore")
    small = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5], [0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    large = small * torch.tensor([1000.0, 1.0])
    overall = small.sum(dim=1)
    _close(
        credit.combined(small, overall, GROUPS, recipe),
        credit.combined(large, overall, GROUPS, recipe).tolist(),
    )
    assert credit.combined(small, overall, GROUPS, recipe)[0] > 0  # b weighs twice as much as a


def test_summary_counts():
    row = credit.summary(REWARDS, REWARDS[:, None], ("a",), GROUPS)
    assert row == {"reward": 3.0, "reward_std": pytest.approx(2**0.5), "kept_groups": 1.0, "not_judged": 1.0}
