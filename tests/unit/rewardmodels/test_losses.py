"""From readouts and labels to losses: uncertain scores, lists, ratings, learned ties; what the recipe refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mmalign.types import PreferencePair, Sample
from rewardmodels.heads import Readout
from rewardmodels.losses import RATINGS, Listed, TieWidth, list_loss, lists_of, loss_of, rating_loss
from rewardmodels.ratings import cross_pairs
from rewardmodels.recipe import Method, RewardRecipe

FIRST, SECOND = torch.tensor([0]), torch.tensor([1])
IMAGE = torch.zeros(3, 8, 8)


def pair(**fields: Any) -> PreferencePair:
    return PreferencePair(
        "x", Sample("x", IMAGE), Sample("x", IMAGE), **{"labels": {"overall": 1.0}, **fields}
    )


def rated(*values: float | None) -> list[Sample]:
    return [Sample("x", IMAGE, metadata={RATINGS: {} if v is None else {"overall": v}}) for v in values]


def test_win_tie_is_solirewards_loss_by_hand() -> None:
    method, read = Method(loss="win_tie", margin=3.0), torch.tensor([[2.0], [0.5]])
    won = loss_of(method, read, [pair()], FIRST, SECOND).per_sample
    assert won.item() == pytest.approx(math.log1p(math.exp(-(1.5 - 3))))
    tied = loss_of(
        method, read, [pair(labels={"overall": 0.5}, ties={"overall": True})], FIRST, SECOND
    ).per_sample
    assert tied.item() == pytest.approx(math.log1p(math.exp(1.5)) + math.log1p(math.exp(4.5)), rel=1e-5)


@pytest.mark.parametrize("loss", ["rao_kupper", "davidson", "win_tie"])
def test_a_pair_with_some_ties_is_the_sum_of_its_answers(loss: str) -> None:
    method = Method(loss=loss, margin=3.0 if loss == "win_tie" else 0.0)  # type: ignore[arg-type]
    read = torch.tensor([[1.2], [0.5]])

    def cost(p: float, tie: float) -> float:
        one = pair(labels={"overall": p}, ties={"overall": tie})
        back = loss_of(method, read, [one.swapped()], SECOND, FIRST).per_sample.item()
        made = loss_of(method, read, [one], FIRST, SECOND).per_sample.item()
        assert made == pytest.approx(back)
        return made

    whole = 0.5 * cost(1.0, False) + 0.2 * cost(0.0, False) + 0.3 * cost(0.5, True)
    assert cost(0.65, 0.3) == pytest.approx(whole, rel=1e-5)


def test_an_uncertain_pair_costs_less_when_it_is_wrong_and_more_when_it_is_right() -> None:
    method = Method(loss="gaussian")

    def loss(gap: float, log_std: float) -> float:
        read = Readout(torch.tensor([[gap], [0.0]]), torch.full((2, 1), log_std))
        return float(loss_of(method, read, [pair()], FIRST, SECOND).per_sample)

    assert loss(-4.0, 1.0) < loss(-4.0, -6.0) + 0.5 and loss(4.0, 1.0) > loss(4.0, -6.0)
    assert loss(2.0, -6.0) == pytest.approx(math.log1p(math.exp(-2.0)), abs=1e-4)
    with pytest.raises(ValueError, match="needs a head with an uncertainty"):
        loss_of(method, torch.zeros(2, 1), [pair()], FIRST, SECOND)


def test_draws_of_one_bundle_are_the_same_twice() -> None:
    method = Method.model_validate({"loss": "gaussian", "gaussian": {"method": "monte_carlo", "points": 8}})
    read = Readout(torch.tensor([[1.0], [0.0]]), torch.zeros(2, 1))
    one, two, other = (
        loss_of(
            method, read, [pair()], FIRST, SECOND, generator=torch.Generator().manual_seed(seed)
        ).per_sample
        for seed in (3, 3, 4)
    )
    assert torch.equal(one, two) and not torch.equal(one, other)


@pytest.mark.parametrize(("law", "start"), [("rao_kupper", 5.0), ("rao_kupper", 1.2), ("davidson", 0.7)])
def test_a_learned_width_starts_where_it_is_told_and_grows_with_ties(law: str, start: float) -> None:
    width = TieWidth(law, start, 2)
    assert width().tolist() == pytest.approx([start, start], rel=1e-5)
    method = Method(loss=law, learn_tie_width=True)  # type: ignore[arg-type]
    tied = pair(labels={"overall": 0.5}, ties={"overall": True})
    loss_of(method, torch.zeros(2, 1), [tied], FIRST, SECOND, width=width()[:1]).per_sample.sum().backward()
    assert width.raw.grad is not None and width.raw.grad[0] < 0


def test_lists_gather_candidates_of_a_prompt_and_prompts_of_a_picture() -> None:
    other = torch.ones(3, 8, 8)
    a, b, c = Sample("x", IMAGE), Sample("x", other), Sample("y", IMAGE)
    pairs = [
        PreferencePair("x", a, b, {"overall": 1.0}),
        PreferencePair("x", a, c, {"overall": 0.5}),
        PreferencePair("x", b, c, {"overall": 1.0}),  # nothing in common
    ]
    media, prompts = lists_of(pairs, "overall")
    assert media.samples == (a, b) and media.wins == (1.0, 0.0) and media.one_prompt
    assert prompts.samples == (a, c) and prompts.wins == (0.5, 0.5) and not prompts.one_prompt


@pytest.mark.parametrize("loss", ["choice", "plackett_luce", "all_pairs"])
def test_list_losses_raise_the_winner_and_keep_to_the_prompts_weight(loss: str) -> None:
    method = Method(loss=loss)  # type: ignore[arg-type]
    samples = tuple(Sample("x", IMAGE) for _ in range(3))
    lists = [Listed(samples, (2.0, 1.0, 0.0)), Listed(samples, (2.0, 1.0, 0.0), weight=3.0)]
    scores = torch.zeros(2, 3, requires_grad=True)
    made = list_loss(method, scores, lists).per_sample
    torch.testing.assert_close(made[1], 3 * made[0])
    made[0].backward()
    assert scores.grad is not None and scores.grad[0, 0] < 0 < scores.grad[0, 2]
    if loss == "choice":
        assert made[0].item() == pytest.approx(math.log(3))


def test_corn_of_two_dimensions_is_the_sum_and_a_missing_rating_is_left_out() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 3)
    method = Method(loss="corn", dimensions=("a", "b"))
    sample = Sample("x", IMAGE, metadata={RATINGS: {"b": 2.0}})
    made = rating_loss(method, Readout(torch.zeros(1, 2), logits=logits), [sample]).per_sample
    first, second = logits[0, 1, :2].sigmoid().tolist()
    assert made.item() == pytest.approx(-math.log(first) - math.log(1 - second), rel=1e-5)
    with pytest.raises(ValueError, match="levels from 1 to 4"):
        rating_loss(Method(loss="corn"), Readout(torch.zeros(1, 1), logits=logits[:, :1]), rated(5.0))
    with pytest.raises(ValueError, match="head of ordered levels"):
        rating_loss(Method(loss="coral"), Readout(torch.zeros(1, 1)), rated(2.0))


def test_regression_by_hand() -> None:
    read = Readout(torch.tensor([[1.0], [2.0], [2.0]]))
    assert rating_loss(Method(loss="mse"), read, rated(3.0, 2.5, None)).per_sample.tolist() == [
        4.0,
        0.25,
        0.0,
    ]
    centred = rating_loss(Method(loss="mse", rating_center=3.0), read, rated(3.0, 2.5, None))
    assert centred.per_sample.tolist() == [1.0, 6.25, 0.0]
    huber = rating_loss(Method(loss="huber", huber_delta=1.0), read, rated(3.0, 2.5, None))
    assert huber.per_sample.tolist() == [1.5, 0.125, 0.0]


def test_the_absolute_loss_of_items_beside_that_of_pairs_is_solirewards_sum_by_hand() -> None:
    good, bad = rated(2.0, 1.0)
    won = PreferencePair("x", good, bad, {"overall": 1.0}, weight=2.0)
    read = torch.tensor([[0.5], [2.0]])
    plain = loss_of(Method(loss="win_tie", margin=3.0), read, [won], FIRST, SECOND).per_sample
    method = Method.model_validate({"loss": "win_tie", "margin": 3.0, "absolute": {"weight": 0.4}})
    made = loss_of(method, read, [won], FIRST, SECOND)
    items = (math.log1p(math.exp(-0.5)) + math.log1p(math.exp(2.0))) / 2
    assert made.per_sample.item() == pytest.approx(plain.item() + 2 * 0.4 * items, rel=1e-5)
    assert made.metrics["absolute_accuracy"] == 0.5 and made.metrics["absolute_loss"].item() == pytest.approx(
        items
    )
    back = loss_of(method, read, [won.swapped()], SECOND, FIRST).per_sample
    torch.testing.assert_close(back, made.per_sample)
    alone = rating_loss(Method(loss="binary"), Readout(read), [good, bad]).per_sample
    assert alone.mean().item() == pytest.approx(items)


def test_good_and_bad_are_the_numbers_that_the_recipe_says() -> None:
    read, zero_one = Readout(torch.zeros(2, 1)), {"loss": "binary", "absolute": {"bad": 0, "good": 1}}
    half = rating_loss(Method.model_validate(zero_one), read, rated(0.5, None)).per_sample
    assert half.tolist() == pytest.approx([math.log(2), 0.0])
    with pytest.raises(ValueError, match=r"from 1 to 2.*set method\.absolute\.bad"):
        rating_loss(Method(loss="binary"), read, rated(0.0, 1.0))


def test_binary_labels_make_pairs_of_any_two() -> None:
    samples = rated(1.0, 2.0, 2.0, None)
    pairs = cross_pairs(samples, 200, ("overall",), torch.Generator().manual_seed(0))
    assert all(one.a is not one.b and samples[3] not in (one.a, one.b) for one in pairs)
    for one in pairs:
        a, b = (side.metadata[RATINGS]["overall"] for side in (one.a, one.b))
        assert one.labels["overall"] == (1.0 if a > b else 0.0 if a < b else 0.5)
        assert one.ties["overall"] == (a == b)
    assert {one.labels["overall"] for one in pairs} == {0.0, 0.5, 1.0}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": "bradley_terry", "learn_tie_width": True}, "belongs to rao_kupper"),
        ({"loss": "win_tie"}, "needs a margin"),
        ({"loss": "mse", "train_overall": True}, "belongs to losses of pairs"),
        ({"loss": "choice", "dimensions": ("a", "b")}, "ranks by one dimension"),
        ({"loss": "mse", "absolute": {"weight": 1.0}}, "belongs to losses of pairs"),
        (
            {"loss": "gaussian", "label_smoothing": 0.1},
            "label_smoothing belongs to bradley_terry, not to gaussian",
        ),
        ({"loss": "davidson", "label_noise": 0.1}, "label_noise belongs to bradley_terry"),
        ({"loss": "rao_kupper", "center": 0.1}, "center belongs to bradley_terry"),
        ({"loss": "corn", "margin": 1.0}, "margin belongs to bradley_terry and win_tie and gaussian"),
        ({"loss": "corn", "rating_center": 1.0}, "rating_center belongs to mse and huber"),
        ({"absolute": {"bad": 1.0, "good": 0.0}}, "good must be above bad"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Method(**fields)


@pytest.mark.parametrize("method", [{"loss": "binary"}, {"absolute": {"weight": 0.1}}])
def test_losses_of_single_items_need_labels_of_single_items(method: dict[str, Any]) -> None:
    recipe = {"model": {"name": "tiny", "scratch": {}}, "method": method}
    with pytest.raises(ValidationError, match=r"set data\.labels: binary"):
        RewardRecipe.model_validate(recipe)
    assert RewardRecipe.model_validate({**recipe, "data": {"labels": "binary"}}).data.labels == "binary"
