"""CLIP-type rewards in training: losses by hand, what is trained, saved bit by bit, read by published loaders."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import rewardmodels
from mmalign.config import Checkpoint
from mmalign.config import Optimizer as OptimizerSettings
from mmalign.train.distributed import Processes
from mmalign.train.loop import Run, Trainer
from mmalign.types import PreferencePair, Sample
from rewardmodels.clip.embedding_head import new_chain
from rewardmodels.clip.losses import triplet
from rewardmodels.clip.recipe import ClipMethod, ClipModel, ClipRecipe
from rewardmodels.clip.starts import start
from rewardmodels.clip.trained import ClipReward, load_folder, looks_of
from rewardmodels.clip.training import ClipTraining, choice, pair_loss
from rewardmodels.losses import RATINGS, Listed
from tests.contract import tiny_clip

WORDS = ["a", "red", "blue", "circle", "square"]
SMALL = {
    "width": 64,
    "embedding": 16,
    "heads": 2,
    "image_layers": 2,
    "text_layers": 2,
    "image_size": 16,
    "tokens": 8,
}
BOTH = {"reads": "picture-prompt", "activation": "relu"}
HEAD = {"widths": (8, 4), "dropout": 0.1}
MODELS = {
    "logit": {"score": "logit", "scratch": SMALL},
    "cosine": {"score": "cosine", "scratch": SMALL, "squares": "pad", "prefix": "a "},
    "head": {"score": "head", "scratch": SMALL, "head": HEAD, "texts": "frozen"},
    "picture-prompt": {"score": "head", "scratch": SMALL, "head": {**HEAD, **BOTH}},
    "blip": {"score": "blip", "scratch": SMALL, "head": HEAD},
}  # fmt: skip


def model_of(**fields: object) -> ClipModel:
    return ClipModel.model_validate({"name": "mine", **fields}, strict=False)


def made(kind: str, **more: object) -> ClipReward:
    return start(model_of(**(MODELS[kind] | more)), WORDS, dimension="overall")


def samples(num: int = 6) -> list[Sample]:
    """Red and blue pictures, every second prompt the wrong one."""
    draws = torch.Generator().manual_seed(0)
    found = []
    for k in range(num):
        image = 0.2 * torch.rand(3, 20 if k % 3 else 16, 16, generator=draws)
        image[0 if k % 2 else 2] += 0.7
        found.append(
            Sample(
                "a red circle" if k % 4 < 2 else "a blue square",
                image,
                metadata={RATINGS: {"overall": k % 3}},
            )
        )
    return found


def colour_pairs(num: int = 8) -> list[PreferencePair]:
    """A red and a blue picture under one prompt; the one with the prompt's colour is better, one in four is a tie."""
    pairs = []
    for k in range(num):
        red, blue = torch.zeros(3, 16, 16), torch.zeros(3, 16, 16)
        red[0], blue[2] = 0.5 + 0.05 * k, 0.5 + 0.05 * k
        prompt = "a red circle" if k % 2 else "a blue square"
        label = 0.5 if k % 4 == 3 else float(k % 2)
        a, b = (
            Sample(prompt, image, metadata={RATINGS: {"overall": float(c)}})
            for c, image in enumerate((red, blue))
        )
        pairs.append(
            PreferencePair(prompt, a, b, {"overall": label}, {"overall": label == 0.5}, group=prompt)
        )
    return pairs


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


@pytest.mark.parametrize("kind", MODELS)
def test_what_training_reads_is_what_is_scored(kind: str) -> None:
    reward, items = made(kind).eval(), samples()
    video = Sample(
        "a red circle", torch.stack([item.media for item in items if item.media.shape[1] == 16][:2])
    )
    items = [*items, items[0], video]
    with torch.no_grad():
        values = reward.values(looks_of(items, reward.scorer.rule))
    if kind == "logit":
        values = values * reward.scorer.scale()
    torch.testing.assert_close(reward(samples=items).overall, values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_saved_and_loaded_scores_are_the_same_bits(tmp_path: Path, kind: str) -> None:
    reward, items = made(kind).eval(), samples()
    reward.settings = replace(reward.settings, mean=(0.3,), std=(0.7,), temperature=0.4, tie_threshold=0.1)
    before = reward(samples=items)
    loaded = rewardmodels.load(str(reward.save(tmp_path / "reward")))
    assert isinstance(loaded, ClipReward)
    assert torch.equal(loaded(samples=items).overall, before.overall) and bool(before.valid.all())
    assert float(before.overall.std()) > 0
    assert (loaded.settings.temperature, loaded.settings.tie_threshold) == (0.4, 0.1)
    torch.testing.assert_close(loaded.probability(before, before), torch.full((6,), 0.5))


@pytest.mark.parametrize("kind", MODELS)
def test_the_files_are_in_the_published_layout(tmp_path: Path, kind: str) -> None:
    reward, items = made(kind).eval(), samples()
    folder = reward.save(tmp_path / "reward")
    head, clip = str(folder / "head.safetensors"), str(folder / "clip")
    name, options = {
        "logit": ("pickscore", {"path": str(folder)}),
        "cosine": ("clip-score", {"path": str(folder), "prefix": "a "}),
        "head": ("laion-aesthetic", {"path": head, "clip": clip}),
        "picture-prompt": ("clip-head", {"path": head, "clip": clip, "activation": "relu"}),
        "blip": ("image-reward", {"path": str(folder), "tokenizer": str(folder / "tokenizer")}),
    }[kind]
    if kind == "cosine":  # HPSv2's padding is said in reward_config.json: of squares both rules make the same
        items = [item for item in items if item.media.shape[1] == 16]
    expected = reward(samples=items).overall
    if kind == "blip":
        expected = (expected - 0.16717362830052426) / 1.0333394966054072
    torch.testing.assert_close(
        rewardmodels.load(name, **options)(samples=items).overall, expected, atol=1e-5, rtol=1e-5
    )


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
    return {name.removeprefix("scorer.encoder.") for name, _ in task._trained()}


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


def test_published_files_are_where_training_starts(tmp_path: Path) -> None:
    pick = tiny_clip.hf_clip(tmp_path / "pick")
    hps = tiny_clip.open_clip_file(tmp_path / "hps", "HPS_v2.1_compressed.pt", inside="state_dict")
    laion = tiny_clip.aesthetic(tmp_path / "laion")
    blip = tiny_clip.image_reward(tmp_path / "blip")
    only_pictures: dict[str, object] = {"score": "head", "texts": "frozen"}
    cases: list[tuple[str, dict[str, object], dict[str, object]]] = [
        ("pickscore", {"path": str(pick)}, {"score": "logit", "path": str(pick)}),
        ("hpsv2.1", hps, {"score": "cosine", "squares": "pad", "inside": "state_dict", **hps}),
        ("laion-aesthetic", laion, only_pictures | {"path": laion["clip"], "head_file": laion["path"]}),
        ("image-reward", blip, {"score": "blip", **blip}),
    ]  # fmt: skip
    for name, options, fields in cases:
        expected = rewardmodels.load(name, **options)(samples=samples()).overall
        reward = start(model_of(**fields), WORDS, dimension="overall").eval()
        torch.testing.assert_close(reward(samples=samples()).overall, expected, atol=1e-5, rtol=1e-5)
        again = rewardmodels.load(str(reward.save(tmp_path / "saved" / name)))
        assert torch.equal(again(samples=samples()).overall, reward(samples=samples()).overall), name
        on = start(
            model_of(
                score=fields["score"], path=str(tmp_path / "saved" / name), texts=fields.get("texts", "all")
            ),
            WORDS,
            dimension="overall",
        )
        assert torch.equal(on.eval()(samples=samples()).overall, reward(samples=samples()).overall), name


def test_a_new_head_stands_on_the_towers_of_a_saved_reward(tmp_path: Path) -> None:
    saved = made("logit")
    folder = str(saved.save(tmp_path / "pick"))
    fields = {"score": "head", "path": folder, "head": HEAD, "texts": "frozen", "images": "frozen"}
    reward = start(model_of(**fields), WORDS, dimension="quality")
    towers, before = reward.scorer.encoder.state_dict(), saved.scorer.encoder.state_dict()
    assert reward.dimensions == ("quality",) and towers.keys() == before.keys()
    assert all(torch.equal(towers[key], before[key]) for key in before)
    with pytest.raises(ValueError, match="say the same"):
        start(model_of(score="blip", path=folder), WORDS, dimension="quality")


def test_a_saved_logit_goes_on_as_a_cosine(tmp_path: Path) -> None:
    saved = made("logit")
    folder = str(saved.save(tmp_path / "pick"))
    reward = start(model_of(score="cosine", path=folder), WORDS, dimension="overall")
    factor = float(saved.scorer.scale().detach())
    torch.testing.assert_close(
        factor * reward.eval()(samples=samples()).overall, saved.eval()(samples=samples()).overall
    )
    assert reward.settings.score == "cosine" and reward.settings.std == (1.0,)


def test_gradients_reach_the_pixels_and_nothing_else_of_a_loaded_reward(tmp_path: Path) -> None:
    reward = load_folder(made("logit").save(tmp_path / "reward"))
    image: Tensor = torch.rand(3, 16, 16, requires_grad=True)
    reward(samples=[Sample("a red circle", image)]).overall.sum().backward()
    assert image.grad is not None and float(image.grad.abs().sum()) > 0
    assert all(p.grad is None for p in reward.parameters())


def test_dropout_stands_where_published_numbers_leave_a_gap() -> None:
    chain = new_chain(8, (6, 4, 3, 2), "none", dropout=0.9)
    assert sorted(chain.dropped) == [0, 1, 2, 4]
    seen = torch.ones(4, 8)
    assert torch.equal(chain.eval()(seen), chain(seen))


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
