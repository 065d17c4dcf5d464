"""CLIP-type rewards in training: losses by hand, what an update does, what is trained, recipes that make no sense."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmalign.config import Checkpoint
from mmalign.config import Optimizer as OptimizerSettings
from mmalign.train.distributed import Processes
from mmalign.train.loop import Run, Trainer
from mmalign.types import PreferencePair, Sample
from rewardmodels.clip.losses import triplet
from rewardmodels.clip.recipe import ClipMethod, ClipRecipe
from rewardmodels.clip.starts import start
from rewardmodels.clip.trained import load_folder
from rewardmodels.clip.training import ClipTraining, choice, pair_loss
from rewardmodels.losses import Listed
from tests.unit.rewardmodels.tiny_clips import MODELS, SMALL, WORDS, colour_pairs, samples


class Fixed:
    """The same bundle again and again."""

    def bundle(self, number: int, progress: float) -> list[PreferencePair]:
        return colour_pairs()

    def rated(self, number: int, progress: float) -> list[Sample]:
        return [sample for pair in colour_pairs() for sample in (pair.a, pair.b)]


def test_triplet_is_a_hinge_on_the_difference_of_cosines() -> None:
    a, b = torch.tensor([0.5, 0.1, 0.3, 0.2]), torch.tensor([0.2, 0.15, 0.3, 0.9])
    label = torch.tensor([1.0, 1.0, 0.5, math.nan])
    got = triplet(cosine_a=a, cosine_b=b, label=label, margin=0.2).per_sample
    torch.testing.assert_close(got, torch.tensor([0.0, 0.25, 0.2, 0.0]))
    mirrored = triplet(cosine_a=b, cosine_b=a, label=1 - label, margin=0.2).per_sample
    torch.testing.assert_close(got, mirrored)
    tied = torch.tensor([0.3], requires_grad=True)
    triplet(
        cosine_a=tied, cosine_b=torch.tensor([0.3]), label=torch.tensor([0.5]), margin=0.2
    ).per_sample.sum().backward()
    assert float(tied.grad) == 0.0


def test_pairs_are_the_cross_entropy_of_a_softmax_over_two_with_soft_labels() -> None:
    pairs = [
        replace(pair, labels={"overall": label})
        for pair, label in zip(colour_pairs(3), (1.0, 0.5, 0.7), strict=True)
    ]
    values = torch.tensor([21.0, 20.0, 19.0, 19.5, 20.0, 22.0])
    first, second = torch.tensor([0, 2, 4]), torch.tensor([1, 3, 5])
    got = pair_loss(ClipMethod(), values, pairs, first, second).per_sample
    target = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.7, 0.3]])
    expected = torch.nn.functional.cross_entropy(values.view(3, 2), target, reduction="none")
    torch.testing.assert_close(got, expected)


def test_choice_reads_the_share_of_votes_of_lists_of_any_length() -> None:
    items = samples(5)
    lists = [Listed(tuple(items[:2]), (0.7, 0.3)), Listed(tuple(items[2:]), (2.0, 0.5, 0.5), weight=2.0)]
    values = torch.tensor([1.0, 0.0, 0.5, 0.2, -1.0])
    got = choice(values, lists, {id(s): k for k, s in enumerate(items)}).per_sample
    one = -(torch.tensor([0.7, 0.3]) * values[:2].log_softmax(0)).sum()
    two = -2 * (torch.tensor([2.0, 0.5, 0.5]) / 3 * values[2:].log_softmax(0)).sum()
    torch.testing.assert_close(got, torch.stack([one, two]))


def recipe_of(kind: str, loss: str, folder: Path, **model: object) -> ClipRecipe:
    method = {"loss": loss, "margin": 0.2 if loss == "triplet" else 0.0, "average": 0.5}
    fields = {
        "model": {"name": "mine", **MODELS[kind], **model}, "method": method,
        "output": str(folder), "budget": {"updates": 12},
        "data": {"heldout": None, "calibration": None},
    }  # fmt: skip
    return ClipRecipe.model_validate(fields, strict=False)


def trained(recipe: ClipRecipe, iterations: int = 12) -> tuple[ClipTraining, list[float]]:
    reward = start(recipe.model, WORDS, dimension="overall")
    task, losses = ClipTraining(reward, recipe, Fixed(), Processes()), []
    plan = Run(
        folder=Path(recipe.output), iterations=iterations, num_updates=12, optimizer=OptimizerSettings(lr=3e-3),
        checkpoint=Checkpoint(every=4), evaluate_every=None, recipe={"seed": 0},
        watch=lambda _, row: losses.append(row["loss"]),
    )  # fmt: skip
    Trainer(task, plan, Processes()).train()
    return task, losses


@pytest.mark.parametrize(
    ("kind", "loss"),
    [("logit", "bradley_terry"), ("logit", "choice"), ("cosine", "bradley_terry"), ("cosine", "triplet"),
     ("head", "mse"), ("picture-prompt", "huber"), ("picture-prompt", "bradley_terry"), ("blip", "bradley_terry")],
)  # fmt: skip
def test_a_few_updates_lower_the_loss_and_the_result_is_saved(tmp_path: Path, kind: str, loss: str) -> None:
    task, losses = trained(recipe_of(kind, loss, tmp_path))
    assert losses[-1] < losses[0] - 0.015, losses
    with task.result() as model:
        expected = model(samples=samples()).overall
    assert torch.equal(load_folder(tmp_path / "reward")(samples=samples()).overall, expected)


def test_a_stopped_run_goes_on_bit_by_bit(tmp_path: Path) -> None:
    whole, _ = trained(recipe_of("head", "mse", tmp_path / "whole"))
    trained(recipe_of("head", "mse", tmp_path / "parts"), iterations=4)
    parts, _ = trained(recipe_of("head", "mse", tmp_path / "parts"))
    one, two = whole.state_dict(), parts.state_dict()
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def trained_names(kind: str, **model: object) -> set[str]:
    recipe = recipe_of(kind, "bradley_terry", Path("nowhere"), **model)
    task = ClipTraining(start(recipe.model, WORDS, dimension="overall"), recipe, Fixed(), Processes())
    return {
        name.removeprefix("scorer.encoder.") for name, p in task.model.named_parameters() if p.requires_grad
    }


def test_only_the_named_parts_are_trained() -> None:
    names = trained_names("logit", images=1, texts="frozen")
    assert "model.logit_scale" in names and "model.visual_projection.weight" in names
    assert "model.vision_model.encoder.layers.1.mlp.fc1.weight" in names
    assert "model.vision_model.post_layernorm.weight" in names
    assert not any("layers.0." in name or "embeddings" in name or "text" in name for name in names)
    assert trained_names("logit", images="frozen", texts="frozen") == {"model.logit_scale"}
    assert trained_names("head", images="frozen") == {
        f"scorer.head.layers.{k}.{part}" for k in (0, 2, 3) for part in ("weight", "bias")
    }
    with pytest.raises(ValueError, match="2 blocks"):
        trained_names("logit", images=3)


@pytest.mark.parametrize("kind", ["logit", "blip"])
def test_adapters_learn_and_are_merged_into_plain_files(tmp_path: Path, kind: str) -> None:
    recipe = recipe_of(
        kind, "bradley_terry", tmp_path, images="lora", texts="lora", lora={"rank": 2, "alpha": 8.0}
    )
    task, losses = trained(recipe)
    assert losses[-1] < losses[0]
    weights = {name: p.detach().clone() for name, p in task.model.named_parameters()}
    with task.result() as model:
        expected = model(samples=samples()).overall
    assert all(torch.equal(weights[name], p) for name, p in task.model.named_parameters())
    loaded = load_folder(tmp_path / "reward")
    assert not any("lora" in name for name, _ in loaded.named_parameters())
    assert torch.equal(loaded(samples=samples()).overall, expected)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": {"name": "m", "score": "logit"}}, "give one of path"),
        ({"model": {"name": "m", "score": "head", "scratch": SMALL}}, "reads no prompt"),
        ({"model": {"name": "m", **MODELS["logit"]}, "method": {"loss": "mse"}}, "learns ratings"),
        ({"model": {"name": "m", **MODELS["blip"]}, "method": {"loss": "triplet", "margin": 0.2}}, "compares cosines"),
        ({"model": {"name": "m", **MODELS["logit"]}, "method": {"loss": "triplet"}}, "margin above 0"),
        ({"model": {"name": "m", **MODELS["logit"]}, "method": {"margin": 0.2}}, "margin belongs to"),
        ({"model": {"name": "m", **MODELS["logit"]}, "method": {"rating_center": 5.0}}, "rating_center belongs to"),
        ({"model": {"name": "m", **MODELS["logit"]}, "data": {"pairs": "shapes-edits"}}, "sees no source"),
    ],
)  # fmt: skip
def test_recipes_that_make_no_sense_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ClipRecipe.model_validate(fields, strict=False)
