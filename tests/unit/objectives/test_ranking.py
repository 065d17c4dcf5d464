"""Losses of lists: by hand, of two a loss of pairs, ties without gradient."""

from __future__ import annotations

import math

import pytest
import torch

from mmalign.objectives.ranking import all_pairs, choice, plackett_luce
from mmalign.objectives.reward import bradley_terry
from tests.unit.objectives.by_hand import NAN, t


def test_plackett_luce_by_hand() -> None:
    scores, ranks = torch.tensor([[2.0, 0.5, 1.0]]), torch.tensor([[1.0, 3.0, 2.0]])
    powers = [math.exp(x) for x in (2.0, 1.0, 0.5)]
    expected = -math.log(powers[0] / sum(powers)) - math.log(powers[1] / (powers[1] + powers[2]))
    loss = plackett_luce(scores=scores, ranks=ranks)
    assert loss.per_sample.item() == pytest.approx(expected, rel=1e-5)
    assert loss.metrics["accuracy"] == 1
    order = torch.tensor([2, 0, 1])
    assert plackett_luce(scores=scores[:, order], ranks=ranks[:, order]).per_sample.item() == pytest.approx(
        expected
    )


def test_plackett_luce_of_two_is_bradley_terry_and_ties_have_no_gradient() -> None:
    loss = plackett_luce(scores=torch.tensor([[0.3, 1.1]]), ranks=torch.tensor([[1, 2]]))
    pair = bradley_terry(score_a=t(0.3), score_b=t(1.1), label=t(1.0))
    torch.testing.assert_close(loss.per_sample, pair.per_sample)
    scores = torch.zeros(1, 3, requires_grad=True)
    plackett_luce(scores=scores, ranks=torch.ones(1, 3)).per_sample.sum().backward()
    assert scores.grad is not None and scores.grad.abs().max() < 1e-6


def test_equal_scores_are_half_right_whoever_stands_first() -> None:
    for ranks in ([[1.0, 2.0]], [[2.0, 1.0]]):
        for loss in (plackett_luce, all_pairs):
            assert loss(scores=torch.zeros(1, 2), ranks=torch.tensor(ranks)).metrics["accuracy"] == 0.5


def test_plackett_luce_skips_the_unranked() -> None:
    scores = torch.tensor([[0.3, 9.0, 1.1]], requires_grad=True)
    loss = plackett_luce(scores=scores, ranks=torch.tensor([[1.0, NAN, 2.0]]))
    pair = plackett_luce(scores=scores[:, [0, 2]], ranks=torch.tensor([[1.0, 2.0]]))
    torch.testing.assert_close(loss.per_sample, pair.per_sample)
    loss.per_sample.sum().backward()
    assert scores.grad is not None and scores.grad[0, 1] == 0 and scores.grad.isfinite().all()


def test_choice_is_a_cross_entropy() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    loss = choice(scores=scores, target=torch.tensor([[0.0, 2.0, 2.0], [0.0, 0.0, 0.0]]))
    logs = scores[0].log_softmax(dim=0)
    assert loss.per_sample[0].item() == pytest.approx(-(0.5 * logs[1] + 0.5 * logs[2]).item())
    assert loss.per_sample[1] == 0
