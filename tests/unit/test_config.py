"""Recipes: YAML and overrides become typed values; every mistake is one line naming the path and the mend."""

import subprocess
import sys

import pytest
import yaml

from mmalign.config import Recipe, available_recipes, load_recipe, to_yaml
from mmalign.strict import parse_value, validate

BASE = {
    "model": {"path": "shapes-flow"},
    "rewards": [{"name": "shapes-verifier"}],
    "method": {"name": "grpo"},
    "rollout": {"sde": {"kind": "flow", "noise": 0.7}},
}


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(BASE))
    return path


def test_numbers_in_scientific_notation_are_floats(recipe_file):
    assert parse_value("1e-4") == 1e-4
    assert parse_value("1E5") == 1e5
    assert parse_value("1e") == "1e"
    assert load_recipe(recipe_file, ["optimizer.lr=3e-5"]).optimizer.lr == 3e-5


def test_overrides_reach_lists_and_empty_sections(recipe_file):
    recipe = load_recipe(
        recipe_file,
        ["rewards.0.weight=2", "rollout.window.size=3", "rollout.window.range=[0, 5]", "trackers=[]"],
    )
    assert recipe.rewards[0].weight == 2.0
    assert recipe.rollout.window is not None
    assert recipe.rollout.window.range == (0, 5)
    assert recipe.trackers == ()


def test_resolved_yaml_reads_back_equal(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, ["method.name=nft", "method.decay.type=ema", "optimizer.lr=1e-5"])
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(to_yaml(recipe))
    assert load_recipe(resolved) == recipe


@pytest.mark.parametrize(
    "override,parts",
    [
        ("optimizer.lrr=1", ["unknown key 'optimizer.lrr'", "did you mean 'optimizer.lr'?"]),
        ("lr=1", ["unknown key 'lr'", "did you mean 'optimizer.lr'?"]),
        ("method.clip_rang=3", ["unknown key 'method.clip_rang'", "did you mean 'method.clip_range'?"]),
        ("rewards.0.nam=3", ["unknown key 'rewards.0.nam'", "did you mean 'rewards.0.name'?"]),
        ("rollout.sde.kid=3", ["unknown key 'rollout.sde.kid'", "did you mean 'rollout.sde.kind'?"]),
        ("optimizer.lr=fast", ["'optimizer.lr'", "valid number", "got 'fast' (str)"]),
        ("budget.iterations=1.5", ["'budget.iterations'", "valid integer", "got 1.5 (float)"]),
        ("model.lora.rank=true", ["'model.lora.rank'", "valid integer", "got True (bool)"]),
        ("data.prompts=3", ["'data.prompts'", "valid string", "got 3 (int)"]),
        ("method.name=gpro", ["'method.name'", "'grpo'", "got 'gpro'"]),
        ("trackers=[tb]", ["'trackers.0'", "'tensorboard'", "got 'tb'"]),
        ("model={path: x, weights: full, dtype: bfloat16}", ["trains in float32", "bfloat16 would round"]),
        ("rollout.window={size: 5, range: [0, 3]}", ["'rollout.window'", "do not fit"]),
        ("rollout.sde=null", ["rollout.sde"]),
        ("rewards=[]", ["rewards is empty"]),
        ("data.pairs=pairs.jsonl", ["data.pairs is only used by dpo and npo"]),
        ("method.prompt_dropout=0.1", ["grpo trains what it sampled", "prompt_dropout must be 0"]),
        ("method={name: nft, prompt_dropout: 0.1, guidance: 2}", ["a dropped prompt has no guidance"]),
        ("method={name: nft, extremes: 0}", ["'method.extremes'"]),
        ("nonsense", ["must look like key.subkey=value"]),
        ("rewards.7.name=a", ["not a position in a list of 1"]),
        ("model.path.deep=1", ["'model.path' holds 'shapes-flow', not keys"]),
        ("method.kl=[", ["cannot read the value"]),
    ],
)
def test_every_mistake_is_one_line_with_path_and_mend(recipe_file, override, parts):
    with pytest.raises(ValueError) as error:
        load_recipe(recipe_file, [override])
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_option_of_another_method_is_refused(recipe_file):
    with pytest.raises(ValueError, match=r"unknown key 'method.clip_range'"):
        load_recipe(recipe_file, ["method={name: nft, clip_range: 1e-3}"])


def test_the_flow_form_of_the_kl_is_refused_for_diffusion(recipe_file):
    """It multiplies by |dt|, which for a diffusion model would be a number of timesteps."""
    with pytest.raises(ValueError, match="use exact with ddim"):
        load_recipe(recipe_file, ["method.kl_form=flow_grpo", "rollout.sde={kind: ddim, noise: 1.0}"])


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(ValueError, match=r"no recipe 'grpo/shapes-flw'"):
        load_recipe("grpo/shapes-flw")


@pytest.mark.parametrize(
    "name", [n for n in available_recipes() if n.split("/")[0] not in ("reward", "plural", "judge", "clip")]
)
def test_every_shipped_recipe_parses(name):
    recipe = load_recipe(name)
    assert isinstance(recipe, Recipe)
    assert "/" not in name or recipe.method.name == name.split("/")[0]


def test_recipes_cannot_be_changed_after_reading():
    recipe = validate(BASE, Recipe)
    with pytest.raises(ValueError):
        recipe.seed = 3


def test_config_imports_no_torch():
    code = "import sys, mmalign.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
