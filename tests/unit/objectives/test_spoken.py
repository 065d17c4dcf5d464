"""Rewards and losses of verdicts against closed forms and numbers by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmalign.objectives.spoken import (
    answer_likelihood,
    answer_policy,
    first_token_weighted,
    out_scored,
    rule_reward,
    within_sigmas,
)

NAN = float("nan")


def test_rule_reward_by_hand() -> None:
    flags = {"readable": torch.tensor([1, 1, 1, 0]), "right": torch.tensor([1, 1, 0, 0])}
    assert rule_reward(**flags).tolist() == [1.5, 1.5, 0.5, 0.0]
    consistent = torch.tensor([1, 0, 1, 0])
    assert rule_reward(**flags, consistent=consistent).tolist() == [2.0, 1.5, 0.5, 0.0]
    with pytest.raises(ValueError, match="cannot be right"):
        rule_reward(readable=torch.tensor([0]), right=torch.tensor([1]))


def test_out_scored_by_hand() -> None:
    up, down = out_scored(winner=torch.tensor([[5.0, 3.0, NAN]]), loser=torch.tensor([[4.0, 3.0, 2.0]]))
    assert up.tolist() == [[1.0, pytest.approx(1 / 3), 0.0]]  # the unreadable one beats nobody
    assert down.tolist() == [[0.5, 0.5, 1.0]]  # it is no opponent either
    up, down = out_scored(winner=torch.tensor([[5.0]]), loser=torch.tensor([[NAN]]))
    assert torch.isnan(up).all() and down.tolist() == [[0.0]]


def test_out_scored_rewards_the_right_direction() -> None:
    """Raising a winner's mark never lowers its reward; raising a loser's never raises its."""
    marks = torch.arange(10.0)
    up, _ = out_scored(winner=marks[None], loser=torch.tensor([[2.0, 5.0, 7.0]]))
    _, down = out_scored(winner=torch.tensor([[2.0, 5.0, 7.0]]), loser=marks[None])
    assert (
        bool((up.diff() >= 0).all()) and bool((down.diff() <= 0).all()) and up[0, -1] == 1 and down[0, 0] == 1
    )


def test_the_total_of_both_sides_is_the_share_of_won_meetings() -> None:
    streams = torch.Generator().manual_seed(0)
    winner, loser = (torch.randint(0, 10, (4, 6), generator=streams).float() for _ in range(2))
    up, down = out_scored(winner=winner, loser=loser)
    torch.testing.assert_close(up.mean(1), down.mean(1))


def test_advantages_beyond_three_sigmas_are_left_out() -> None:
    advantage = torch.cat([torch.tensor([1.0, -1.0] * 20), torch.tensor([30.0, NAN])])
    kept = within_sigmas(advantage)
    assert torch.isnan(kept[-2:]).all() and torch.isfinite(kept[:-2]).all()
    known = advantage[:-1]
    expected = (advantage[:-2] - known.mean()) / known.std(correction=0)
    torch.testing.assert_close(kept[:-2], expected)
    assert within_sigmas(torch.zeros(3)).tolist() == [0, 0, 0]
    assert torch.isnan(within_sigmas(torch.full((2,), NAN))).all()


def ratio_loss(ratio: float, advantage: float, **options: object) -> tuple[float, float]:
    """Loss and its derivative by the log-probability, for one token."""
    log_prob = torch.tensor([[math.log(ratio)]], requires_grad=True)
    made = answer_policy(
        log_prob=log_prob, old_log_prob=torch.zeros(1, 1), advantage=torch.tensor([advantage]), **options
    )  # type: ignore[arg-type]
    made.per_sample.sum().backward()
    assert log_prob.grad is not None
    return float(made.per_sample), float(log_prob.grad)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.1, 2.0, -2.2, -2.2),
        (1.5, 2.0, -2.4, 0.0),
        (0.5, 2.0, -1.0, -1.0),
        (1.5, -2.0, 3.0, 3.0),
        (0.5, -2.0, 1.6, 0.0),
    ],
)
def test_the_clipped_surrogate_by_hand(ratio: float, advantage: float, loss: float, slope: float) -> None:
    assert ratio_loss(ratio, advantage) == (pytest.approx(loss, rel=1e-5), pytest.approx(slope, rel=1e-5))


def test_pre_clip_holds_the_ratio_and_its_gradient() -> None:
    assert ratio_loss(1e5, -1.0)[0] == pytest.approx(1e5, rel=1e-4)
    assert ratio_loss(1e5, -1.0, pre_clip=(1e-3, 1e3)) == (pytest.approx(1e3, rel=1e-4), 0.0)
    assert ratio_loss(1e-5, 1.0, pre_clip=(1e-3, 1e3))[0] == pytest.approx(-1e-3, rel=1e-4)
    log_prob = torch.full((1, 1), 200.0, requires_grad=True)
    made = answer_policy(
        log_prob=log_prob,
        old_log_prob=torch.zeros(1, 1),
        advantage=torch.tensor([-1.0]),
        pre_clip=(1e-3, 1e3),
    )
    assert bool(torch.isfinite(made.per_sample).all())


def test_an_answer_weighs_the_same_whatever_its_length() -> None:
    logs = torch.zeros(2, 4)
    where = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1]])
    made = answer_policy(log_prob=logs, old_log_prob=logs, advantage=torch.tensor([1.0, 1.0]), where=where)
    assert made.per_sample.tolist() == [-1.0, -1.0]


def test_unknown_advantages_have_no_loss_and_no_gradient() -> None:
    log_prob = torch.zeros(2, 3, requires_grad=True)
    made = answer_policy(
        log_prob=log_prob, old_log_prob=torch.zeros(2, 3), advantage=torch.tensor([NAN, 1.0])
    )
    made.per_sample.sum().backward()
    assert made.per_sample[0] == 0 and log_prob.grad is not None and bool((log_prob.grad[0] == 0).all())
    assert bool((log_prob.grad[1] != 0).any())


def test_the_divergence_is_zero_at_the_reference_and_by_hand_beside_it() -> None:
    def loss(reference: float) -> float:
        made = answer_policy(
            log_prob=torch.zeros(1, 1), old_log_prob=torch.zeros(1, 1), advantage=torch.zeros(1),
            reference_log_prob=torch.tensor([[reference]]), kl=0.5,
        )  # fmt: skip
        return float(made.per_sample)

    assert loss(0.0) == 0.0
    assert loss(0.3) == pytest.approx(0.5 * (math.exp(0.3) - 1.3), rel=1e-5)


def test_the_likelihood_of_an_answer_is_the_mean_over_its_tokens() -> None:
    logs = torch.tensor([[-1.0, -2.0, -6.0], [-1.0, 9.0, NAN]], requires_grad=True)
    where = torch.tensor([[1, 1, 1], [1, 0, 0]])
    made = answer_likelihood(log_prob=logs, where=where).per_sample
    made.sum().backward()
    assert made.tolist() == [3.0, 1.0] and logs.grad is not None
    torch.testing.assert_close(logs.grad, torch.tensor([[-1 / 3] * 3, [-1.0, 0.0, 0.0]]))


def test_shares_of_first_token_and_rest() -> None:
    logs = torch.tensor([[-1.0, -2.0, -4.0], [-1.0, -2.0, 9.0], [-1.0, 9.0, 9.0]])
    where = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]])
    ours = first_token_weighted(log_prob=logs, where=where, share=0.1).per_sample
    assert ours.tolist() == pytest.approx([0.1 * 1 + 0.9 * 3, 0.1 * 1 + 0.9 * 2, 1.0])
    theirs = first_token_weighted(log_prob=logs, where=where, share=0.1, published=True).per_sample
    assert theirs.tolist() == pytest.approx([0.1 / 3 + 0.9 * 3, 0.1 / 2 + 0.9 * 2, 0.0])


def test_published_weights_are_those_of_the_formula() -> None:
    """n (1 - a) / (n - 1) on the later tokens, a on the first, all divided by n."""
    n, share = 5, 0.1
    weights = torch.tensor([share] + [n * (1 - share) / (n - 1)] * (n - 1)) / n
    logs: Tensor = -torch.rand(1, n, generator=torch.Generator().manual_seed(0))
    made = first_token_weighted(log_prob=logs, share=share, published=True).per_sample
    torch.testing.assert_close(made, -(logs * weights).sum(1))
