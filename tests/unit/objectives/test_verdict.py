"""Yes-or-no losses, corrected labels and all pairs of a list: by hand, mirrored, and with the right sign."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmalign.objectives.ordinal import coral, thresholds
from mmalign.objectives.ranking import all_pairs, plackett_luce
from mmalign.objectives.reward import bradley_terry
from mmalign.objectives.verdict import yes_pair, yes_point


def t(*values: float) -> Tensor:
    return torch.tensor(values)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_margin_form_is_bradley_terry_on_logits() -> None:
    made = yes_pair(logit_a=t(1.3), logit_b=t(-0.2), label=t(0.8)).per_sample
    torch.testing.assert_close(made, bradley_terry(score_a=t(1.3), score_b=t(-0.2), label=t(0.8)).per_sample)


def test_the_probability_form_and_its_anchor_by_hand() -> None:
    gap = sigmoid(1.0) - sigmoid(-1.0)
    plain = yes_pair(logit_a=t(1.0), logit_b=t(-1.0), label=t(1.0), on="probability", scale=2.0)
    assert plain.per_sample.item() == pytest.approx(-math.log(sigmoid(2 * gap)), rel=1e-5)
    assert plain.metrics["accuracy"] == 1 and plain.metrics["yes"] == 0.5
    anchored = yes_pair(logit_a=t(1.0), logit_b=t(-1.0), label=t(1.0), anchor=0.1).per_sample
    expected = -math.log(sigmoid(2.0)) - 0.1 * 2 * math.log(sigmoid(1.0))
    assert anchored.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("on", ["margin", "probability"])
def test_swapping_mirrors_and_the_winner_is_raised(on: str) -> None:
    a = t(0.3).requires_grad_()
    options = {"on": on, "anchor": 0.2}
    there = yes_pair(logit_a=a, logit_b=t(0.7), label=t(0.9), **options).per_sample  # type: ignore[arg-type]
    back = yes_pair(logit_a=t(0.7), logit_b=a, label=t(0.1), **options).per_sample  # type: ignore[arg-type]
    torch.testing.assert_close(there, back)
    there.sum().backward()
    assert a.grad is not None and a.grad < 0
    missing = yes_pair(logit_a=t(1.0), logit_b=t(0.0), label=t(math.nan), **options).per_sample  # type: ignore[arg-type]
    assert missing.item() == 0


def test_yes_to_single_samples_is_a_cross_entropy() -> None:
    made = yes_point(logit=t(0.5, 0.5, 9.0), target=t(1.0, 0.25, math.nan)).per_sample.tolist()
    p = sigmoid(0.5)
    assert made == pytest.approx([-math.log(p), -0.25 * math.log(p) - 0.75 * math.log(1 - p), 0.0], rel=1e-5)


def test_noisy_labels_are_corrected_in_the_likelihood() -> None:
    noisy = bradley_terry(score_a=t(2.0), score_b=t(0.0), label=t(1.0), label_noise=0.2).per_sample
    assert noisy.item() == pytest.approx(-math.log(0.8 * sigmoid(2) + 0.2 * sigmoid(-2)), rel=1e-5)
    a = t(-30.0).requires_grad_()
    bradley_terry(score_a=a, score_b=t(0.0), label=t(1.0), label_noise=0.2).per_sample.sum().backward()
    assert a.grad is not None and abs(float(a.grad)) < 1e-6  # plain Bradley-Terry pulls with 1
    with pytest.raises(ValueError, match="flipped labels"):
        bradley_terry(score_a=t(0.0), score_b=t(0.0), label=t(1.0), label_noise=0.5)


def test_noise_correction_finds_the_true_gap_and_smoothing_does_not() -> None:
    """Labels of a pair with true gap 1.5, of which 20 % are flipped: the corrected optimum is the true gap."""
    chance = 0.8 * sigmoid(1.5) + 0.2 * sigmoid(-1.5)

    def slope(gap: float, noise: float) -> float:
        a = t(gap).requires_grad_()
        bradley_terry(
            score_a=a, score_b=t(0.0), label=t(chance), label_noise=noise
        ).per_sample.sum().backward()
        return float(a.grad)  # type: ignore[arg-type]

    assert abs(slope(1.5, 0.2)) < 1e-6 < slope(1.5, 0.0)


def test_all_pairs_by_hand_and_its_kin() -> None:
    scores, ranks = torch.tensor([[2.0, 0.5, 1.0]]), torch.tensor([[1.0, 3.0, 2.0]])
    expected = -(math.log(sigmoid(1.5)) + math.log(sigmoid(1.0)) + math.log(sigmoid(0.5))) / 3
    made = all_pairs(scores=scores, ranks=ranks)
    assert made.per_sample.item() == pytest.approx(expected, rel=1e-5) and made.metrics["accuracy"] == 1
    two = {"scores": torch.tensor([[0.3, 1.1]]), "ranks": torch.tensor([[1.0, 2.0]])}
    torch.testing.assert_close(all_pairs(**two).per_sample, plackett_luce(**two).per_sample)
    part = all_pairs(scores=scores, ranks=torch.tensor([[1.0, math.nan, 2.0]])).per_sample
    assert part.item() == pytest.approx(-math.log(sigmoid(1.0)), rel=1e-5)
    flat = torch.zeros(1, 3, requires_grad=True)
    all_pairs(scores=flat, ranks=torch.ones(1, 3)).per_sample.sum().backward()
    assert flat.grad is not None and flat.grad.abs().max() < 1e-6


def test_thresholds_are_coral_with_the_biases_added() -> None:
    score, biases, target = t(0.5, -1.0), t(1.0, -1.0), torch.tensor([1, 2])
    one = coral(score=score, biases=biases, target=target).per_sample
    torch.testing.assert_close(one, thresholds(logits=score[:, None] + biases, target=target).per_sample)
