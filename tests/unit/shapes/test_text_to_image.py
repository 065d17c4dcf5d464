"""The text-to-image world: prompts read back, truths pass, everything else fails."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from mmalign.shapes import (
    CATEGORIES,
    COLORS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    all_specs,
    draw,
    heldout_specs,
    parse,
    phrase,
    phrasings,
    render,
    sample_prompts,
    sample_scene,
    sample_specs,
    satisfies,
    train_specs,
    verify,
    vocabulary,
)  # fmt: skip
from mmalign.shapes.scene import BACKGROUND, PALETTE


def truths(num: int, seed: int = 1, size: int = 32):
    rng = np.random.default_rng(seed)
    specs = sample_specs("train", num // 2, seed) + sample_specs("heldout", num - num // 2, seed)
    texts = [phrase(spec, rng) for spec in specs]
    scenes = [sample_scene(spec, rng) for spec in specs]
    return specs, texts, scenes, draw(scenes, size)


def one(color: str, shape: str, size: str = "large", x: float = 0.5, y: float = 0.5) -> Thing:
    return Thing(color, shape, size, x, y, 0.19 if size == "large" else 0.11)


def test_every_phrasing_is_read_back_and_short():
    for spec in all_specs():
        texts = phrasings(spec)
        assert len(set(texts)) == len(texts) >= 4
        for text in texts[:: max(1, len(texts) // 12)]:
            assert parse(text) == spec
            assert len(text.split()) <= 12 and set(text.split()) <= set(vocabulary())
    assert len(vocabulary()) < 60


@pytest.mark.parametrize(
    ("prompt", "word"),
    [("a pink circle", "pink"), ("two red circle", "circle"), ("a circle near a square", "near"),
     ("a circle and", "end"), ("", "end"), ("a circle and a square and", "and")],
)  # fmt: skip
def test_unreadable_word_is_named(prompt, word):
    with pytest.raises(ValueError, match=f"cannot read .*{word}"):
        parse(prompt)


def test_split_is_disjoint_and_covers_every_value():
    train, held = train_specs(), heldout_specs()
    assert not set(train) & set(held) and len(train) + len(held) == len(all_specs())
    assert 0.1 < len(held) / len(all_specs()) < 0.2
    for category in CATEGORIES:
        mine = [spec for spec in train if spec.category == category]
        needs = [need for spec in mine for need in spec.required]
        assert any(spec.category == category for spec in held)
        assert {need.shape for need in needs} >= (set(SHAPES) if category != "single_object" else set())
        if any(need.color for need in needs):
            assert {need.color for need in needs} >= set(COLORS)
        if any(need.size for need in needs):
            assert {need.size for need in needs} == set(SIZES)
    assert len({spec.relation for spec in train}) == 3


def test_sampling_is_seeded_and_balanced():
    assert sample_prompts("train", 50, 3) == sample_prompts("train", 50, 3) != sample_prompts("train", 50, 4)
    counts = [
        sum(spec.category == category for spec in sample_specs("heldout", 70, 0)) for category in CATEGORIES
    ]
    assert counts == [10] * 7
    with pytest.raises(ValueError, match="unknown split"):
        sample_prompts("test", 1)


def test_scenes_are_valid_and_meet_their_spec():
    specs, _, scenes, images = truths(700)
    assert all(scene.valid() and satisfies(scene, spec) for scene, spec in zip(scenes, specs, strict=True))
    assert images.shape == (700, 3, 32, 32) and images.min() >= 0 and images.max() <= 1
    assert torch.equal(render(["a circle"], 3), render(["a circle"], 3))


def test_drawn_area_and_colour_are_exact():
    image = draw([Scene((one("blue", "square"),))], 64)[0]
    background = torch.tensor(BACKGROUND).view(3, 1, 1)
    tint = torch.tensor(PALETTE["blue"]).view(3, 1, 1) - background
    area = ((image - background) / tint).mean()
    assert area == pytest.approx((2 * 0.86 * 0.19) ** 2, rel=5e-3)
    assert image[:, 32, 32].tolist() == pytest.approx(PALETTE["blue"])


@pytest.mark.parametrize("size", [32, 48])
def test_truths_pass_and_mismatches_fail(size):
    check_truths(1000 if size == 32 else 300, size)


@pytest.mark.slow
def test_ten_thousand_truths():
    check_truths(10_000, 32)


def check_truths(num: int, size: int):
    specs, texts, scenes, images = truths(num, size=size)
    verdict = verify(images, texts)
    assert verdict.passed.float().mean() >= 0.995
    assert verdict.categories == [spec.category for spec in specs]
    assert torch.equal(verdict.passed, verdict.instruction_following == 1)
    order = np.random.default_rng(0).permutation(num)
    wrong = [i for i in range(num) if not satisfies(scenes[i], specs[order[i]])]
    verdict = verify(images[wrong], [texts[order[i]] for i in wrong])
    assert len(wrong) > 0.8 * num and verdict.passed.float().mean() <= 0.02


@pytest.mark.parametrize("sigma", [0.5, 0.8])
def test_truths_pass_after_the_blur_and_noise_of_a_reconstruction(sigma):
    _, texts, _, images = truths(600, 5)
    generator = torch.Generator().manual_seed(0)
    blurred = torch.from_numpy(ndimage.gaussian_filter(images.numpy(), (0, 0, sigma, sigma)))
    shift = 0.1 * torch.rand(len(images), 3, 1, 1, generator=generator) - 0.05
    noise = 0.03 * torch.randn(images.shape, generator=generator)
    seen = verify((blurred + shift + noise).clamp(0, 1), texts)
    assert seen.passed.float().mean() >= 0.97
    clean = verify(images, texts)
    assert (seen.visual_quality < clean.visual_quality).float().mean() > 0.99
    assert clean.visual_quality.median() > 0.98


def test_flipping_fails_position_only():
    texts = ["a red circle left of a blue square", "a red circle and a blue square"]
    images = render([texts[0]] * 2)
    assert verify(images, texts).passed.tolist() == [True, True]
    flipped = verify(images.flip(-1), texts)
    assert flipped.passed.tolist() == [False, True]
    assert 0.4 < flipped.instruction_following[0] < 0.9
    assert verify(images.flip(-1), ["a red circle right of a blue square"] * 2).passed.all()


def test_swapped_colours_fail_color_attr():
    text = "a red circle and a blue square"
    right = Scene((one("red", "circle", x=0.25), one("blue", "square", x=0.75)))
    wrong = Scene((one("blue", "circle", x=0.25), one("red", "square", x=0.75)))
    verdict = verify(draw([right, wrong]), [text] * 2)
    assert verdict.passed.tolist() == [True, False]
    assert 0.2 < verdict.instruction_following[1] < 0.9


def test_credit_grows_with_what_is_right():
    ladder = [
        Scene(()),
        Scene((one("blue", "cross", "small"),)),
        Scene((one("blue", "circle", "small"),)),
        Scene((one("red", "circle", "small"),)),
        Scene((one("red", "circle"),)),
    ]
    verdict = verify(draw(ladder), ["a large red circle"] * 5)
    assert (verdict.instruction_following.diff() > 0.05).all()
    assert verdict.instruction_following[0] == 0 and verdict.instruction_following[-1] == 1
    assert (verdict.overall <= verdict.instruction_following).all()


def test_extra_and_missing_things_fail_but_specks_only_cost_quality():
    two = Scene((one("red", "circle", x=0.25), one("red", "circle", x=0.75)))
    verdict = verify(draw([two] * 3), ["a red circle", "two red circles", "three red circles"])
    assert verdict.passed.tolist() == [False, True, False]
    assert verdict.instruction_following.tolist() == pytest.approx([1 / 2, 1, 2 / 3])
    image = draw([two])
    image[:, :, 1:3, 15:17] = torch.tensor(PALETTE["green"]).view(3, 1, 1)
    speck = verify(image, ["two red circles"])
    assert speck.passed.all() and speck.visual_quality < 0.8


def test_a_thing_of_two_colours_has_none():
    image = draw([Scene((one("red", "square"),))])
    half = draw([Scene((one("blue", "square"),))])
    image[..., 16:] = half[..., 16:]
    verdict = verify(image.repeat(2, 1, 1, 1), ["a red square", "a blue square"])
    assert not verdict.passed.any()


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, float("nan"), float("inf"), -3.0])
def test_constant_pictures_fail(value):
    verdict = verify(torch.full((2, 3, 32, 32), value), ["a circle", "two red squares"])
    assert not verdict.passed.any() and verdict.overall.max() < 0.05


def test_noise_fails_and_odd_arguments_are_named():
    images = torch.rand(50, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    verdict = verify(images, sample_prompts("train", 50))
    assert not verdict.passed.any() and verdict.overall.max() < 0.05
    with pytest.raises(ValueError, match="50 pictures but 1 prompts"):
        verify(images, ["a circle"])
    with pytest.raises(ValueError, match="square RGB"):
        verify(images[:1, 0], ["a circle"])
