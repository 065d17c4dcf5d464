"""Losses of ratings and levels, by hand and with ratings missing."""

from __future__ import annotations

import math

import pytest
import torch

from mmalign.objectives.ordinal import binary, coral, corn, corn_survival, regression
from tests.unit.objectives.by_hand import NAN, sigmoid, t


def test_regression_masks_missing_ratings() -> None:
    score, target = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, NAN]])
    assert regression(score=score, target=target, centre=2.5).per_sample.item() == pytest.approx(0.25)
    huber = regression(score=score, target=target, kind="huber", delta=1.0)
    assert huber.per_sample.item() == pytest.approx(2.5)


def test_good_or_bad_by_hand() -> None:
    score = torch.tensor([[0.4, -1.0], [2.0, 3.0]])
    made = binary(score=score, target=torch.tensor([[1.0, 0.25], [0.0, NAN]]))
    soft = -0.25 * math.log(sigmoid(-1)) - 0.75 * math.log(sigmoid(1))
    expected = [-math.log(sigmoid(0.4)) + soft, -math.log(sigmoid(-2))]
    assert made.per_sample.tolist() == pytest.approx(expected, rel=1e-5)
    assert made.metrics["accuracy"].item() == pytest.approx(2 / 3)
    published = binary(score=t(0.4), target=t(1.0), label_smoothing=0.05).per_sample  # their e = 0.1
    assert published.item() == pytest.approx(
        -0.95 * math.log(sigmoid(0.4)) - 0.05 * math.log(sigmoid(-0.4)), rel=1e-5
    )
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        binary(score=t(0.0), target=t(2.0))


def test_good_items_are_pulled_up_bad_ones_down_and_exchanging_the_words_mirrors_the_loss() -> None:
    score = t(0.0, 0.0, 0.0, 5.0).requires_grad_()
    made = binary(score=score, target=t(1.0, 0.0, 0.5, NAN))
    made.per_sample.sum().backward()
    assert score.grad is not None and score.grad.tolist() == [-0.5, 0.5, 0.0, 0.0]
    mirrored = binary(score=-score, target=t(0.0, 1.0, 0.5, NAN))
    torch.testing.assert_close(made.per_sample, mirrored.per_sample)


def test_corn_by_hand() -> None:
    logits = torch.tensor([[0.4, -0.3], [0.4, -0.3], [0.4, -0.3], [0.4, -0.3]])
    loss = corn(logits=logits, target=torch.tensor([0, 1, 2, -1]))
    first, second = sigmoid(0.4), sigmoid(-0.3)
    expected = [
        -math.log(1 - first),
        -math.log(first) - math.log(1 - second),
        -math.log(first) - math.log(second),
        0.0,
    ]
    assert loss.per_sample.tolist() == pytest.approx(expected, abs=1e-6)
    assert corn_survival(logits)[0].tolist() == pytest.approx([first, first * second])


def test_coral_by_hand() -> None:
    loss = coral(score=t(0.5), biases=t(1.0, -1.0), target=torch.tensor([1]))
    assert loss.per_sample.item() == pytest.approx(
        -math.log(sigmoid(1.5)) - math.log(1 - sigmoid(-0.5)), rel=1e-5
    )
