"""Pictures made and judged, and the judge itself: `generate`, `score` and `check-reward`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmalign.commands.options import PANELS, SAMPLING, Config, Device, Output, Rewards, settings

app = typer.Typer()


@app.command(rich_help_panel=PANELS["measure"])
def generate(
    overrides: Annotated[
        list[str] | None,
        settings(
            "sampling.guidance=3",
            f"{SAMPLING}, generator.negative, generator.family, generator.dtype, generator.attention",
        ),
    ] = None,
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
    from pipelines.settings import Generate, gather

    given = {
        "prompts": prompts,
        "generator.model": model,
        "generator.lora": lora,
        "num_prompts": num_prompts,
        "sampling.seeds_per_prompt": seeds,
        "output": output,
        "device": device,
    }
    wanted = gather(Generate, config, given, overrides or [], verb="generate")
    from pipelines import generate as pipeline

    pipeline.run(wanted)


@app.command(rich_help_panel=PANELS["measure"])
def score(
    input: Annotated[
        str | None,
        typer.Argument(
            help="A folder of media, or JSONL, a row a file: image (or video, media, file, path) and prompt; where "
            "needed source (of an edit), id, group (who is compared with whom), reference, metadata. Paths start from "
            "the JSONL.",
            show_default=False,
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None, settings("batch_size=8", "workers, fps, max_frames, gallery")
    ] = None,
    config: Config = None,
    reward: Rewards = None,
    prompt: Annotated[
        str | None, typer.Option(help="The prompt of all files that have none of their own.")
    ] = None,
    output: Output = None,
) -> None:
    """Judge files: per-dimension scores as JSONL, a table and a gallery. A re-run does only what is missing.

    A file that cannot be judged gets null with a reason and harms no other; then the exit code is 3. A reward that
    fails on everything is an error, told once the scores of the others are written. Rewards that say how sure they are
    (gaussian heads, judges asked several times) also get the log-variance of each dimension, and judges in words what
    they said. Rewards that compare are given the files of one prompt and source, or of one `group`, as a whole.

    Example: [cyan]mmalign score runs/pictures --reward shapes-verifier --reward jpeg-compressibility -o runs/scores[/]
    """
    from pipelines.settings import Score, gather

    words = list(overrides or [])
    if input is not None and "=" in input and not Path(input).exists():
        words, input = [input, *words], None  # `mmalign score --config FILE key=value`
    given = {"input": input, "rewards": reward, "prompt": prompt, "output": output}
    wanted = gather(Score, config, given, words, verb="score")
    from pipelines import score as pipeline

    if pipeline.run(wanted).unscored:
        raise typer.Exit(3)


@app.command("check-reward", rich_help_panel=PANELS["measure"])
def check_reward(
    reward: Annotated[
        str | None,
        typer.Argument(
            help="A name (`mmalign ls rewards`), a folder or module:function.", show_default=False
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        settings(
            "batch_size=8",
            "dimension, num_candidates, num_samples, uwo_weight, fps, max_frames, seed, sampling.num_steps, prompts",
        ),
    ] = None,
    config: Config = None,
    samples: Annotated[
        str | None, typer.Option(help="A folder of media, or JSONL with {image, prompt}; several a prompt.")
    ] = None,
    world: Annotated[str | None, typer.Option(help="shapes, shapes-edits or shapes-videos.")] = None,
    pairs: Annotated[str | None, typer.Option(help="Preference pairs, mmalign.pref/1 JSONL.")] = None,
    gold: Annotated[str | None, typer.Option(help="A reward that knows better; a world has its own.")] = None,
    generator: Annotated[
        str | None,
        typer.Option(help="Draws the samples from which the best of n is chosen, e.g. shapes-flow."),
    ] = None,
    ensemble: Annotated[
        list[str] | None, typer.Option(help="A further reward of an ensemble with it. Repeatable.")
    ] = None,
    num_prompts: Annotated[int | None, typer.Option(help="Prompts of a world or a generator.")] = None,
    output: Output = None,
    device: Device = None,
) -> None:
    """How far a reward can be trusted: probes, spurious factors, stability, calibration, over-optimisation.

    Writes one HTML report and trust.json; the exit code is 3 if the verdict is not to optimise this reward.

    Example: [cyan]mmalign check-reward shapes-reward --world shapes --generator shapes-flow -o runs/trust[/]
    """
    from pipelines.settings import CheckReward, gather

    words = list(overrides or [])
    if reward is not None and "=" in reward:
        words, reward = [reward, *words], None  # `mmalign check-reward --config FILE key=value`
    given = {
        "reward": reward,
        "samples": samples,
        "world": world,
        "pairs": pairs,
        "gold.name": gold,
        "generator.model": generator,
        "rewards": ensemble,
        "num_prompts": num_prompts,
        "output": output,
        "device": device,
    }
    wanted = gather(CheckReward, config, given, words, verb="check-reward")
    from pipelines import check_reward as pipeline

    if pipeline.run(wanted).verdict.grade == "bad":
        raise typer.Exit(3)
