"""Compositions: YAML in YAML, mistakes named, one broken part named in the reason, variances and gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import rewardmodels
from mmalign.composition import Reward, needs_group, read_reward
from mmalign.config import Recipe
from mmalign.strict import to_yaml, validate
from mmalign.types import Sample, Scores
from rewardmodels.combine import Combined, Scaled, build
from tests.unit.rewardmodels.test_combine_rules import NAN, reward


def bright(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    return images.mean(dim=(1, 2, 3))


def picky(images: torch.Tensor, prompts: list[str]) -> list[float]:
    return [NAN if "bad" in prompt else 0.5 for prompt in prompts]


INNER = f"""
name: inner
combine: {{name: gate, base: {__name__}:bright, share: 0.6}}
rewards:
  - {__name__}:bright
  - {{name: "{__name__}:picky", scale: {{name: affine, mean: 0, std: 0.5}}}}
"""
OUTER = f"""
name: outer
combine: min
rewards: [parts/inner.yaml, {{name: "{__name__}:bright", scale: {{name: affine, mean: -1, std: 1}}}}]
"""


def test_a_file_in_a_file_scores_by_hand(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "inner.yaml").write_text(INNER)
    (tmp_path / "outer.yaml").write_text(OUTER)
    model = rewardmodels.load(str(tmp_path / "outer.yaml"))
    samples = [Sample(p, torch.full((3, 4, 4), v)) for p, v in (("ok", 0.25), ("bad", 0.5), ("ok", 0.5))]
    scores = model(samples=samples)
    assert model.name == "outer" and scores.names == ("parts/inner.yaml", f"{__name__}:bright")
    # gate: base * (0.6 + 0.4 * 1); the second part is base + 1, so min is the gate
    assert scores.overall.tolist()[::2] == pytest.approx([0.25, 0.5])
    assert not scores.valid[1]
    assert (
        scores.reasons[1] == f"parts/inner.yaml: {__name__}:picky: the reward gave a score that is not finite"
    )
    alone = torch.cat([model(samples=[sample]).overall for sample in samples])
    torch.testing.assert_close(alone, scores.overall, equal_nan=True)
    with pytest.raises(ValueError, match="no option 'batch'"):
        rewardmodels.load(str(tmp_path / "outer.yaml"), batch=1)


@pytest.mark.parametrize(
    "inner", [f"name: inner\nrewards: ['{__name__}:bright']", f"name: '{__name__}:bright'\nweight: 7"]
)
def test_a_file_can_be_the_base_of_a_gate(inner: str, tmp_path: Path) -> None:
    (tmp_path / "inner.yaml").write_text(inner)
    text = f"name: x\ncombine: {{name: gate, base: inner.yaml, share: 0}}\nrewards: ['{__name__}:bright', inner.yaml]"
    (tmp_path / "x.yaml").write_text(text)
    model = rewardmodels.load(str(tmp_path / "x.yaml"))
    assert model(samples=[Sample("p", torch.full((3, 2, 2), 0.5))]).overall.tolist() == pytest.approx([0.25])


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("name: x\ncombin: min\nrewards: [a]", "x.yaml: unknown key 'combin'; did you mean 'combine'"),
        ("name: x\nrewards: [{name: a, scal: rank}]", "unknown key 'rewards.0.scal'; did you mean 'rewards.0.scale'"),
        ("name: x\ncombine: {name: gate, shar: 1}\nrewards: [a, b]", "did you mean 'combine.share'"),
        ("name: x\ncombine: maximum\nrewards: [a]", "must be one of 'sum', 'mean'"),
        ("name: x\ncombine: {name: gate, base: c}\nrewards: [a, b]", "no part is called 'c'; they are a, b"),
        ("name: x\ncombine: min", "a rule but no parts"),
        ("name: x\ncombine: min\nrewards: [{name: a, weight: 2}, b]", "weights would not count"),
        ("name: x\ncombine: uwo\nrewards: [{name: a, weight: -1}, b]", "needs weights above 0"),
        ("name: x\nscale: {name: percentile, quantiles: [1, 0]}", "each larger than the one before"),
        ("name: x\ndimension: d\nrewards: [a]", "options and dimension belong to its parts"),
        ("name: x\nscale: confidence\nrewards: [a]", "reports no variance"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError) as problem:
        read_reward(tmp_path / "x.yaml")
    assert complaint in str(problem.value)


def test_circles_and_missing_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nrewards: [b.yaml]")
    (tmp_path / "b.yaml").write_text("name: b\nrewards: [a.yaml]")
    with pytest.raises(ValueError, match=r"circle: a\.yaml -> b\.yaml -> a\.yaml"):
        read_reward(tmp_path / "a.yaml")
    with pytest.raises(ValueError, match="no reward file"):
        rewardmodels.load("nowhere.yaml")


def test_a_recipe_takes_the_same_yaml_and_prints_it_back() -> None:
    data = {
        "model": {"path": "x"},
        "method": {"name": "sft"},
        "combine": "zscore",
        "rewards": ["a", {"name": "c", "combine": "min", "rewards": ["d", {"name": "e", "scale": "rank"}]}],
    }
    recipe = validate(data, Recipe)
    assert recipe.rewards[1].rewards[1].scale[0].name == "rank" and recipe.combine.name == "zscore"
    assert needs_group(recipe.rewards[1]) and not needs_group(recipe.rewards[0])
    assert validate(yaml.safe_load(to_yaml(recipe)), Recipe) == recipe
    data["rewards"][1]["rewards"][0] = {"name": "d", "wieght": 1}
    with pytest.raises(ValueError, match=r"unknown key 'rewards\.1\.rewards\.0\.wieght'; did you mean"):
        validate(data, Recipe)


class Unsure:
    """A reward of two dimensions that reports a variance."""

    name = "unsure"
    modalities = frozenset({"image"})
    dimensions = ("good", "fine")
    differentiable = True

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        values = torch.stack([sample.frames().mean() * torch.tensor([2.0, 4.0]) for sample in samples])
        done = Scores.of(values, self.dimensions)
        return Scores(
            done.values, done.names, done.overall, done.valid, done.reasons,
            torch.tensor([[0.0, -50.0]]).expand_as(values),
        )  # fmt: skip


def test_the_variance_of_a_scaled_reward_is_on_its_scale() -> None:
    sample = Sample("p", torch.zeros(3, 2, 2))

    def told(dimension: str | None, *scales: Any) -> float:
        section = reward({"name": "x", "scale": list(scales)}).scale if scales else ()
        logs = Scaled(Unsure(), "x", dimension, section)(samples=[sample]).overall_log_variance
        assert logs is not None
        return float(logs.exp())

    fine, good = told("fine"), told("good")
    assert fine != good
    assert told(None) == pytest.approx((fine + good) / 4)
    assert told("good", {"name": "affine", "mean": 1.0, "std": 2.0}) == pytest.approx(good / 4)
    assert math.isnan(told("good", "sigmoid"))


def test_a_dimension_and_its_variance_are_used() -> None:
    sample = Sample("p", torch.full((3, 2, 2), 0.5))
    (section,) = reward({"name": "x", "scale": "confidence"}).scale
    sure = Scaled(Unsure(), "x", "fine", (section,))(samples=[sample])
    unsure = Scaled(Unsure(), "x", "good", (section,))(samples=[sample])
    assert sure.overall.tolist() == pytest.approx([2.0]) and unsure.overall.tolist() == pytest.approx(
        [math.exp(-1)]
    )
    assert sure.names == ("good", "fine") and sure.values.tolist() == [[1.0, 2.0]]
    with pytest.raises(ValueError, match="no dimension 'nice'; it has good, fine"):
        Scaled(Unsure(), "x", "nice")


def test_gradients_pass_through_pointwise_compositions() -> None:
    image = torch.full((3, 4, 4), 0.5, requires_grad=True)
    made = build(
        reward({"name": "x", "combine": {"name": "gate"}, "rewards": [
            {"name": f"{__name__}:bright", "options": {"differentiable": True}, "scale": {"name": "sigmoid"}},
            {"name": f"{__name__}:bright", "options": {"differentiable": True}},
        ]})
    )  # fmt: skip
    assert made.differentiable
    made(samples=[Sample("p", image)]).overall.sum().backward()
    gate = torch.sigmoid(torch.tensor(0.5))
    slope = gate * (1 - gate) * (0.6 + 0.4 * 0.5) + gate * 0.4
    assert float(image.grad.sum()) == pytest.approx(float(slope), rel=1e-4)
    ranked = build(
        reward({"name": f"{__name__}:bright", "scale": "rank", "options": {"differentiable": True}})
    )
    assert not ranked.differentiable


def test_parts_must_share_a_kind_of_media() -> None:
    video = Unsure()
    video.modalities = frozenset({"video"})
    with pytest.raises(ValueError, match="no kind of media"):
        Combined([("a", 1.0, Unsure()), ("b", 1.0, video)])


@pytest.mark.parametrize("text", ["name: shapes-verifier", "name: mine\nrewards: [shapes-verifier]"])
def test_a_composition_of_one_keeps_its_dimensions(text: str, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(text)
    plain = rewardmodels.load("shapes-verifier")
    model = build(Reward(name=str(tmp_path / "one.yaml")))
    samples = [Sample("a red circle", torch.full((3, 32, 32), level)) for level in (0.2, 0.9)]
    expected, scores = plain(samples=samples), model(samples=samples)
    assert len(plain.dimensions) > 1 and model.dimensions == scores.names == plain.dimensions
    assert torch.equal(scores.values, expected.values) and torch.equal(scores.overall, expected.overall)


def test_a_rule_on_one_part_changes_its_overall_only() -> None:
    samples = [Sample("p", torch.full((3, 2, 2), 0.5))]
    plain = Unsure()(samples=samples)
    made = Combined([("unsure", -2.0, Unsure())], plain=True)(samples=samples)
    assert made.names == ("good", "fine") and torch.equal(made.values, plain.values)
    assert torch.equal(made.overall, -2.0 * plain.overall)
    assert made.log_variance is not None and torch.equal(made.log_variance, plain.log_variance)
    assert made.overall_log_variance is not None and plain.overall_log_variance is not None
    assert made.overall_log_variance.exp().tolist() == pytest.approx(
        (4 * plain.overall_log_variance.exp()).tolist()
    )
    tame = Combined([("unsure", 1.0, Unsure())], rule=reward({"name": "x", "combine": "zscore", "rewards": ["a"]}).rule,
                    plain=True)(samples=samples)  # fmt: skip
    assert tame.overall_log_variance is not None and math.isnan(tame.overall_log_variance)
    assert Combined([("unsure", 1.0, Unsure())]).dimensions == ("unsure",)
