"""Reward training: each sample scored once, mirrored losses, averaged weights, examination by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmalign.shapes.annotators import Law
from mmalign.shapes.pairs import make_block, preference_pairs, write_pairs
from mmalign.stats.calibration import fit_temperature
from mmalign.train.distributed import Processes
from mmalign.types import PreferencePair, Sample
from pipelines import train_reward
from rewardmodels.averages import Averages
from rewardmodels.examination import (
    Judged,
    accuracy,
    against_law,
    calibration_error,
    half_of,
    judge_pairs,
    judge_world,
)
from rewardmodels.reading import distinct, inputs_of
from rewardmodels.recipe import Method, RewardRecipe
from rewardmodels.sources import FileSource, ShapesSource
from rewardmodels.training import RewardTraining, loss_of
from tests.unit.rewardmodels.tiny import tiny_reward

LAW = Law(temperature=0.1)


def recipe(**sections: object) -> RewardRecipe:
    base = {
        "model": {"name": "tiny", "scratch": {}},
        "data": {"shapes": {"families": 2, "prompts": 2, "images": 2}},
    }
    return RewardRecipe.model_validate_json(__import__("json").dumps(base | sections))


def judged(gap: list[float], label: list[float], chance: list[float] | None = None) -> Judged:
    num = len(gap)
    return Judged(
        torch.tensor(gap), torch.zeros(num), torch.tensor(label, dtype=torch.float64),
        torch.tensor(chance or [float("nan")] * num, dtype=torch.float64),
        tuple(f"p{i}" for i in range(num)), ("all",) * num,
    )  # fmt: skip


def test_every_sample_is_scored_once_and_every_picture_read_once() -> None:
    block = make_block("train", 0, 0, num_families=2, num_prompts=3, num_images=2)
    pairs = preference_pairs(block, LAW, seed=0, num_cross=5)
    samples, first, second = distinct(pairs)
    assert len(samples) == 2 * 3 * 2
    assert all(samples[i] is pair.a for i, pair in zip(first.tolist(), pairs, strict=True))
    assert all(samples[j] is pair.b for j, pair in zip(second.tolist(), pairs, strict=True))
    assert inputs_of(tiny_reward(), samples).input_ids.shape[0] == 2 * 2


@pytest.mark.parametrize("loss", ["bradley_terry", "rao_kupper", "davidson"])
def test_exchanging_the_two_sides_mirrors_the_loss(loss: str) -> None:
    image = torch.zeros(3, 8, 8)
    a, b = Sample("x", image), Sample("x", image)
    pairs = [PreferencePair("x", a, b, {"overall": p}, {"overall": p == 0.5}) for p in (1.0, 0.0, 0.5)]
    raw = torch.tensor([[0.7], [-0.4]])
    first, second = torch.zeros(3, dtype=torch.long), torch.ones(3, dtype=torch.long)
    method = Method(loss=loss)  # type: ignore[arg-type]
    there = loss_of(method, raw, pairs, first, second).per_sample
    back = loss_of(method, raw, [pair.swapped() for pair in pairs], second, first).per_sample
    torch.testing.assert_close(there, back)


def test_absent_dimensions_and_weights_by_hand() -> None:
    image = torch.zeros(3, 8, 8)
    a, b = Sample("x", image), Sample("x", image)
    pairs = [
        PreferencePair("x", a, b, {"quality": 1.0}),
        PreferencePair("x", a, b, {"quality": 1.0, "following": 0.0}, weight=2.0),
    ]
    raw = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    where = torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.long)
    loss = loss_of(Method(dimensions=("quality", "following")), raw, pairs, *where).per_sample
    one, three = (torch.nn.functional.softplus(torch.tensor(x)) for x in (-1.0, 3.0))
    torch.testing.assert_close(loss, torch.stack([one, 2 * (one + three)]))


def test_a_step_lowers_the_loss_of_its_bundle() -> None:
    made = recipe(method={"average": 0.5})
    task = RewardTraining(tiny_reward(), made, ShapesSource(made.data.shapes, 0), Processes())
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        (update,) = task.updates(0)
        loss = sum(make().per_sample.sum() for make in update.losses) / update.num_losses
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.01


def test_averages_follow_and_are_swapped_in_only_for_a_while() -> None:
    made = recipe(method={"average": 0.9})
    task = RewardTraining(tiny_reward(), made, ShapesSource(made.data.shapes, 0), Processes())
    name, parameter = next((n, p) for n, p in task.model.named_parameters() if p.requires_grad)
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.add_(1.0)
    task.finish(0, num_updates=1000)
    torch.testing.assert_close(task.averages.values[name], before + 0.1)
    with task.averaged() as model:
        assert not model.training
        torch.testing.assert_close(dict(model.named_parameters())[name].detach(), before + 0.1)
    torch.testing.assert_close(parameter.detach(), before + 1.0)
    assert task.model.training
    other = RewardTraining(tiny_reward(seed=5), made, ShapesSource(made.data.shapes, 0), Processes())
    other.load_state_dict(task.state_dict())
    for key, value in task.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])


def test_averages_of_weights_in_bfloat16_move_all_the_way() -> None:
    model = torch.nn.Linear(16, 16, dtype=torch.bfloat16)
    averages = Averages(model, 0.99)
    with torch.no_grad():
        model.weight.mul_(1.05)
    for num in range(200, 1200):
        averages.follow(num)
    with averages.swapped_in():
        there = model.weight.detach().clone()
    assert torch.equal(there, model.weight.detach()) and model.weight.dtype == torch.bfloat16


def test_bundles_are_a_function_of_their_number() -> None:
    source = ShapesSource(recipe().data.shapes, 3)
    again = ShapesSource(recipe().data.shapes, 3)
    first, second = source.bundle(7, 0.5), again.bundle(7, 0.5)
    assert [pair.labels for pair in first] == [pair.labels for pair in second]
    assert torch.equal(first[0].a.media, second[0].a.media)  # type: ignore[arg-type]
    assert not torch.equal(first[0].a.media, source.bundle(8, 0.5)[0].a.media)  # type: ignore[arg-type]


def test_a_file_gives_the_same_pairs_in_epochs(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, "train", num_prompts=7, law=LAW, num_images=3)
    source = FileSource(path, 7, 0, ("overall",))
    epochs = [source.bundle(number, 0.0) for number in (0, 1)]
    assert sorted(pair.group for pair in epochs[0]) == sorted(pair.group for pair in epochs[1])
    assert [pair.group for pair in epochs[0]] != [pair.group for pair in epochs[1]]
    assert len(source.heldout()) == 7 * 3
    loss = loss_of(Method(), torch.randn(21, 1), epochs[0], *distinct(epochs[0])[1:])
    assert loss.per_sample.shape == (21,)


def test_expected_best_and_ratio_by_hand() -> None:
    found = against_law(judged([1.0, -1.0, 0.0], [1, 0, 1], [0.9, 0.6, 0.8]))
    assert found["expected"] == pytest.approx((0.9 + 0.4 + 0.5) / 3)
    assert found["best"] == pytest.approx((0.9 + 0.6 + 0.8) / 3)


def test_accuracy_counts_ties_out_and_equal_scores_as_wrong() -> None:
    result = accuracy(judged([1.0, -1.0, 0.0, 2.0], [1.0, 1.0, 1.0, 0.5]))
    assert result["accuracy"]["mean"] == pytest.approx(1 / 3) and result["accuracy"]["n"] == 3
    assert "best" not in result


def test_temperature_is_found_again() -> None:
    generator = torch.Generator().manual_seed(0)
    gap = 3 * torch.randn(20000, generator=generator, dtype=torch.float64)
    label = torch.bernoulli(torch.sigmoid(gap / 0.7), generator=generator)
    assert fit_temperature(gap, label) == pytest.approx(0.7, rel=0.05)
    answers = Judged(
        gap, torch.zeros_like(gap), label, torch.full_like(gap, float("nan")), ("",) * 20000, ("",) * 20000
    )
    assert calibration_error(answers, 0.7) < 0.02 < calibration_error(answers, 0.1)


def test_a_model_that_tells_nothing_apart_keeps_its_temperature() -> None:
    model = tiny_reward()
    before = model.settings.temperature
    train_reward.calibrate(model, lambda: {"overall": judged([0.0, 0.0], [1.0, 0.0])})
    assert model.settings.temperature == before and model.settings.std == (1.0,)
    train_reward.calibrate(model, lambda: {"overall": judged([2.0, -2.0, 2.0], [1.0, 0.0, 0.0])})
    assert model.settings.temperature == pytest.approx(2.0 / model.settings.std[0] / 0.6931, rel=1e-3)


class Oracle:
    """Scores by the pixels' true worth; the best anyone can do."""

    name, modalities, dimensions, differentiable = "oracle", frozenset({"image"}), ("overall",), False

    def __call__(self, *, samples: list[Sample]):
        from mmalign.shapes.detection import detect
        from mmalign.shapes.pairs import utility
        from mmalign.shapes.prompts import parse
        from mmalign.types import Scores

        sights = detect(torch.stack([sample.media for sample in samples]))
        values = [utility(sight, parse(s.prompt)) for sight, s in zip(sights, samples, strict=True)]
        return Scores.of(torch.tensor(values)[:, None], ("overall",))


def test_a_judge_who_knows_the_truth_reaches_the_best() -> None:
    found = judge_world(Oracle(), "evaluation", num_prompts=20, law=Law(temperature=0.1))["overall"]
    result = accuracy(found)
    assert result["ratio"] == pytest.approx(1.0, abs=1e-6)
    assert {half_of(prompt) for prompt in found.groups} == {"evaluation"}


def test_pairs_of_a_file_are_judged_by_their_labels(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, "heldout", num_prompts=4, law=Law(temperature=1e-3), num_images=3)
    found = judge_pairs(Oracle.__new__(_Decoding), FileSource(path, 1, 0, ("overall",)).heldout())
    decided = found.select(found.gap.abs() > 1e-2)  # two pictures that are equally right are a coin's toss
    assert accuracy(decided)["accuracy"]["mean"] > 0.9


class _Decoding(Oracle):
    """The oracle for media that are files."""

    def __call__(self, *, samples: list[Sample]):
        return super().__call__(samples=[Sample(s.prompt, s.frames()[0]) for s in samples])
