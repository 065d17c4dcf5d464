"""Rule rewards, function rewards and combinations."""

from __future__ import annotations

import io
import math

import pytest
import torch
from PIL import Image
from torch import Tensor

import rewardmodels
from mmalign.media import to_pil
from mmalign.shapes import render, verify
from mmalign.types import Sample, Scores
from rewardmodels.combine import Combined, group_ids, zscore
from rewardmodels.rules import ShapesVerifier

PROMPTS = ["a red circle", "two blue squares"]


def pictures() -> list[Sample]:
    return [Sample(prompt, image) for prompt, image in zip(PROMPTS, render(PROMPTS), strict=True)]


def test_the_verifier_reward_is_the_verifier() -> None:
    images = torch.cat([render(PROMPTS), render(PROMPTS).flip(0)])
    scores = rewardmodels.load("shapes-verifier")(
        samples=[Sample(p, i) for p, i in zip(PROMPTS * 2, images, strict=True)]
    )
    verdict = verify(images, PROMPTS * 2)
    torch.testing.assert_close(scores.overall, verdict.overall.float())
    torch.testing.assert_close(scores.values[:, 0], verdict.instruction_following.float())
    passed = rewardmodels.load("shapes-verifier", score="passed")
    assert passed(samples=pictures()).overall.tolist() == [1.0, 1.0]
    swapped = [Sample(p, i) for p, i in zip(PROMPTS, render(PROMPTS).flip(0), strict=True)]
    assert passed(samples=swapped).overall.tolist() == [0.0, 0.0]
    outside = Sample("a dog", images[0])
    found = ShapesVerifier().passes(samples=[*pictures(), *swapped, outside])
    assert found == [True, True, False, False, None]


def test_a_prompt_outside_the_world_is_nan_with_the_reason() -> None:
    scores = rewardmodels.load("shapes-verifier")(samples=[*pictures(), Sample("a dog", pictures()[0].media)])
    assert scores.valid.tolist() == [True, True, False]
    assert math.isnan(float(scores.overall[2])) and "dog" in str(scores.reasons[2])


def test_jpeg_rewards_are_the_size_of_the_file() -> None:
    noise = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    flat = torch.full((3, 64, 64), 0.5)
    samples = [Sample("", noise), Sample("", flat)]
    small = rewardmodels.load("jpeg-compressibility")(samples=samples).overall
    large = rewardmodels.load("jpeg-incompressibility")(samples=samples).overall
    buffer = io.BytesIO()
    to_pil(noise).save(buffer, format="JPEG", quality=95)
    assert float(large[0]) == pytest.approx(len(buffer.getvalue()) / 1000 / 500)
    assert float(small[1]) > float(small[0]) and torch.equal(small, -large)
    assert Image.open(io.BytesIO(buffer.getvalue())).size == (64, 64)
    with pytest.raises(ValueError, match="from 1 to 95"):
        rewardmodels.load("jpeg-compressibility", quality=0)


def redness(images: Tensor, prompts: list[str]) -> Tensor:
    return images[:, 0].mean(dim=(1, 2))


def moody(images: Tensor, prompts: list[str]) -> list[float]:
    return [float("nan") if prompt == "no" else 1.0 for prompt in prompts]


def wrong_shape(images: Tensor, prompts: list[str]) -> Tensor:
    return torch.zeros(len(prompts), 2)


def one_argument(images: Tensor) -> Tensor:
    return images


NOT_A_FUNCTION = 3


def test_any_function_is_a_reward() -> None:
    reward = rewardmodels.load(f"{__name__}:redness")
    scores = reward(samples=[Sample("", torch.full((3, 8, 8), 0.25)), Sample("", torch.full((3, 9, 5), 0.5))])
    assert scores.overall.tolist() == [0.25, 0.5] and scores.names == ("redness",)
    moods = rewardmodels.load(f"{__name__}:moody")(
        samples=[Sample(p, torch.zeros(3, 4, 4)) for p in ("no", "yes")]
    )
    assert moods.valid.tolist() == [False, True] and "not finite" in str(moods.reasons[0])


def test_a_differentiable_function_keeps_the_gradient() -> None:
    image = torch.rand(3, 4, 4, requires_grad=True)
    reward = rewardmodels.load(f"{__name__}:redness", differentiable=True)
    reward(samples=[Sample("", image)]).overall.sum().backward()
    assert image.grad is not None
    torch.testing.assert_close(image.grad[0], torch.full((4, 4), 1 / 16))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("no_such_module:f", "no module 'no_such_module'"),
        (f"{__name__}:nope", "has no function 'nope'"),
        (f"{__name__}:NOT_A_FUNCTION", "is a int"),
        (f"{__name__}:one_argument", "must take"),
        ("shapes-verifer", "did you mean 'shapes-verifier'"),
        ("tests", "holds no reward_config.json"),
    ],
)
def test_errors_name_the_mend(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        rewardmodels.load(name)


def test_a_function_that_returns_the_wrong_shape_is_a_bug_told_as_one() -> None:
    with pytest.raises(TypeError, match="one score each"):
        rewardmodels.load(f"{__name__}:wrong_shape")(samples=pictures())


def test_unknown_options_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'score'"):
        rewardmodels.load("shapes-verifier", scores="passed")
    with pytest.raises(ValueError, match="no option 'sign'"):
        rewardmodels.load("jpeg-compressibility", sign=1)


class Fixed:
    """A reward that says what it was told to."""

    modalities = frozenset({"image"})
    dimensions = ("overall",)
    differentiable = False

    def __init__(self, name: str, values: list[float]) -> None:
        self.name, self.values = name, values

    def __call__(self, *, samples: list[Sample]) -> Scores:
        values = torch.tensor(self.values)
        bad = torch.isnan(values)
        reasons = tuple("broken" if b else None for b in bad.tolist())
        return Scores(values.nan_to_num()[:, None], ("overall",), values.nan_to_num(), ~bad, reasons)


def grouped(groups: list[int]) -> list[Sample]:
    return [Sample("p", torch.zeros(3, 2, 2), metadata={"group": g}) for g in groups]


def test_a_weighted_sum_by_hand() -> None:
    both = Combined([("a", 2.0, Fixed("a", [1.0, 2.0])), ("b", -1.0, Fixed("b", [5.0, 7.0]))])
    scores = both(samples=grouped([0, 0]))
    assert scores.overall.tolist() == [-3.0, -3.0] and scores.names == ("a", "b")


def test_zscores_are_taken_within_groups_and_without_the_broken() -> None:
    nan = float("nan")
    a = Fixed("a", [1.0, 3.0, nan, 10.0, 30.0, 20.0])
    b = Fixed("b", [0.0, 0.0, 5.0, 0.0, 0.0, 0.0])
    scores = Combined([("a", 1.0, a), ("b", 1.0, b)], rule="zscore")(samples=grouped([0, 0, 0, 1, 1, 1]))
    assert scores.valid.tolist() == [True, True, False, True, True, True]
    assert scores.reasons[2] == "a: broken"
    third = math.sqrt(1.5)
    expected = torch.tensor([-1.0, 1.0, nan, -third, third, 0.0])
    torch.testing.assert_close(scores.overall, expected, atol=1e-3, rtol=0, equal_nan=True)


def test_zscore_ignores_nan_and_keeps_a_constant_group_at_zero() -> None:
    made = zscore(torch.tensor([2.0, float("nan"), 2.0]))
    assert made[0] == 0 and math.isnan(float(made[1]))


def test_groups_follow_prompts_unless_told() -> None:
    samples = [Sample(p, torch.zeros(3, 2, 2)) for p in ("x", "y", "x")]
    assert group_ids(samples).tolist() == [0, 1, 0]


def test_sources_that_differ_anywhere_are_two_groups() -> None:
    """What torch prints of a large tensor is its rim alone."""
    plain, spot = torch.zeros(3, 64, 64), torch.zeros(3, 64, 64)
    spot[:, 32, 32] = 1.0
    sources = (plain, spot, plain.clone(), None)
    samples = [Sample("make it blue", torch.zeros(3, 2, 2), source) for source in sources]
    assert group_ids(samples).tolist() == [0, 1, 0, 2]


def test_a_combination_needs_different_names() -> None:
    with pytest.raises(ValueError, match="different names"):
        Combined([("a", 1.0, Fixed("a", [])), ("a", 1.0, Fixed("a", []))])
    with pytest.raises(ValueError, match="'sum' or 'zscore'"):
        Combined([("a", 1.0, Fixed("a", []))], rule="average")  # type: ignore[arg-type]
