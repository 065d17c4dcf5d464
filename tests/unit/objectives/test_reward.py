"""Losses of pairs: hand-computed values, mirrored pairs, ties without gradient, masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from mmalign.objectives.reward import bradley_terry, davidson, gaussian, rao_kupper
from mmalign.types import Loss
from tests.unit.objectives.by_hand import NAN, sigmoid, t


def with_ties(loss: Callable[..., Loss], **fixed: Any) -> Callable[..., Loss]:
    return lambda score_a, score_b, label: loss(
        score_a=score_a, score_b=score_b, label=label, tie=(label == 0.5).float(), **fixed
    )


def uncertain(method: Any, margin: float = 0.0) -> Callable[..., Loss]:
    spread = t(0.2)
    return lambda score_a, score_b, label: gaussian(
        mean_a=score_a, mean_b=score_b, log_std_a=spread, log_std_b=spread, label=label, method=method,
        margin=margin,
    )  # fmt: skip


PAIR_LOSSES = {
    "bradley_terry": bradley_terry,
    "margin": partial(bradley_terry, margin=0.5),
    "smoothed": partial(bradley_terry, label_smoothing=0.1),
    "rao_kupper": with_ties(rao_kupper),
    "davidson": with_ties(davidson, nu=0.7),
    "probit": uncertain("probit"),
    "mackay": uncertain("mackay"),
    "hermite": uncertain("hermite"),
    "hermite with a margin": uncertain("hermite", 0.57),
}


@pytest.mark.parametrize("loss", PAIR_LOSSES.values(), ids=PAIR_LOSSES)
def test_swapping_a_and_b_mirrors_the_loss(loss: Callable[..., Loss]) -> None:
    for p in (0.0, 0.3, 0.5, 1.0):
        there = loss(score_a=t(1.3), score_b=t(0.4), label=t(p)).per_sample
        back = loss(score_a=t(0.4), score_b=t(1.3), label=t(1 - p)).per_sample
        torch.testing.assert_close(there, back)


@pytest.mark.parametrize("loss", PAIR_LOSSES.values(), ids=PAIR_LOSSES)
def test_a_tie_at_equal_scores_has_no_gradient_and_a_win_pulls_apart(loss: Callable[..., Loss]) -> None:
    a = t(0.7).requires_grad_()
    loss(score_a=a, score_b=t(0.7), label=t(0.5)).per_sample.sum().backward()
    assert a.grad is not None and a.grad.item() == pytest.approx(0.0, abs=1e-6)
    a.grad = None
    loss(score_a=a, score_b=t(0.7), label=t(1.0)).per_sample.sum().backward()
    assert a.grad is not None and a.grad.item() < 0


def test_bradley_terry_by_hand() -> None:
    loss = bradley_terry(score_a=t(2.0, 1.0), score_b=t(1.0, 2.0), label=t(1.0, 0.75))
    assert loss.per_sample[0].item() == pytest.approx(-math.log(sigmoid(1)))
    expected = -0.75 * math.log(sigmoid(-1)) - 0.25 * math.log(sigmoid(1))
    assert loss.per_sample[1].item() == pytest.approx(expected)
    assert loss.metrics["accuracy"] == 0.5
    centred = bradley_terry(score_a=t(2.0), score_b=t(1.0), label=t(1.0), centre=0.01).per_sample
    assert centred.item() == pytest.approx(-math.log(sigmoid(1)) + 0.09)
    margin = bradley_terry(score_a=t(2.0), score_b=t(1.0), label=t(1.0), margin=0.4).per_sample
    assert margin.item() == pytest.approx(-math.log(sigmoid(0.6)))


def test_rao_kupper_outcomes_sum_to_one_and_tie_is_two_thirds_at_theta_five() -> None:
    for gap in (-1.0, 0.0, 2.5):
        outcomes = [
            rao_kupper(score_a=t(gap), score_b=t(0.0), label=t(p), tie=t(tie)).per_sample.neg().exp().item()
            for p, tie in ((1.0, 0.0), (0.0, 0.0), (NAN, 1.0))
        ]
        assert sum(outcomes) == pytest.approx(1.0, abs=1e-5)
        if gap == 0:
            assert outcomes[2] == pytest.approx(2 / 3)
    bare = rao_kupper(score_a=t(0.0), score_b=t(0.0), label=t(NAN), tie=t(1.0), constant=False).per_sample
    assert bare.item() == pytest.approx(-math.log(2 / 3) + math.log(24), rel=1e-5)
    with pytest.raises(ValueError, match="theta > 1"):
        rao_kupper(score_a=t(0.0), score_b=t(0.0), label=t(1.0), tie=t(0.0), theta=1.0)


def test_davidson_outcomes_sum_to_one() -> None:
    outcomes = [
        davidson(score_a=t(1.0), score_b=t(0.0), label=t(p), tie=t(tie), nu=0.5).per_sample.neg().exp().item()
        for p, tie in ((1.0, 0.0), (0.0, 0.0), (NAN, 1.0))
    ]
    whole = math.exp(0.5) + math.exp(-0.5) + 0.5
    assert outcomes == pytest.approx([math.exp(0.5) / whole, math.exp(-0.5) / whole, 0.5 / whole])


@pytest.mark.parametrize(("loss", "fixed"), [(rao_kupper, {"theta": 3.0}), (davidson, {"nu": 0.8})])
def test_shares_of_ties_are_a_cross_entropy_of_three_answers(loss: Callable[..., Loss], fixed: Any) -> None:
    def log_of(p: float, tie: float) -> float:
        return -loss(score_a=t(0.9), score_b=t(0.2), label=t(p), tie=t(tie), **fixed).per_sample.item()

    a, b, tie = log_of(1.0, 0.0), log_of(0.0, 0.0), log_of(0.5, 1.0)
    assert math.exp(a) + math.exp(b) + math.exp(tie) == pytest.approx(1.0, abs=1e-5)
    shares = (0.5, 0.2, 0.3)
    expected = shares[0] * a + shares[1] * b + shares[2] * tie
    assert log_of(shares[0] + shares[2] / 2, shares[2]) == pytest.approx(expected, rel=1e-5)
    assert log_of(0.7, 0.0) == pytest.approx(
        0.7 * a + 0.3 * b, rel=1e-5
    )  # a soft label without ties, as ever
    options = {"score_a": t(0.9), "score_b": t(0.2), **fixed}
    swapped = loss(score_a=t(0.2), score_b=t(0.9), label=t(1 - 0.65), tie=t(0.3), **fixed)
    there = loss(**options, label=t(0.65), tie=t(0.3))
    torch.testing.assert_close(there.per_sample, swapped.per_sample)
    assert there.metrics["accuracy"] == swapped.metrics["accuracy"] == 1
    with pytest.raises(ValueError, match="t / 2"):
        loss(**options, label=t(0.9), tie=t(0.4))


@pytest.mark.parametrize(("loss", "name"), [(rao_kupper, "theta"), (davidson, "nu")])
def test_shares_of_ties_are_learned_as_they_are(loss: Callable[..., Loss], name: str) -> None:
    raw, gap = torch.zeros((), requires_grad=True), torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([raw, gap], max_iter=200, line_search_fn="strong_wolfe")

    def value() -> Tensor:
        wide = {name: 1 + torch.nn.functional.softplus(raw) if name == "theta" else raw.exp()}
        return loss(score_a=gap[None], score_b=t(0.0), label=t(0.65), tie=t(0.3), **wide).per_sample.sum()

    def closure() -> Tensor:
        optimizer.zero_grad()
        value().backward()
        return value()

    optimizer.step(closure)
    entropy = -sum(p * math.log(p) for p in (0.5, 0.2, 0.3))
    assert value().item() == pytest.approx(entropy, abs=1e-4) and gap > 0


@pytest.mark.parametrize("learned", ["theta", "nu"])
def test_the_tie_parameter_can_be_learned(learned: str) -> None:
    raw = torch.zeros((), requires_grad=True)
    options: dict[str, Any] = {"score_a": t(0.1), "score_b": t(0.0), "label": t(NAN), "tie": t(1.0)}
    if learned == "theta":
        loss = rao_kupper(**options, theta=1 + torch.nn.functional.softplus(raw))
    else:
        loss = davidson(**options, nu=raw.exp())
    loss.per_sample.sum().backward()
    assert raw.grad is not None and raw.grad < 0  # more ties become likelier


def test_uncertainty_methods_agree_where_they_should() -> None:
    options: dict[str, Any] = {"mean_a": t(1.0), "mean_b": t(0.2), "label": t(1.0)}
    certain = {"log_std_a": t(-6.0), "log_std_b": t(-6.0)}
    plain = bradley_terry(score_a=t(1.0), score_b=t(0.2), label=t(1.0)).per_sample
    torch.testing.assert_close(
        gaussian(**options, **certain, method="hermite").per_sample, plain, atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        gaussian(**options, **certain, method="mackay").per_sample, plain, atol=1e-4, rtol=0
    )
    ahead = bradley_terry(score_a=t(1.0), score_b=t(0.2), label=t(1.0), margin=0.57).per_sample
    for method in ("hermite", "mackay"):
        apart = gaussian(**options, **certain, method=method, margin=0.57).per_sample  # type: ignore[arg-type]
        torch.testing.assert_close(apart, ahead, atol=1e-4, rtol=0)
    wide = {"log_std_a": t(0.0), "log_std_b": t(0.5)}
    exact = gaussian(**options, **wide, method="hermite").per_sample.item()
    generator = torch.Generator().manual_seed(0)
    drawn = gaussian(**options, **wide, method="monte_carlo", num_points=200_000, generator=generator)
    assert drawn.per_sample.item() == pytest.approx(exact, abs=0.01)
    variance = 1 + math.exp(1.0)
    probit = gaussian(**options, **wide, method="probit").per_sample.item()
    assert probit == pytest.approx(-math.log(0.5 * math.erfc(-0.8 / math.sqrt(2 * (variance + 1)))), rel=1e-5)
    mackay = gaussian(**options, **wide, method="mackay").per_sample.item()
    assert mackay == pytest.approx(-math.log(sigmoid(0.8 / math.sqrt(1 + math.pi * variance / 8))), rel=1e-5)
    probit = gaussian(**options, **wide, method="probit", margin=0.3).per_sample.item()
    assert probit == pytest.approx(-math.log(0.5 * math.erfc(-0.5 / math.sqrt(2 * (variance + 1)))), rel=1e-5)
    with pytest.raises(ValueError, match="use hermite"):
        gaussian(**options, **wide, method="guess")


def test_dimensions_are_summed_and_missing_labels_left_out() -> None:
    a, b = torch.tensor([[1.0, 5.0]], requires_grad=True), torch.zeros(1, 2)
    loss = bradley_terry(score_a=a, score_b=b, label=torch.tensor([[1.0, NAN]]))
    assert loss.per_sample.item() == pytest.approx(-math.log(sigmoid(1)))
    loss.per_sample.sum().backward()
    assert a.grad is not None and a.grad[0, 1] == 0 and a.grad.isfinite().all()
    masked = bradley_terry(score_a=a, score_b=b, label=torch.ones(1, 2), where=torch.tensor([[True, False]]))
    assert masked.per_sample.item() == pytest.approx(loss.per_sample.item())
    both = bradley_terry(score_a=a, score_b=b, label=torch.ones(1, 2))
    assert both.per_sample.item() == pytest.approx(-math.log(sigmoid(1)) - math.log(sigmoid(5)), rel=1e-5)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        bradley_terry(score_a=a, score_b=b, label=torch.full((1, 2), 2.0))


def test_a_batch_of_two_equals_two_batches_of_one() -> None:
    a, b, p = torch.rand(2, 3), torch.rand(2, 3), torch.tensor([[1.0, NAN, 0.5], [0.0, 0.2, NAN]])
    both = bradley_terry(score_a=a, score_b=b, label=p).per_sample
    alone = [
        bradley_terry(score_a=a[i : i + 1], score_b=b[i : i + 1], label=p[i : i + 1]).per_sample
        for i in (0, 1)
    ]
    torch.testing.assert_close(both, torch.cat(alone))


def test_extreme_scores_stay_finite() -> None:
    a = t(1e4, -1e4).requires_grad_()
    for loss in PAIR_LOSSES.values():
        a.grad = None
        value = loss(score_a=a, score_b=t(0.0, 0.0), label=t(0.0, 1.0)).per_sample
        value.sum().backward()
        assert value.isfinite().all() and a.grad is not None and a.grad.isfinite().all()
