"""The command `mmalign`. The one module that may look everywhere, imported by nobody.

Every verb's body imports its pipeline, so that `mmalign --help` answers at once and mistakes in a recipe or an option
are told before anything heavy is loaded. A mistake is one line on stderr and exit code 2; set MMALIGN_TRACEBACK=1 to
see where it arose.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

import mmalign

PANELS = {"start": "Start here", "train": "Train", "measure": "Generate and measure", "look": "Look around"}
OUR_PACKAGES = tuple(
    Path(__file__).resolve().parents[1] / n for n in ("mmalign", "rewardmodels", "pipelines", "demos")
)

app = typer.Typer(
    name="mmalign",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Align image, editing and video generators with preferences.\n\n"
        "[bold]mmalign quickstart[/] runs the whole loop on this machine in minutes. After it:\n\n"
        "[cyan]mmalign ls recipes[/]  what can be trained, by name\n\n"
        "[cyan]mmalign finetune grpo/shapes-flow optimizer.lr=1e-4[/]  train; any setting can follow as key=value\n\n"
        "[cyan]mmalign score pictures/ --reward shapes-verifier --output scores[/]  judge files\n\n"
        "Every verb explains itself: [cyan]mmalign score --help[/]. Documentation: README.md."
    ),
)
evaluate_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Measure generators, rewards and human labels."
)
data_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Preference data: make, import, check."
)
app.add_typer(evaluate_app, name="evaluate", rich_help_panel=PANELS["measure"])
app.add_typer(data_app, name="data", rich_help_panel=PANELS["measure"])

Recipe = Annotated[
    str,
    typer.Argument(help="A shipped recipe (see `mmalign ls recipes`) or a YAML file.", show_default=False),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Further settings by name, e.g. optimizer.lr=1e-4 or batch_size=8",
        show_default=False,
    ),
]
Config = Annotated[
    str | None, typer.Option(help="A YAML file with the settings; options and key=value go over it.")
]
Rewards = Annotated[
    list[str] | None,
    typer.Option(
        "--reward", help="A reward: a name (`mmalign ls rewards`), a folder or module:function. Repeatable."
    ),
]
Models = Annotated[
    list[str] | None, typer.Option("--model", help="A generator, `name=path` to name it. Repeatable.")
]
Loras = Annotated[
    list[str] | None, typer.Option("--lora", help="A LoRA on the first model, `name=folder`. Repeatable.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or auto.")]
Resamples = Annotated[
    int, typer.Option("--resamples", min=20, help="Bootstrap resamples behind the intervals.")
]
Output = Annotated[str | None, typer.Option("--output", "-o", help="Where the result goes.")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(mmalign.__version__)
        raise typer.Exit


@app.command(rich_help_panel=PANELS["start"])
def quickstart(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder that is written.")] = Path(
        "runs/quickstart"
    ),
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Retrain every bundled model first.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Another seed, another run.")] = 0,
    overrides: Overrides = None,
) -> None:
    """The whole loop on this machine, without a GPU, in minutes.

    Loads a tiny generator and a reward model learned from preference pairs, aligns the one to the other, measures with
    an exact judge on held-out prompts, and writes a report with pictures.

    Example: [cyan]mmalign quickstart --output runs/first[/]
    """
    from pipelines import quickstart as pipeline

    pipeline.run(output, from_scratch=from_scratch, seed=seed, overrides=overrides or [])


@app.command(rich_help_panel=PANELS["train"])
def finetune(recipe: Recipe, overrides: Overrides = None) -> None:
    """Align a generator: sft, rwr, dpo, npo, grpo, nft.

    Examples: [cyan]mmalign finetune grpo/shapes-flow output=runs/mine budget.iterations=20[/]
    [cyan]accelerate launch -m mmalign finetune RECIPE[/] on several devices or machines.
    """
    from mmalign.config import load_recipe

    resolved = load_recipe(recipe, overrides or [])
    from pipelines import train as pipeline

    pipeline.finetune(resolved)


@app.command("train-reward", rich_help_panel=PANELS["train"])
def train_reward(recipe: Recipe, overrides: Overrides = None) -> None:
    """Train a reward model on preference pairs.

    Example: [cyan]mmalign train-reward reward/shapes output=runs/reward[/]
    """
    from pipelines import train_reward as pipeline

    pipeline.run(recipe, overrides or [])


@app.command(rich_help_panel=PANELS["measure"])
def generate(
    overrides: Overrides = None,
    config: Config = None,
    prompts: Annotated[
        str | None, typer.Option(help="A .txt or .jsonl file, shapes:train or shapes:heldout.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="shapes-flow, shapes-epsilon, a diffusers folder or a hub id.")
    ] = None,
    lora: Annotated[str | None, typer.Option(help="A folder with a LoRA.")] = None,
    num_prompts: Annotated[int | None, typer.Option(help="At most so many prompts.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Pictures per prompt.")] = None,
    output: Output = None,
    device: Device = None,
) -> None:
    """Prompts into a folder of pictures or videos with a manifest. A re-run makes only what is missing.

    Example: [cyan]mmalign generate --prompts shapes:heldout --num-prompts 8 --seeds 2 -o runs/pictures
    sampling.guidance=3[/]
    """
    from pipelines import settings

    given = {
        "prompts": prompts,
        "generator.model": model,
        "generator.lora": lora,
        "num_prompts": num_prompts,
        "sampling.seeds_per_prompt": seeds,
        "output": output,
        "device": device,
    }
    wanted = settings.gather(settings.Generate, config, given, overrides or [], verb="generate")
    from pipelines import generate as pipeline

    pipeline.run(wanted)


@app.command(rich_help_panel=PANELS["measure"])
def score(
    input: Annotated[
        str | None,
        typer.Argument(help="A folder of media, or JSONL with {image, prompt}.", show_default=False),
    ] = None,
    overrides: Overrides = None,
    config: Config = None,
    reward: Rewards = None,
    prompt: Annotated[
        str | None, typer.Option(help="The prompt of all files that have none of their own.")
    ] = None,
    output: Output = None,
) -> None:
    """Judge files: per-dimension scores as JSONL, a table and a gallery. A re-run does only what is missing.

    A file that cannot be judged gets null with a reason and harms no other; then the exit code is 3.

    Example: [cyan]mmalign score runs/pictures --reward shapes-verifier --reward jpeg-compressibility -o runs/scores[/]
    """
    from pipelines import settings

    words = list(overrides or [])
    if input is not None and "=" in input and not Path(input).exists():
        words, input = [input, *words], None  # `mmalign score --config FILE key=value`
    given = {"input": input, "rewards": reward, "prompt": prompt, "output": output}
    wanted = settings.gather(settings.Score, config, given, words, verb="score")
    from pipelines import score as pipeline

    if pipeline.run(wanted).unscored:
        raise typer.Exit(3)


@evaluate_app.command("generator")
def evaluate_generator(
    overrides: Overrides = None,
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
    from pipelines import settings

    given = {
        "generators": settings.named_generators(model or [], lora or [])
        if model or lora or not config
        else None,
        "rewards": reward,
        "prompts": prompts,
        "num_prompts": num_prompts,
        "sampling.seeds_per_prompt": seeds,
        "output": output,
        "device": device,
    }
    wanted = settings.gather(
        settings.EvaluateGenerator, config, given, overrides or [], verb="evaluate generator"
    )
    from pipelines import evaluate_generator as pipeline

    pipeline.run(wanted)


@evaluate_app.command("reward")
def evaluate_reward(
    overrides: Overrides = None,
    config: Config = None,
    reward: Annotated[str | None, typer.Option(help="A name, a folder or module:function.")] = None,
    pairs: Annotated[str | None, typer.Option(help="Preference pairs, mmalign.pref/1 JSONL.")] = None,
    output: Output = None,
) -> None:
    """A reward model against preference pairs: accuracy without and with ties, intervals by prompt.

    Example: [cyan]mmalign evaluate reward --reward shapes-reward --pairs data/pairs.jsonl -o runs/accuracy.json[/]
    """
    from pipelines import settings

    given = {"reward": reward, "pairs": pairs, "output": output}
    wanted = settings.gather(settings.EvaluateReward, config, given, overrides or [], verb="evaluate reward")
    from pipelines import evaluate_reward as pipeline

    pipeline.run(wanted)


@evaluate_app.command()
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


@evaluate_app.command()
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


@data_app.command("import")
def data_import(
    input: Annotated[
        Path, typer.Argument(help="The published file, e.g. VideoAlign's CSV.", show_default=False)
    ],
    format: Annotated[str, typer.Option(help="videoalign, or auto to tell by its columns.")] = "auto",
    output: Annotated[Path, typer.Option("--output", "-o", help="The JSONL file that is written.")] = Path(
        "pairs.jsonl"
    ),
    split: Annotated[str, typer.Option(help="The split these comparisons belong to.")] = "train",
) -> None:
    """A published format into mmalign's own (mmalign.pref/1 JSONL).

    Example: [cyan]mmalign data import example.csv -o runs/videoalign.jsonl[/]
    """
    from pipelines import data as pipeline

    pipeline.import_file(input, format=format, output=output, split=split)


@data_app.command("check")
def data_check(
    input: Annotated[Path, typer.Argument(help="Comparisons, mmalign.pref/1 JSONL.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The JSON report; printed anyway.")
    ] = None,
) -> None:
    """Missing and damaged media, bad lines, duplicates, leaks between splits, balance, ties. Exit code 3 on faults.

    Example: [cyan]mmalign data check runs/videoalign.jsonl[/]
    """
    from pipelines import data as pipeline

    if pipeline.check_file(input, output=output).faults:
        raise typer.Exit(3)


@data_app.command("shapes")
def data_shapes(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder that is written.")] = Path(
        "runs/shapes"
    ),
    num_prompts: Annotated[int, typer.Option(help="How many prompts.")] = 64,
    num_candidates: Annotated[int, typer.Option(help="Pictures per prompt.")] = 4,
    split: Annotated[str, typer.Option(help="train or heldout.")] = "train",
    seed: Annotated[int, typer.Option(help="The same seed draws the same data.")] = 0,
    temperature: Annotated[float, typer.Option(help="How unsure the simulated annotator is.")] = 0.1,
    tie_width: Annotated[float, typer.Option(help="1: no ties; larger: more ties.")] = 1.0,
) -> None:
    """Prompts, pictures and preference pairs of the built-in world.

    Example: [cyan]mmalign data shapes --num-prompts 200 --split heldout -o runs/heldout[/]
    """
    from pipelines import data as pipeline

    pipeline.draw_shapes(
        output,
        num_prompts=num_prompts,
        num_candidates=num_candidates,
        split=split,
        seed=seed,
        temperature=temperature,
        tie_width=tie_width,
    )


@app.command(rich_help_panel=PANELS["start"])
def demo(
    model: Models = None,
    lora: Loras = None,
    reward: Rewards = None,
    host: Annotated[
        str, typer.Option(help="The address to serve on; the default is this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to serve on.")] = 7860,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = 20,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance.")] = 1.0,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the browser.")] = False,
) -> None:
    """The same prompt and seed through several generators, side by side in the browser.

    Example: [cyan]mmalign demo --lora aligned=runs/quickstart/lora --reward shapes-reward[/]
    """
    from demos import compare

    compare.launch(
        model or (),
        lora or (),
        reward or (),
        host=host,
        port=port,
        device=device,
        num_steps=steps,
        guidance=guidance,
        open_browser=open_browser,
    )


@app.command(rich_help_panel=PANELS["look"])
def ls(
    what: Annotated[
        str | None, typer.Argument(help="rewards, policies, recipes or models; all without.")
    ] = None,
) -> None:
    """What is there: rewards, policy families, recipes, bundled models.

    Example: [cyan]mmalign ls recipes[/]
    """
    from pipelines import ls as pipeline

    pipeline.run(what)


@app.command(rich_help_panel=PANELS["train"])
def validate(recipe: Recipe, overrides: Overrides = None) -> None:
    """A recipe, resolved and checked, with its batch arithmetic; trains nothing.

    Example: [cyan]mmalign validate grpo/shapes-flow rollout.group_size=16[/]
    """
    from mmalign.config import find_recipe, load_config, to_yaml
    from mmalign.strict import read_yaml

    model = read_yaml(find_recipe(recipe)).get("model")
    if isinstance(model, dict) and {"name", "template", "head", "scratch"} & model.keys():  # a reward model's
        from rewardmodels.recipe import RewardRecipe

        typer.echo(to_yaml(load_config(recipe, overrides or [], RewardRecipe)))
        return
    from pipelines import validate as pipeline

    pipeline.run(recipe, overrides or [])


@app.command(rich_help_panel=PANELS["look"])
def env(
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Versions, devices and working attention backends: paste this into a bug report."""
    from pipelines import env as pipeline

    pipeline.run(as_json=json)


def main(arguments: list[str] | None = None) -> None:
    """The entry point. Sentences meant for users become one line and exit code 2; defects keep their traceback."""
    # Importing diffusers makes xformers warn wherever it has no GPU; `mmalign env` proves backends by real calls.
    logging.getLogger("xformers").setLevel(logging.ERROR)
    try:
        app(args=arguments)
    except ValueError as problem:
        if os.environ.get("MMALIGN_TRACEBACK") or not _said_by_us(problem):
            raise
        print(f"mmalign: {' '.join(str(problem).split())}", file=sys.stderr)
        raise SystemExit(2) from problem
    except KeyboardInterrupt:
        print("mmalign: stopped", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # `mmalign ls | head`
        sys.stderr.close()
        raise SystemExit(0) from None


def _said_by_us(problem: BaseException) -> bool:
    """Whether the error was raised in our own lines, and so is a sentence for users."""
    frames: list[Any] = list(traceback.walk_tb(problem.__traceback__))
    place = Path(frames[-1][0].f_code.co_filename).resolve()
    return any(folder in place.parents for folder in OUR_PACKAGES)


if __name__ == "__main__":
    main()
