"""The DPO family and NPO, with hand-computed numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mmalign.objectives.dpo import dpo, margin_beta, npo


def t(*values: float) -> Tensor:
    return torch.tensor(values)


GOLDEN: dict[str, Any] = {
    "policy_winner": t(0.10),
    "policy_loser": t(0.14),
    "reference_winner": t(0.12),
    "reference_loser": t(0.13),
}


def test_golden_dpo() -> None:
    loss = dpo(**GOLDEN, beta=500.0)
    assert loss.per_sample.item() == pytest.approx(5.5293147e-4, rel=1e-4)
    assert loss.metrics["margin"].item() == pytest.approx(7.5, abs=1e-4)
    assert loss.metrics["accuracy"] == 1
    assert loss.metrics["winner_change"].item() == pytest.approx(-0.02)


def test_untrained_policy_is_log_two() -> None:
    same = {
        "policy_winner": t(0.1),
        "policy_loser": t(0.3),
        "reference_winner": t(0.1),
        "reference_loser": t(0.3),
    }
    loss = dpo(**same, beta=5000.0)
    assert loss.per_sample.item() == pytest.approx(math.log(2))
    assert loss.metrics["accuracy"] == 0.5


@pytest.mark.parametrize("variant", ["sigmoid", "robust", "ipo", "hinge"])
def test_npo_is_dpo_with_the_labels_turned(variant: Any) -> None:
    turned = {
        "policy_winner": GOLDEN["policy_loser"],
        "policy_loser": GOLDEN["policy_winner"],
        "reference_winner": GOLDEN["reference_loser"],
        "reference_loser": GOLDEN["reference_winner"],
    }
    kept = npo(**GOLDEN, beta=50.0, variant=variant, label_smoothing=0.1)
    assert torch.equal(
        kept.per_sample, dpo(**turned, beta=50.0, variant=variant, label_smoothing=0.1).per_sample
    )
    assert not torch.equal(kept.per_sample, dpo(**GOLDEN, beta=50.0, variant=variant).per_sample)


def test_gradient_lowers_the_winners_error_and_raises_the_losers() -> None:
    winner, loser = t(0.1).requires_grad_(), t(0.1).requires_grad_()
    dpo(
        policy_winner=winner, policy_loser=loser, reference_winner=t(0.1), reference_loser=t(0.1), beta=100.0
    ).per_sample.sum().backward()
    assert winner.grad is not None and loser.grad is not None
    assert winner.grad.item() == pytest.approx(25.0) and loser.grad.item() == pytest.approx(-25.0)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def value(**options: Any) -> float:
    """Loss of a pair with Dw - Dl = -0.03."""
    return dpo(**GOLDEN, **options).per_sample.item()


def test_variants_by_hand() -> None:
    m = 1.5  # beta 100
    assert value(beta=100.0, label_smoothing=0.1) == pytest.approx(
        -0.9 * log_sigmoid(m) - 0.1 * log_sigmoid(-m), rel=1e-5
    )
    robust = (-0.9 * log_sigmoid(m) + 0.1 * log_sigmoid(-m)) / 0.8
    assert value(beta=100.0, variant="robust", label_smoothing=0.1) == pytest.approx(robust, rel=1e-5)
    assert value(beta=100.0, variant="ipo") == pytest.approx((0.015 - 0.005) ** 2, rel=1e-4)
    assert value(beta=20.0, variant="hinge") == pytest.approx(0.7, rel=1e-5)
    assert value(beta=100.0, variant="hinge") == 0
    simpo = value(beta=100.0, variant="simpo", gamma=1.0)
    assert simpo == pytest.approx(-log_sigmoid(100 * 0.04 - 1.0), rel=1e-5)
    soft = value(beta=100.0, label=t(0.8))
    assert soft == pytest.approx(-0.8 * log_sigmoid(m) - 0.2 * log_sigmoid(-m), rel=1e-5)
    assert value(beta=100.0, variant="smpo", label=t(0.75)) == pytest.approx(-log_sigmoid(m / 2), rel=1e-5)


def test_anchor_and_penalty() -> None:
    assert value(beta=100.0, anchor=2.0) == pytest.approx(value(beta=100.0) + 0.2, rel=1e-5)
    assert value(beta=100.0, penalty=5.0) == pytest.approx(value(beta=100.0))  # the winner's error fell
    worse = {**GOLDEN, "policy_winner": t(0.13)}  # Dw = Dl = 0.01
    punished = dpo(**worse, beta=100.0, penalty=2.0).per_sample.item()
    assert punished == pytest.approx(-log_sigmoid(-50 * 2 * 0.01), rel=1e-4)


def test_beta_may_differ_by_pair() -> None:
    betas = margin_beta(t(0.0, 1e9), beta=100.0, weight=0.5)
    assert betas.tolist() == [100.0, 150.0]
    twice = {key: entry.repeat(2) for key, entry in GOLDEN.items()}
    loss = dpo(**twice, beta=betas)
    assert loss.per_sample[1].item() == pytest.approx(-log_sigmoid(2.25), rel=1e-4)


def test_unlabelled_pairs_are_excluded() -> None:
    twice = {key: entry.repeat(2).requires_grad_() for key, entry in GOLDEN.items()}
    loss = dpo(**twice, beta=10.0, label=t(math.nan, 1.0))
    assert loss.per_sample[0] == 0 and loss.per_sample[1] > 0
    loss.per_sample.sum().backward()
    assert twice["policy_winner"].grad[0] == 0 and twice["policy_winner"].grad[1] != 0
    masked = dpo(**twice, beta=10.0, where=torch.tensor([True, False]))
    assert masked.per_sample[1] == 0


def test_mistakes_name_the_mend() -> None:
    with pytest.raises(ValueError, match="errors under the reference"):
        dpo(policy_winner=t(0.1), policy_loser=t(0.1), beta=1.0)
    with pytest.raises(ValueError, match="needs label"):
        value(beta=1.0, variant="smpo")
    with pytest.raises(ValueError, match="share of wrong labels"):
        value(beta=1.0, label_smoothing=1.0)
    with pytest.raises(ValueError, match="use sigmoid"):
        value(beta=1.0, variant="other")
