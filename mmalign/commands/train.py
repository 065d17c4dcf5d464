"""Training: generators, reward models, and recipes checked before they run."""

from __future__ import annotations

import typer

from mmalign.commands.options import PANELS, Overrides, Recipe

app = typer.Typer()


@app.command(rich_help_panel=PANELS["train"])
def finetune(recipe: Recipe, overrides: Overrides = None) -> None:
    """Align a generator: sft, rwr, dpo, npo, grpo, nft.

    Examples: [cyan]mmalign finetune grpo/shapes-flow output=runs/mine budget.iterations=20[/]
    [cyan]accelerate launch -m mmalign finetune RECIPE[/] on several devices or machines.
    """
    from mmalign.config import load_recipe

    resolved = load_recipe(recipe, overrides or [])
    from pipelines import checks

    checks.recipe_rewards(resolved)
    checks.recipe_files(resolved)
    from pipelines import train as pipeline

    pipeline.finetune(resolved)


@app.command("train-reward", rich_help_panel=PANELS["train"])
def train_reward(recipe: Recipe, overrides: Overrides = None) -> None:
    """Train a reward model on preference pairs: a VLM with a head (`reward/...`), CLIP or BLIP (`clip/...`).

    A personal one (`plural/...`) learns from votes that name their annotators.

    Example: [cyan]mmalign train-reward reward/shapes output=runs/reward[/]
    """
    kind = _kind_of_reward(recipe)
    if kind == "plural":
        from pipelines import train_plural

        train_plural.run(recipe, overrides or [])
        return
    if kind == "clip":
        from pipelines import train_clip

        train_clip.run(recipe, overrides or [])
        return
    from pipelines import train_reward as pipeline

    pipeline.run(recipe, overrides or [])


def _kind_of_reward(recipe: str) -> str:
    """The kind of reward that a recipe trains, or nothing: a personal model has prototypes, one of CLIP a score."""
    from mmalign.config import find_recipe
    from mmalign.strict import read_yaml

    model = read_yaml(find_recipe(recipe)).get("model")
    if not isinstance(model, dict):
        return ""
    kinds = {
        "prototypes": "plural",
        "score": "clip",
        "template": "vlm",
        "head": "vlm",
        "scratch": "vlm",
        "name": "vlm",
    }
    return next((kind for key, kind in kinds.items() if key in model), "")


@app.command("train-judge", rich_help_panel=PANELS["train"])
def train_judge(recipe: Recipe, overrides: Overrides = None) -> None:
    """Train a judge in words on preference pairs: verdicts by reinforcement, yes and no by their probabilities.

    The weights of a checklist are learned too (`judge/checklist-like`).

    Example: [cyan]mmalign train-judge judge/shapes output=runs/judge[/]
    """
    from rewardmodels.judges.probability_recipe import kind_of

    kind = kind_of(recipe)
    if kind in ("probability", "checklist"):
        from pipelines import train_probability

        (train_probability.run if kind == "probability" else train_probability.run_checklist)(
            recipe, overrides or []
        )
        return
    from pipelines import train_judge as pipeline

    pipeline.run(recipe, overrides or [])


@app.command(rich_help_panel=PANELS["train"])
def validate(recipe: Recipe, overrides: Overrides = None) -> None:
    """A recipe, resolved and checked, with its batch arithmetic; trains nothing.

    Example: [cyan]mmalign validate grpo/shapes-flow rollout.group_size=16[/]
    """
    from mmalign.config import find_recipe, load_config, to_yaml
    from mmalign.strict import read_yaml

    kind = _kind_of_reward(recipe)
    if kind == "plural":
        from rewardmodels.plural_recipe import PluralRecipe

        typer.echo(to_yaml(load_config(recipe, overrides or [], PluralRecipe)))
        return
    if kind == "clip":
        from rewardmodels.clip.recipe import ClipRecipe

        typer.echo(to_yaml(load_config(recipe, overrides or [], ClipRecipe)))
        return
    if "judge" in read_yaml(find_recipe(recipe)):
        from rewardmodels.judges.probability_recipe import SCHEMAS, kind_of

        typer.echo(to_yaml(load_config(recipe, overrides or [], SCHEMAS[kind_of(recipe)])))
        return
    if kind == "vlm":
        from rewardmodels.recipe import RewardRecipe

        typer.echo(to_yaml(load_config(recipe, overrides or [], RewardRecipe)))
        return
    from pipelines import validate as pipeline

    pipeline.run(recipe, overrides or [])
