"""Training: generators, reward models, and recipes checked before they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    from pipelines import checks, plans

    plans.require_verb(recipe, "finetune")
    resolved = load_recipe(recipe, overrides or [])
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
    from pipelines import plans
    from rewardmodels.clip.recipe import ClipRecipe
    from rewardmodels.plural_recipe import PluralRecipe
    from rewardmodels.recipe import RewardRecipe

    plans.require_verb(recipe, "train-reward")
    schema = plans.schema_of(recipe)
    plans.resolve(recipe, overrides or [], schema or RewardRecipe)
    if schema is PluralRecipe:
        from pipelines import train_plural

        train_plural.run(recipe, overrides or [])
        return
    if schema is ClipRecipe:
        from pipelines import train_clip

        train_clip.run(recipe, overrides or [])
        return
    from pipelines import train_reward as pipeline

    pipeline.run(recipe, overrides or [])


@app.command("adapt-reward", rich_help_panel=PANELS["train"])
def adapt_reward(
    reward: Annotated[
        Path, typer.Argument(help="The `reward` folder of a `plural/...` run.", show_default=False)
    ],
    pairs: Annotated[
        Path, typer.Argument(help="Comparisons, mmalign.pref/1, by the new person.", show_default=False)
    ],
    annotator: Annotated[
        str | None,
        typer.Option(help="The person's name: as the file names them, or new where it names nobody."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the result goes; the same folder without.")
    ] = None,
) -> None:
    """A new person joins a personal reward by a few preference pairs; nobody else's scores change.

    Then `options: {annotator: NAME}` scores as this person would. `options: {annotator_pairs: FILE}` does so once and
    keeps nothing.

    Example: [cyan]mmalign adapt-reward runs/plural/reward runs/mia.jsonl --annotator mia[/]
    """
    from pipelines import adapt_reward as pipeline

    pipeline.run(reward, pairs, annotator=annotator, output=output)


@app.command("train-judge", rich_help_panel=PANELS["train"])
def train_judge(recipe: Recipe, overrides: Overrides = None) -> None:
    """Train a judge in words on preference pairs: what it writes by reinforcement, yes and no by their probabilities.

    Any judge file that writes is trained (`judge/editscore-like`), and the weights of a checklist are learned too
    (`judge/checklist-like`).

    Example: [cyan]mmalign train-judge judge/shapes output=runs/judge[/]
    """
    from pipelines import plans
    from rewardmodels.judges.recipes import SCHEMAS, kind_of

    plans.require_verb(recipe, "train-judge")
    kind = kind_of(recipe)
    plans.resolve(recipe, overrides or [], SCHEMAS[kind])
    if kind in ("probability", "checklist"):
        from pipelines import train_probability

        (train_probability.run if kind == "probability" else train_probability.run_checklist)(
            recipe, overrides or []
        )
        return
    if kind == "text":
        from pipelines import train_text

        train_text.run(recipe, overrides or [])
        return
    from pipelines import train_judge as pipeline

    pipeline.run(recipe, overrides or [])


@app.command(rich_help_panel=PANELS["train"])
def validate(recipe: Recipe, overrides: Overrides = None) -> None:
    """A recipe of any kind, resolved and checked (its rewards, their options, its data), with what it comes to.

    Trains nothing and loads no model: how many samples, updates and batches; for generators also the memory.

    Example: [cyan]mmalign validate grpo/shapes-flow rollout.group_size=16[/]
    """
    from mmalign.config import to_yaml
    from pipelines import plans

    schema = plans.schema_of(recipe)
    if schema is not None:
        resolved = plans.resolve(recipe, overrides or [], schema)
        typer.echo(f"{to_yaml(resolved)}\n{plans.arithmetic(resolved)}")
        return
    from pipelines import validate as pipeline

    pipeline.run(recipe, overrides or [])
