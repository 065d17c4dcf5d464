"""Annotators: hand-computed laws, symmetric, and best accuracies that match a long experiment."""

from __future__ import annotations

import math

import pytest
import torch

from mmalign.shapes import Scene, Thing
from mmalign.shapes.annotators import Law, annotate, best_accuracy, color_lure, probabilities


def utilities(num: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, num, generator=generator).unbind(0)


def test_bradley_terry_and_rao_kupper_by_hand():
    two, zero = torch.tensor(2 * math.log(3.0)), torch.tensor(0.0)
    assert probabilities(two, zero, Law(temperature=2.0)).tolist() == pytest.approx([0.75, 0.25, 0.0])
    # strengths 3 and 1, theta 2: 3 / (3 + 2), 1 / (1 + 6), the rest
    log3 = torch.tensor(math.log(3.0))
    tied = probabilities(log3, zero, Law(theta=2.0)).tolist()
    assert tied == pytest.approx([3 / 5, 1 / 7, 1 - 3 / 5 - 1 / 7])
    careless = probabilities(log3, zero, Law(careless=0.4)).tolist()
    assert careless == pytest.approx([0.6 * 0.75 + 0.2, 0.6 * 0.25 + 0.2, 0.0])


def test_exchanging_the_sides_mirrors_the_law_unless_position_counts():
    first, second = utilities(50)
    law = Law(temperature=0.7, theta=1.3, careless=0.1)
    mirrored = probabilities(second, first, law)[:, [1, 0, 2]]
    assert torch.allclose(probabilities(first, second, law), mirrored)
    biased = Law(position_bias=0.8)
    assert (probabilities(first, second, biased)[:, 0] > probabilities(first, second, Law())[:, 0]).all()


def test_lure_moves_labels_towards_the_colour():
    scenes = [
        Scene((Thing("red", "circle", "small", 0.3, 0.3, 0.11),)),
        Scene((Thing("blue", "circle", "small", 0.3, 0.3, 0.11),)),
    ]
    lure = color_lure(scenes, "red")
    assert lure.tolist() == [1.0, 0.0]
    zero = torch.zeros(())
    law = Law(lure_weight=math.log(4.0))
    assert probabilities(zero, zero, law, lure[0], lure[1])[0] == pytest.approx(0.8)
    with pytest.raises(ValueError, match="unknown colour"):
        color_lure(scenes, "pink")


LAWS = [
    Law(),
    Law(temperature=0.3),
    Law(theta=1.8),
    Law(temperature=0.5, theta=1.5, careless=0.3),
    Law(position_bias=1.0, theta=1.2),
]


@pytest.mark.parametrize("law", LAWS)
def test_best_accuracy_matches_an_experiment(law):
    first, second = utilities(400)
    best = best_accuracy(first, second, law)
    repeats = 1000
    generator = torch.Generator().manual_seed(1)
    a, b = first.repeat(repeats), second.repeat(repeats)
    labels = annotate(a, b, law, generator)
    chances = probabilities(a, b, law)
    decided = labels < 2
    strict = (chances[:, :2].argmax(1) == labels)[decided].double().mean()
    assert strict == pytest.approx(best.strict, abs=0.004)
    assert (chances.argmax(1) == labels).double().mean() == pytest.approx(best.three_way, abs=0.004)
    assert (labels == 2).double().mean() == pytest.approx(best.tie_share, abs=0.004)
    # a judge without order: the same pairs shown both ways, always naming the better one
    turned = annotate(b, a, law, generator)
    right = torch.cat([((a < b).long() == labels)[decided], ((b < a).long() == turned)[turned < 2]])
    assert right.double().mean() == pytest.approx(best.strict_unordered, abs=0.004)
    assert best.strict_unordered <= best.strict + 1e-9


def test_no_rule_beats_the_best():
    first, second = utilities(200)
    law = Law(theta=1.5)
    best = best_accuracy(first, second, law)
    chances = probabilities(first, second, law)
    for threshold in (0.0, 0.2, 0.5, 1.0):
        gap = first - second
        answer = torch.where(gap.abs() < threshold, 2, (gap < 0).long())
        assert chances.gather(1, answer[:, None]).mean() <= best.three_way + 1e-9


def test_dimensions_have_their_own_laws():
    first = torch.tensor([[5.0, 5.0]]).repeat(20_000, 1)
    laws = [Law(temperature=0.1), Law(careless=1.0)]
    labels = annotate(first, torch.zeros_like(first), laws, torch.Generator().manual_seed(0))
    assert labels.shape == first.shape and (labels[:, 0] == 0).all()
    assert (labels[:, 1] == 0).double().mean() == pytest.approx(0.5, abs=0.015)
    with pytest.raises(ValueError, match="3 laws"):
        annotate(first, first, [Law()] * 3, torch.Generator())


def test_labels_are_seeded():
    first, second = utilities(100)
    draws = [
        annotate(first, second, Law(), torch.Generator().manual_seed(seed)).tolist() for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("fields", [{"temperature": 0.0}, {"theta": 0.5}, {"careless": 1.5}])
def test_impossible_laws_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Law(**fields)
    with pytest.raises(ValueError, match="no pairs"):
        best_accuracy(torch.zeros(0), torch.zeros(0), Law())
