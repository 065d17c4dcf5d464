"""`validate` and the training verbs look at the rewards, models and verb of a recipe, and say what it comes to."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from mmalign.shapes.worlds import WORLDS
from mmalign.strict import RECIPES
from pipelines import plans
from pipelines.ls import VERBS
from rewardmodels.catalog import CATALOG, load
from rewardmodels.options import options_of
from tests.integration.told import call, told


def test_options_are_read_from_the_source_as_python_would_take_them() -> None:
    for name, entry in CATALOG.items():
        assert options_of(entry.loader), name
    from rewardmodels.distribution import exemplars
    from rewardmodels.remote import Remote

    loaders = {"rewardmodels.distribution:exemplars": exemplars, "rewardmodels.remote:Remote": Remote}
    for loader, function in loaders.items():
        parameters = inspect.signature(function).parameters.values()
        keywords = {one.name: one.default is one.empty for one in parameters if one.kind is one.KEYWORD_ONLY}
        assert options_of(loader) == keywords
    with pytest.raises(ValueError, match="needs the option 'reference': see `mmalign ls rewards exemplars`"):
        load("exemplars")


@pytest.mark.parametrize(
    ("reward", "sentence"),
    [
        ("{name: shapes-verifier, options: {scor: passed}}", "did you mean 'score'?"),
        (
            "{name: both, rewards: [motion, {name: jpeg-compressibility, options: {sign: 2}}]}",
            "no option 'sign'",
        ),
        ("{name: 'mine:red', options: {differentiabel: true}}", "did you mean 'differentiable'?"),
        ("{name: exemplars}", "needs the option 'reference'"),
    ],
)
def test_options_of_rewards_are_checked(
    reward: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("rewards", "evaluation.rewards"):
        assert sentence in told(["validate", "grpo/shapes-flow", f"{key}=[{reward}]"], capsys)
    assert sentence in told(["finetune", "grpo/shapes-flow", f"rewards=[{reward}]"], capsys)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["sft/shapes-flow", "data.samples=folder", "rewards=[]"],
            "'data.samples': folder is a folder: name a",
        ),
        (
            ["dpo/shapes-flow", "data.pairs=folder", "rewards=[]"],
            "'data.pairs': folder is a folder: name a file",
        ),
        (["grpo/shapes-flow", "data.prompts=folder"], "'data.prompts': folder is a folder: name a file"),
        (
            ["grpo/shapes-flow", "data.heldout=shapes:heldot"],
            "'data.heldout': unknown prompts 'shapes:heldot'",
        ),
        (
            ["grpo/shapes-flow", "data.prompts=shapes:train:countin"],
            "'data.prompts': unknown category 'countin'",
        ),
        (
            ["grpo/shapes-flow", "model.path=nowhere"],
            "'model.path': no such folder nowhere, and it is no hub id",
        ),
        (["grpo/shapes-flow", "model.path=shapes-flo"], "'model.path': no bundled model 'flo': there are"),
    ],
)
def test_what_a_generator_needs_is_named_by_its_key(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for verb in ("validate", "finetune"):
        assert sentence in told([verb, *words], capsys)


@pytest.mark.parametrize(
    ("recipe", "key", "hub_too"),
    [
        ("reward/shapes", "model.path", False),
        ("reward/shapes", "model.backbone", True),
        ("clip/pick-like", "model.path", True),
        ("judge/shapes", "judge.path", False),
        ("judge/paco-like", "judge.path", True),
        ("judge/checklist-like", "judge.path", True),
    ],
)
def test_a_model_to_go_on_from_is_looked_for(
    recipe: str, key: str, hub_too: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["model.scratch=null"] if key.startswith("model") else []
    for verb in ("validate", VERBS[recipe.split("/")[0]]):
        said = told([verb, recipe, f"{key}=nowhere", *more], capsys)
        assert f"'{key}': no such folder nowhere" in said and ("hub id" in said) == hub_too
    assert call("validate", recipe, f"{key}=owner/name", *more) == (0 if hub_too else 2)


def test_a_saved_reward_without_its_settings_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train-reward", "reward/shapes", "model.scratch=null", f"model.path={tmp_path}",
             f"output={tmp_path / 'run'}"]  # fmt: skip
    assert f"{tmp_path} holds no reward_config.json: give the folder" in told(words, capsys)
    (tmp_path / "reward_config.json").write_text("{")
    assert f"{tmp_path / 'reward_config.json'} is not valid JSON" in told(words, capsys)


@pytest.mark.parametrize(
    ("verb", "recipe", "right"),
    [
        ("finetune", "reward/shapes", "train-reward"),
        ("finetune", "judge/shapes", "train-judge"),
        ("train-reward", "grpo/shapes-flow", "finetune"),
        ("train-reward", "judge/paco-like", "train-judge"),
        ("train-judge", "nft/shapes-flow", "finetune"),
        ("train-judge", "clip/pick-like", "train-reward"),
    ],
)
def test_a_recipe_of_another_verb_names_that_verb(
    verb: str, recipe: str, right: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{recipe} is a recipe of `mmalign {right}`, not of `mmalign {verb}`" in told(
        [verb, recipe], capsys
    )


def test_every_shipped_recipe_is_taken_by_its_verb() -> None:
    for file in sorted(RECIPES.glob("*/*.yaml")):
        recipe = f"{file.parent.name}/{file.stem}"
        verb = VERBS.get(file.parent.name, "finetune")
        plans.require_verb(recipe, verb)
        for other in {"finetune", "train-reward", "train-judge"} - {verb}:
            with pytest.raises(ValueError, match=f"`mmalign {verb}`"):
                plans.require_verb(recipe, other)


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ("reward/shapes", "1 bundle of 16 families x 4 prompts x 4 pictures = 256 samples"),
        ("clip/pick-like", "updates, "),
        (
            "judge/shapes",
            "30 updates of warm-up, then 300 iterations with 300 updates on 8 answers a question",
        ),
        ("judge/checklist-like", "one regression on 480 samples"),
        ("plural/shapes", "40 annotators x 60 votes = 2,400"),
    ],
)
def test_every_kind_of_recipe_has_its_arithmetic(
    recipe: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("validate", recipe) == 0
    said = capsys.readouterr().out
    assert "\nbatches: " in said and "\nbudget: " in said and sentence in said


def test_the_samples_of_a_bundle_are_those_that_training_draws() -> None:
    from rewardmodels.reading import distinct
    from rewardmodels.recipe import RewardRecipe
    from rewardmodels.sources import ShapesSource

    recipe = plans.resolve("reward/shapes", ["data.shapes.families=3"], RewardRecipe)
    assert isinstance(recipe, RewardRecipe)
    assert "3 families x 4 prompts x 4 pictures = 48 samples" in plans.arithmetic(recipe)
    assert len(distinct(ShapesSource(recipe.data.shapes, 0).bundle(0, 0.0))[0]) == 48
    assert {name: world.modality for name, world in WORLDS.items()} == plans.WORLDS


@pytest.mark.slow
def test_nothing_heavy_is_loaded_to_look(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pipelines import checks, plans\nfrom rewardmodels.recipe import RewardRecipe\n"
        "plans.resolve('reward/shapes', [], RewardRecipe)\n"
        "from mmalign.composition import Reward\nchecks.require_rewards([Reward(name='hpsv3')])\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
