"""Rules and scales of compositions, every one by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mmalign.arithmetic import apply_rule, apply_scale
from mmalign.composition import Reward
from mmalign.objectives import scaling
from mmalign.strict import validate

NAN = float("nan")
VALUES = torch.tensor([[0.2, 0.8], [1.0, 0.4], [0.5, 0.5], [NAN, 0.9]])
GROUPS = torch.tensor([0, 0, 1, 1])


def reward(data: dict[str, Any]) -> Reward:
    return validate(data, Reward)


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


def rule(given: Any, values: torch.Tensor = VALUES, weights: Sequence[float] = (1.0, 1.0)) -> list[float]:
    parts = [{"name": n, "weight": w} for n, w in zip("ab", weights, strict=True)]
    made = reward({"name": "x", "combine": given, "rewards": parts})
    return apply_rule(made.rule, values, weights, GROUPS, ["a", "b"]).tolist()


def scale(given: Any, scores: Sequence[float], variance: Sequence[float] | None = None) -> list[float]:
    (section,) = reward({"name": "x", "scale": given}).scale
    known = None if variance is None else torch.tensor(variance)
    return apply_scale(section, torch.tensor(scores), GROUPS[: len(scores)], known).tolist()


@pytest.mark.parametrize(
    "given, expected",
    [
        ("sum", [1.0, 1.4, 1.0]),
        ("mean", [0.5, 0.7, 0.5]),
        ("min", [0.2, 0.4, 0.5]),
        ({"name": "uwo", "strength": 0.5}, [0.5 - 0.5 * 0.09, 0.7 - 0.5 * 0.09, 0.5]),
        # FIRM's CME: execution * (0.6 + 0.4 * consistency)
        ({"name": "gate", "base": "a", "share": 0.6}, [0.2 * 0.92, 1.0 * 0.76, 0.5 * 0.8]),
        ({"name": "gate", "base": "b", "share": 0.4, "bonus": "min"}, [0.8 * 0.52, 0.4 * 1.0, 0.5 * 0.7]),
        ("geometric", [0.4, math.sqrt(0.4), 0.5]),
        ({"name": "confidence", "strength": 2.0}, [0.5 * math.exp(-0.18), 0.7 * math.exp(-0.18), 0.5]),
        # of group 0 the mean is 0.6; 0.5 and 0.7 are pulled to it
        (
            {"name": "confidence", "strength": 2.0, "center": "group"},
            [0.6 - 0.1 * math.exp(-0.18), 0.6 + 0.1 * math.exp(-0.18), 0.5],
        ),
        ({"name": "zscore", "eps": 0.0}, [0.0, 0.0, 0.0]),
    ],
)
def test_rules_by_hand_and_nan_stays(given: Any, expected: list[float]) -> None:
    made = rule(given)
    assert made[:3] == pytest.approx(expected, abs=1e-6)
    assert math.isnan(made[3])


def test_weights_count() -> None:
    assert rule("sum", weights=(2.0, -1.0))[0] == pytest.approx(-0.4)
    assert rule("mean", weights=(3.0, 1.0))[0] == pytest.approx(0.35)
    assert rule("geometric", weights=(3.0, 1.0))[0] == pytest.approx(0.2**0.75 * 0.8**0.25)


def test_a_gate_gives_nothing_for_copying_the_input() -> None:
    copied, half_done = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.6, 0.7]])
    gate = {"name": "gate", "base": "a"}
    assert rule("sum", copied) == [1.0] and rule(gate, copied) == [0.0]
    assert rule(gate, half_done)[0] > rule(gate, copied)[0]


def test_log_tame_only_touches_the_wild_part() -> None:
    values = torch.tensor([[1.0, 0.0], [1.1, 9.0], [0.9, 3.0], [NAN, 1e6]])
    made = rule("log_tame", values)
    assert made[:3] == pytest.approx([1.0, 1.1 + math.log(10), 0.9 + math.log(4)], abs=1e-5)
    assert math.isnan(made[3])


@pytest.mark.parametrize(
    "given, scores, expected",
    [
        ({"name": "affine", "mean": 1, "std": 4}, [1.0, 3.0, 5.0], [0.0, 0.5, 1.0]),
        ({"name": "clip", "low": 0, "high": 1}, [-2.0, 0.5, 7.0], [0.0, 0.5, 1.0]),
        ({"name": "sigmoid", "center": 1, "temperature": 2}, [1.0, 3.0], [0.5, 1 / (1 + math.exp(-1))]),
        ({"name": "percentile", "quantiles": [0, 2, 3]}, [-5.0, 1.0, 2.5, 9.0], [0.0, 0.25, 0.75, 1.0]),
        ({"name": "log_sigmoid", "reference": 1.0}, [1.0], [math.log(0.5)]),
        # means of the groups: 2 and 5
        ("log_sigmoid", [1.0, 3.0, 5.0, 5.0], [-softplus(1), -softplus(-1), -math.log(2), -math.log(2)]),
        ({"name": "log_sigmoid", "reference": "quantile", "quantile": 1.0}, [1.0, 3.0], [-softplus(2), -math.log(2)]),
        ({"name": "zscore", "eps": 0}, [1.0, 3.0, 7.0, 7.0], [-1.0, 1.0, 0.0, 0.0]),
        ("rank", [1.0, 3.0, 7.0, 7.0], [0.0, 1.0, 0.5, 0.5]),
    ],
)  # fmt: skip
def test_scales_by_hand(given: Any, scores: list[float], expected: list[float]) -> None:
    assert scale(given, scores) == pytest.approx(expected, abs=1e-6)
    assert math.isnan(scale(given, [*scores[:1], NAN])[1])


def test_confidence_pulls_the_unsure_to_the_center() -> None:
    given = {"name": "confidence", "strength": 2.0, "center": 1.0}
    assert scale(given, [3.0, 3.0], [0.0, 0.5]) == pytest.approx([3.0, 1 + 2 * math.exp(-1)])
    with pytest.raises(ValueError, match="reports a variance"):
        scale(given, [3.0])


def test_quantiles_of_a_sample_make_it_uniform() -> None:
    sample = torch.randn(2001, generator=torch.Generator().manual_seed(0)).exp()
    made = scaling.percentile(sample, scaling.quantiles_of(sample))
    assert float(made.mean()) == pytest.approx(0.5, abs=0.01) and float(made.std()) == pytest.approx(
        12**-0.5, abs=0.01
    )
    with pytest.raises(ValueError, match="many scores are equal"):
        scaling.quantiles_of(torch.ones(5))
