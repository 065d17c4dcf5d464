"""The verbs under `mmalign evaluate`: generators, rewards and human labels measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmalign.commands.options import (
    SAMPLING,
    Config,
    Device,
    Loras,
    Models,
    Output,
    Resamples,
    Rewards,
    settings,
)

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Measure generators, rewards and human labels."
)


@app.command("generator")
def evaluate_generator(
    overrides: Annotated[
        list[str] | None,
        settings("sampling.guidance=3", SAMPLING),
    ] = None,
    config: Config = None,
    model: Models = None,
    lora: Loras = None,
    reward: Rewards = None,
    prompts: Annotated[str | None, typer.Option(help="A .txt or .jsonl file or shapes:heldout.")] = None,
    num_prompts: Annotated[int | None, typer.Option(help="How many prompts.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Pictures per prompt.")] = None,
    output: Output = None,
    device: Device = None,
) -> None:
    """Several generators or LoRAs on the same prompts and seeds: means, paired differences, win rates.

    Example: [cyan]mmalign evaluate generator --lora aligned=runs/quickstart/lora --reward shapes-verifier
    -o runs/eval[/]
    """
    from pipelines.settings import EvaluateGenerator, gather, named_generators

    given = {
        "generators": named_generators(model or [], lora or []) if model or lora or not config else None,
        "rewards": reward,
        "prompts": prompts,
        "num_prompts": num_prompts,
        "sampling.seeds_per_prompt": seeds,
        "output": output,
        "device": device,
    }
    wanted = gather(EvaluateGenerator, config, given, overrides or [], verb="evaluate generator")
    from pipelines import evaluate_generator as pipeline

    pipeline.run(wanted)


@app.command("reward")
def evaluate_reward(
    overrides: Annotated[
        list[str] | None, settings("batch_size=8", "dimension, delta, fps, max_frames")
    ] = None,
    config: Config = None,
    reward: Annotated[str | None, typer.Option(help="A name, a folder or module:function.")] = None,
    pairs: Annotated[str | None, typer.Option(help="Preference pairs, mmalign.pref/1 JSONL.")] = None,
    conformal: Annotated[
        float | None,
        typer.Option(help="Also: which pairs can be judged with at most this share of errors, e.g. 0.1."),
    ] = None,
    output: Output = None,
) -> None:
    """A reward model against preference pairs: accuracy without and with ties, intervals by prompt.

    Example: [cyan]mmalign evaluate reward --reward shapes-reward --pairs data/pairs.jsonl -o runs/accuracy.json[/]
    """
    from pipelines.settings import EvaluateReward, gather

    given = {"reward": reward, "pairs": pairs, "conformal": conformal, "output": output}
    wanted = gather(EvaluateReward, config, given, overrides or [], verb="evaluate reward")
    from pipelines import evaluate_reward as pipeline

    pipeline.run(wanted)


@app.command()
def agreement(
    table: Annotated[Path, typer.Option(help="A CSV file with a row per rated item.")],
    human: Annotated[
        str, typer.Option(help="Columns of human ratings, COL,COL,...; their mean is the truth.")
    ],
    judge: Annotated[str, typer.Option(help="The column of the judge.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The JSON file that is written.")],
    by: Annotated[
        str | None, typer.Option(help="Also within each value of this column, and their Fisher mean.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Resample whole values of this column, e.g. the prompt.")
    ] = None,
    resamples: Resamples = 1000,
) -> None:
    """A judge's ratings against people's: Spearman, Kendall tau-b, Pearson, with intervals.

    Example: [cyan]mmalign evaluate agreement --table t.csv --human r1,r2,r3 --judge gpt --by model -o out.json[/]
    """
    from pipelines import agreement as pipeline

    pipeline.run(
        table,
        human=human.split(","),
        judge=judge,
        by=by,
        cluster=cluster,
        output=output,
        num_resamples=resamples,
    )


@app.command()
def rank(
    pairs: Annotated[Path, typer.Option(help="A CSV file with a row per comparison.")],
    a: Annotated[str, typer.Option("--a", help="The column that names the first of the two.")],
    b: Annotated[str, typer.Option("--b", help="The column that names the second.")],
    preference: Annotated[
        str, typer.Option(help="The column of the verdict: A, B, tie, same good, same bad, ...")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The JSON file that is written.")],
    by: Annotated[
        str | None, typer.Option(help="Also within each value of this column, e.g. the aspect.")
    ] = None,
    resamples: Resamples = 1000,
) -> None:
    """Elo ratings from comparisons: Bradley-Terry with ties as half wins, and Davidson's model, with intervals.

    Example: [cyan]mmalign evaluate rank --pairs p.csv --a model_a --b model_b --preference preference -o out.json[/]
    """
    from pipelines import rank as pipeline

    pipeline.run(pairs, a=a, b=b, preference=preference, by=by, output=output, num_resamples=resamples)
