"""Ideal points: types of annotators with known laws are found again, and a handful of pairs tells a new one's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import rewardmodels
from mmalign.shapes.annotators import Law, annotate, best_accuracy, color_lure
from mmalign.shapes.layout import sample_scene
from mmalign.shapes.prompts import sample_specs
from mmalign.shapes.scene import COLORS
from mmalign.types import Sample
from rewardmodels.personal import reward
from rewardmodels.plural import Crowd, Fit, Form, IdealPoints, PluralVotes, adapt, fit

LIKED, DISLIKED = ("red", "blue"), ("blue", "red")
"""The first taste likes red and dislikes blue, the second the other way round: their mean knows nothing."""
LAW = Law(temperature=1.0, lure_weight=4.0)
NUM_SCENES = 400


def world() -> tuple[torch.Tensor, torch.Tensor]:
    """Features (N, 6) of random scenes, the share of each colour; and what each taste sees in them (N, 2)."""
    rng = np.random.default_rng(0)
    scenes = [sample_scene(spec, rng) for spec in sample_specs("train", NUM_SCENES)]
    features = torch.stack([color_lure(scenes, color) for color in COLORS], dim=1)
    lures = [color_lure(scenes, a) - color_lure(scenes, b) for a, b in zip(LIKED, DISLIKED, strict=True)]
    return features, torch.stack(lures, dim=1)


FEATURES, LURES = world()


def votes_of(taste: int, num: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs of scenes and the answers of one annotator whose law says how he is lured by his colour."""
    draws = torch.Generator().manual_seed(seed)
    rows = torch.randint(NUM_SCENES, (2, 8 * num), generator=draws)
    rows = rows[:, LURES[rows[0], 0] != LURES[rows[1], 0]][:, :num]
    nothing = torch.zeros(num)
    lures = LURES[rows, taste]
    label = annotate(nothing, nothing, LAW, draws, lures[0], lures[1])
    return rows[0], rows[1], (label == 0).float()


def crowd(num_annotators: int = 16, num_votes: int = 40) -> tuple[Crowd, list[int]]:
    tastes = [k % 2 for k in range(num_annotators)]
    rows = [votes_of(taste, num_votes, seed) for seed, taste in enumerate(tastes)]
    first, second, label = (torch.cat(parts) for parts in zip(*rows, strict=True))
    who = torch.arange(num_annotators).repeat_interleave(num_votes)
    votes = PluralVotes(FEATURES[first], FEATURES[second], label, who)
    names = [f"annotator {k}" for k in range(num_annotators)]
    return fit(votes, names, Fit(num_steps=150, hidden=0, width=4)), tastes


TRAINED, KINDS = crowd()


def accuracy(weights: torch.Tensor, taste: int, seed: int = 1000) -> tuple[float, float]:
    """Pair accuracy on new votes of a taste, and the best that anyone could have."""
    first, second, label = votes_of(taste, 600, seed)
    gap = (TRAINED.points(FEATURES[first]) - TRAINED.points(FEATURES[second])) @ weights
    nothing = torch.zeros(600)
    best = best_accuracy(nothing, nothing, LAW, LURES[first, taste], LURES[second, taste]).strict_unordered
    return float(((gap > 0) == (label == 1)).float().mean()), best


def test_each_type_is_found_again() -> None:
    type_of = TRAINED.weights.argmax(dim=1).tolist()
    found = [type_of[k] == type_of[0] for k in range(len(KINDS))]
    assert found == [kind == KINDS[0] for kind in KINDS]
    assert float(TRAINED.weights.amax(dim=1).mean()) > 0.75
    torch.testing.assert_close(TRAINED.weights.sum(dim=1), torch.ones(len(KINDS)))


@pytest.mark.parametrize("taste", [0, 1])
def test_known_annotators_are_judged_nearly_as_well_as_possible(taste: int) -> None:
    found, best = accuracy(TRAINED.weights[taste], taste)
    plain, _ = accuracy(TRAINED.mean, taste)
    assert found > 0.95 * best and found > plain + 0.15


def test_a_handful_of_pairs_tells_a_new_annotator() -> None:
    reached = []
    for taste in (0, 1):
        for seed in range(4):
            first, second, label = votes_of(taste, 16, 500 + 10 * seed + taste)
            weights = adapt(TRAINED, FEATURES[first], FEATURES[second], label)
            assert float(weights.sum()) == pytest.approx(1.0) and float(weights.min()) >= 0
            found, best = accuracy(weights, taste)
            reached.append((found / best, accuracy(TRAINED.mean, taste)[0] / best))
    after, before = np.mean(reached, axis=0)
    assert after > 0.95 and after > before + 0.15


def test_without_pairs_a_new_annotator_is_the_mean_one() -> None:
    nobody = adapt(TRAINED, FEATURES[:0], FEATURES[:0], torch.zeros(0))
    torch.testing.assert_close(nobody, TRAINED.mean, atol=1e-3, rtol=0)


@pytest.mark.parametrize("form, expected", [("distance", [-5.0, -1.0]), ("inner", [0.0, 6.0])])
def test_the_two_forms_by_hand(form: Form, expected: list[float]) -> None:
    points = IdealPoints(2, prototypes=2, width=2, hidden=0, form=form)
    with torch.no_grad():
        points.embed[0].weight.copy_(torch.eye(2))
        points.embed[0].bias.zero_()
        points.prototypes.copy_(torch.tensor([[0.0, 0.0], [2.0, 2.0]]))
    assert points(torch.tensor([[1.0, 2.0]]))[0].tolist() == pytest.approx(expected)


def test_a_mixture_of_scores_is_the_distance_to_the_mixed_ideal_point() -> None:
    points = IdealPoints(6, prototypes=3, width=4, hidden=0)
    share = torch.tensor([0.2, 0.3, 0.5])
    mixed = points(FEATURES) @ share
    place = points.embed(FEATURES)
    distance = -(place - share @ points.prototypes).square().sum(1)
    torch.testing.assert_close(mixed - mixed[0], distance - distance[0], atol=1e-4, rtol=0)


def colours(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    """Six features of a picture."""
    return torch.cat([images.mean(dim=(2, 3)), images.std(dim=(2, 3))], dim=1)


def test_saved_and_loaded_as_any_annotator(tmp_path: Path) -> None:
    made = reward(TRAINED, features=f"{__name__}:colours", annotator="annotator 1")
    folder = made.save(tmp_path / "crowd")
    samples = [Sample("p", torch.rand(3, 8, 8)) for _ in range(3)] + [Sample("p", tmp_path / "missing.png")]
    again = rewardmodels.load(str(folder), annotator="annotator 1")
    scores = again(samples=samples)
    assert torch.equal(scores.overall[:3], made(samples=samples).overall[:3]) and scores.names == (
        "type_1",
        "type_2",
    )
    assert scores.valid.tolist() == [True, True, True, False] and "missing.png" in str(scores.reasons[3])
    usual = rewardmodels.load(str(folder))(samples=samples[:3])
    torch.testing.assert_close(usual.overall, usual.values @ TRAINED.mean)
    with pytest.raises(ValueError, match="'nobody' is not known: annotator 0"):
        rewardmodels.load(str(folder), annotator="nobody")
    with pytest.raises(ValueError, match="no option 'anotator'; did you mean 'annotator'"):
        rewardmodels.load(str(folder), anotator="annotator 1")
