"""Causal pairs rank, neutral pairs tie, contrast prompts rank: by the exact judge, and only what is meant differs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from mmalign.shapes import parse, render, verify
from mmalign.shapes.layout import sample_scene
from mmalign.shapes.neutral import FACTORS, NEUTRAL, augmented_pairs, factor_of, shift

PAIRS = augmented_pairs("train", 0, 0, causal=40, neutral=40, contrast=40)


def judged(pairs, field: str = "instruction_following") -> tuple[torch.Tensor, torch.Tensor]:
    first, second = ([getattr(pair, side) for pair in pairs] for side in "ab")
    return tuple(  # type: ignore[return-value]
        getattr(verify(torch.stack([s.media for s in side]), [s.prompt for s in side]), field)
        for side in (first, second)
    )


def of(kind: str):
    return [pair for pair in PAIRS if factor_of(pair).startswith(kind)]


def test_every_kind_is_there_in_full() -> None:
    assert Counter(factor_of(pair).split("/")[0] for pair in PAIRS) == {
        "causal": 40,
        "neutral": 40,
        "contrast": 40,
    }
    assert set(map(factor_of, of("neutral"))) == {f"neutral/{name}" for name in NEUTRAL}


@pytest.mark.parametrize("kind", ["causal", "contrast"])
def test_what_must_rank_ranks_on_both_sides(kind: str) -> None:
    pairs = of(kind)
    a, b = judged(pairs)
    p = torch.tensor([pair.labels["overall"] for pair in pairs])
    assert bool(((a > b) == (p == 1.0)).all()) and bool((a != b).all())
    assert 0.25 < float(p.mean()) < 0.75


def test_contrast_pairs_show_one_picture_under_two_prompts() -> None:
    assert all(
        torch.equal(pair.a.media, pair.b.media) and pair.a.prompt != pair.b.prompt for pair in of("contrast")
    )


def test_neutral_pairs_tie_and_differ_in_pixels() -> None:
    pairs = of("neutral")
    a, b = judged(pairs)
    assert torch.equal(a, b) and all(pair.ties["overall"] and pair.labels["overall"] == 0.5 for pair in pairs)
    assert all(not torch.equal(pair.a.media, pair.b.media) for pair in pairs)
    assert 0 < float((a == 1.0).float().mean()) < 1  # true and false pictures both


def test_spurious_factors_move_what_they_are_called_after() -> None:
    images = render(["a red circle", "two blue squares"], seed=1)
    half = torch.full((2,), 0.9)
    more, less = ({name: factor(images, sign * half) for name, factor in FACTORS.items()} for sign in (1, -1))

    def colour(x: torch.Tensor) -> float:
        return float((x.amax(1) - x.amin(1)).mean())

    def edges(x: torch.Tensor) -> float:
        return float((x[..., 1:] - x[..., :-1]).square().mean())

    assert colour(more["saturation"]) > colour(images) > colour(less["saturation"])
    assert edges(more["sharpness"]) > edges(images) > edges(less["sharpness"])
    error = {side["file_size"]: float((side["file_size"] - images).abs().mean()) for side in (more, less)}
    assert error[less["file_size"]] > error[more["file_size"]] > 0
    for factor in (FACTORS["saturation"], FACTORS["sharpness"]):
        torch.testing.assert_close(factor(images, torch.zeros(2)), images)


def test_a_shift_moves_everything_together_and_stays_inside() -> None:
    rng = np.random.default_rng(0)
    scene = sample_scene(parse("a red circle left of a blue square"), rng)
    moved = [shift(scene, rng) for _ in range(20)]
    assert all(one.valid() for one in moved) and len({round(one.things[0].x, 6) for one in moved}) > 10
    gap = scene.things[0].x - scene.things[1].x
    assert all(one.things[0].x - one.things[1].x == pytest.approx(gap) for one in moved)


def test_sets_are_reproducible_and_splits_do_not_meet() -> None:
    again = augmented_pairs("train", 0, 0, causal=40, neutral=40, contrast=40)
    assert all(
        torch.equal(x.b.media, y.b.media) and x.labels == y.labels for x, y in zip(PAIRS, again, strict=True)
    )
    other = augmented_pairs("train", 0, 1, causal=4)
    assert not torch.equal(other[0].a.media, PAIRS[0].a.media)
    assert augmented_pairs("heldout", 0, 0) == []


def test_a_training_source_mixes_them_in() -> None:
    from mmalign.strict import validate
    from rewardmodels.recipe import Shapes
    from rewardmodels.sources import ShapesSource

    sizes = {"families": 2, "prompts": 2, "images": 2, "cross": 0}
    plain = ShapesSource(validate(sizes, Shapes), 0).bundle(3, 0.5)
    more = validate(sizes | {"causal": 3, "neutral": 4, "contrast": 2}, Shapes)
    mixed = ShapesSource(more, 0, dimensions=("overall",)).bundle(3, 0.5)
    assert [pair.labels for pair in mixed[: len(plain)]] == [pair.labels for pair in plain]
    assert Counter(factor_of(pair).split("/")[0] for pair in mixed[len(plain) :]) == {
        "causal": 3,
        "neutral": 4,
        "contrast": 2,
    }
